"""What the platform writes is read field by field, whatever stands around it."""

import json
import string
import uuid

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.ingest.platform_logs import (
    Conditions,
    Facts,
    Failure,
    InitReport,
    LogParser,
    ModelFacts,
    Report,
    Start,
    parse_event,
    parse_line,
)

REQUEST = "8f507cfc-xmpl-4697-b07a-ac58fc914c95".replace("xmpl", "1111")
REAL_TEXT = (
    f"REPORT RequestId: {REQUEST}\tDuration: 1049.63 ms\tBilled Duration: 2344 ms\tMemory Size: 512 MB\t"
    "Max Memory Used: 250 MB\tInit Duration: 1293.83 ms\t\n"
)

ids = st.uuids().map(str)
milliseconds = st.integers(0, 90_000_000).map(lambda hundredths: hundredths / 100)
megabytes = st.integers(1, 10_240)
optional_ms = st.none() | milliseconds
statuses = st.none() | st.sampled_from(["success", "error", "timeout", "failure"])
error_types = st.none() | st.sampled_from(["Runtime.ExitError", "Sandbox.Timedout", "Function.Error"])


@st.composite
def reports(draw):
    return Report(
        draw(ids),
        draw(milliseconds),
        float(draw(st.integers(0, 900_000))),
        float(draw(megabytes)),
        float(draw(megabytes)),
        draw(optional_ms),
        draw(optional_ms),
        draw(st.none() | st.integers(0, 9000).map(float)),
        draw(statuses),
        draw(error_types),
    )


def text_fields(report):
    fields = [
        f"RequestId: {report.request_id}",
        f"Duration: {report.duration_ms:.2f} ms",
        f"Billed Duration: {report.billed_ms:.0f} ms",
        f"Memory Size: {report.memory_size_mb:.0f} MB",
        f"Max Memory Used: {report.max_memory_used_mb:.0f} MB",
    ]
    if report.init_ms is not None:
        fields.append(f"Init Duration: {report.init_ms:.2f} ms")
    if report.restore_ms is not None:
        fields.append(f"Restore Duration: {report.restore_ms:.2f} ms")
    if report.billed_restore_ms is not None:
        fields.append(f"Billed Restore Duration: {report.billed_restore_ms:.0f} ms")
    if report.status is not None:
        fields.append(f"Status: {report.status}")
    if report.error_type is not None:
        fields.append(f"Error Type: {report.error_type}")
    return fields


xray = st.sampled_from(
    ["", "XRAY TraceId: 1-5e34a614-10bdxmplf1fb44f07bc535a1\tSegmentId: 07f5xmpl2d1f6f85\tSampled: true"]
)


@given(report=reports(), order=st.randoms(use_true_random=False), separator=st.sampled_from(["\t", "  "]), trace=xray)
def test_a_text_report_is_read_whatever_the_order_of_its_fields(report, order, separator, trace):
    fields = text_fields(report)
    order.shuffle(fields)
    line = "REPORT " + separator.join(fields) + separator + ("\n" + trace if separator == "\t" else "") + "\n"
    assert parse_event(line) == [report]


def json_report(report, extra):
    metrics = {
        "durationMs": report.duration_ms,
        "billedDurationMs": report.billed_ms,
        "memorySizeMB": report.memory_size_mb,
        "maxMemoryUsedMB": report.max_memory_used_mb,
        "initDurationMs": report.init_ms,
        "restoreDurationMs": report.restore_ms,
        "billedRestoreDurationMs": report.billed_restore_ms,
    }
    metrics = {key: value for key, value in metrics.items() if value is not None}
    record = {"requestId": report.request_id, "metrics": metrics, "status": report.status}
    if report.error_type:
        record["errorType"] = report.error_type
    if report.status is None:
        del record["status"]
    return {"time": "2026-11-24T10:00:00.000Z", "type": "platform.report", "record": record | extra}


extras = st.dictionaries(st.text(string.ascii_letters, min_size=12), st.integers() | st.text() | st.none(), max_size=3)


def shuffled(value, order):
    if isinstance(value, dict):
        items = [(key, shuffled(inner, order)) for key, inner in value.items()]
        order.shuffle(items)
        return dict(items)
    return value


@given(report=reports(), extra=extras, order=st.randoms(use_true_random=False), spaced=st.booleans())
def test_a_json_report_is_read_whatever_the_order_of_its_keys_and_what_else_it_holds(report, extra, order, spaced):
    line = json.dumps(shuffled(json_report(report, extra), order), separators=(", ", ": ") if spaced else (",", ":"))
    assert parse_event(line) == [report]


def test_the_documented_text_line_is_read():
    assert parse_event(REAL_TEXT) == [Report(REQUEST, 1049.63, 2344.0, 512.0, 250.0, 1293.83, None, None, None, None)]


@pytest.mark.parametrize(
    "line",
    [
        f"see REPORT RequestId: {REQUEST}\tDuration: 1 ms",
        "REPORT of the day: Duration: 5 ms",
        f"REPORT RequestId: {REQUEST}",
        "REPORT RequestId: not-an-id\tDuration: 5.00 ms",
        f"REPORT RequestId: {REQUEST}\tDuration: soon ms",
        f" START RequestId: {REQUEST} Version: $LATEST",
        '{"type": "platform.report", "record": "text"}',
        '{"type": "platform.report", "record": {"requestId": 5, "metrics": {"durationMs": 1}}}',
        '{"type": "platform.report", "record": {"requestId": "a", "metrics": {"durationMs": "1"}}}',
        '{"type": "platform.report", "record": {"requestId": "a"',
        '{"event": "inference"}',
        '["platform.report"]',
        "{" * 5000 + '"platform.',
        '{"message": "platform.report"}',
        "INIT_REPORT is what I print",
        "",
    ],
)
def test_a_line_that_only_looks_like_the_platforms_is_the_applications(line):
    assert parse_event(line) == []


@given(st.text())
def test_no_text_whatever_breaks_the_parser(text):
    parse_event(text)
    parse_line(text)
    parse_event("REPORT " + text)
    parse_event("INIT_REPORT " + text)
    parse_event('{"type": "platform.report", "record": ' + text)


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(anything)
def test_no_json_whatever_breaks_the_parser(value):
    for kind in ("platform.report", "platform.start", "platform.initReport", "lab.conditions"):
        parse_event(json.dumps({"type": kind, "record": value, "time": value}))
    parse_event(json.dumps({"event": "inference", "request_id": value, "phases": value}))


def test_failed_inits_are_read_in_both_formats():
    text = "INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout\n"
    event = {
        "type": "platform.initReport",
        "record": {"phase": "init", "status": "timeout", "metrics": {"durationMs": 9999.79}},
    }
    wanted = InitReport(9999.79, "init", "timeout", None)
    assert parse_event(text) == [wanted]
    assert parse_event(json.dumps(event)) == [wanted]


@pytest.mark.parametrize(
    ("line", "init_ms"),
    [
        # https://github.com/DataBiosphere/azul/issues/8140: no other line of the call said "Task timed out"
        (f"REPORT RequestId: {REQUEST}\tDuration: 180000.00 ms\tBilled Duration: 180000 ms\tStatus: timeout\n", None),
        # https://github.com/open-telemetry/opentelemetry-lambda/pull/2098: with an init, and blanks for tabs
        (f"REPORT RequestId: {REQUEST} Duration: 5000.00 ms Init Duration: 578.07 ms Status: timeout", 578.07),
        # https://github.com/lumigo-io/SAR-async-lambda-metrics/issues/9
        (f"REPORT RequestId: {REQUEST} Duration: 1201.12 ms Memory Size: 128 MB Init Duration: 287.33 ms", 287.33),
    ],
)
def test_a_report_that_other_parsers_misread_is_read(line, init_ms):
    (report,) = parse_event(line)
    assert (report.init_ms, report.status) == (init_ms, "timeout" if "timeout" in line else None)


def test_the_lines_of_a_failure_are_read():
    killed = f"RequestId: {REQUEST} Error: Runtime exited with error: signal: killed\nRuntime.ExitError\n"
    assert parse_event(killed) == [Failure(REQUEST, "Runtime exited with error: signal: killed\nRuntime.ExitError")]
    timed_out = f"2026-11-24T10:00:03.000Z {REQUEST} Task timed out after 3.00 seconds\n\n"
    assert parse_event(timed_out) == [Failure(REQUEST, "Task timed out")]


def test_a_batch_of_output_in_one_event_is_read_line_by_line():
    facts = {"event": "inference", "request_id": REQUEST}
    found = parse_event(f"Loading libraries\n{json.dumps(facts)}\nDone\n")
    assert found == [Facts(REQUEST, facts)]


def test_what_a_logger_wrapped_is_unwrapped():
    facts = {"event": "inference", "request_id": REQUEST}
    wrapped = {"timestamp": "2026-11-24T10:00:00Z", "level": "INFO", "message": facts, "requestId": REQUEST}
    assert parse_event(json.dumps(wrapped)) == [Facts(REQUEST, facts)]
    assert parse_event(json.dumps(wrapped | {"message": json.dumps(facts)})) == [Facts(REQUEST, facts)]


def test_the_labs_conditions_and_the_models_description_are_read():
    record = {
        "requestId": REQUEST,
        "limits": "cgroup-v2",
        "timeScale": 13.0,
        "hostContended": True,
        "majorPageFaults": 4,
    }
    found = parse_event(json.dumps({"type": "lab.conditions", "time": "x", "record": record}))
    assert found == [Conditions(REQUEST, "cgroup-v2", 13.0, True, 4)]
    model = {"event": "model", "model": "mobilenet", "size_bytes": 17_000_000}
    assert parse_event(json.dumps(model)) == [ModelFacts(model)]


def gather(events, page_size, packed_rows=20_000):
    parser = LogParser(packed_rows=packed_rows)
    for first in range(0, len(events), page_size):
        page = events[first : first + page_size]
        parser.feed([stream for stream, _ in page], range(first, first + len(page)), [text for _, text in page])
    return parser.frame()


@given(page_size=st.integers(1, 12), packed_rows=st.integers(1, 4))
def test_a_failed_init_belongs_to_the_next_start_of_its_stream_wherever_pages_end(page_size, packed_rows):
    a, b, c = (str(uuid.UUID(int=number)) for number in (1, 2, 3))

    def report(request):
        return f"REPORT RequestId: {request}\tDuration: 5.00 ms\tBilled Duration: 5 ms\n"

    events = [
        ("s1", "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout"),
        ("s2", f"START RequestId: {b} Version: $LATEST"),
        ("s1", f"START RequestId: {a} Version: $LATEST"),
        ("s2", report(b)),
        ("s1", "INIT_REPORT Init Duration: 7000.00 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError"),
        ("s1", report(a)),
        ("s1", f"START RequestId: {c} Version: $LATEST"),
        ("s1", report(c)),
    ]
    found = gather(events, page_size, packed_rows).sort("request_id")
    assert found["request_id"].to_list() == [a, b, c]
    assert found["init_status"].to_list() == ["timeout", None, None]
    assert found["failed_init_ms"].to_list() == [10_000.0, None, None]
    assert found["first_in_stream"].to_list() == [True, True, False]
    assert found["init_error"].to_list() == ["Runtime.ExitError", None, None]


@given(
    calls=st.lists(reports(), max_size=8, unique_by=lambda report: report.request_id),
    page_size=st.integers(1, 30),
    noise=st.lists(st.text(max_size=40), max_size=10),
    text_format=st.booleans(),
    packed_rows=st.integers(1, 9),
)
def test_every_invocation_comes_back_once_in_either_format_among_any_output(
    calls, page_size, noise, text_format, packed_rows
):
    events = []
    for number, call in enumerate(calls):
        stream = f"stream-{number % 3}"
        noisy = [(stream, line) for line in noise[number::3]]
        if text_format:
            start = f"START RequestId: {call.request_id} Version: $LATEST"
            end = "REPORT " + "\t".join(text_fields(call))
        else:
            begun = {"requestId": call.request_id}
            start = json.dumps({"type": "platform.start", "time": "2026-11-24T10:00:00Z", "record": begun})
            end = json.dumps(json_report(call, {}))
        events += [(stream, start), *noisy, (stream, end)]
    found = gather(events, page_size, packed_rows).sort("request_id")
    wanted = sorted(calls, key=lambda call: call.request_id)
    assert found["request_id"].to_list() == [call.request_id for call in wanted]
    for column in ("duration_ms", "billed_ms", "max_memory_used_mb", "init_ms", "restore_ms", "status", "error_type"):
        assert found[column].to_list() == [getattr(call, column) for call in wanted]


def test_a_report_whose_start_lies_before_the_window_is_dated_back_by_its_duration():
    found = gather([("s", f"REPORT RequestId: {REQUEST}\tDuration: 2000.00 ms")], 1)
    assert found["logged_at"].to_list() == [-2.0]
    assert found["log_stream"].to_list() == ["s"]
    assert isinstance(found, pl.DataFrame)


def test_start_lines_carry_the_platforms_own_time_in_json():
    line = {"time": "2026-11-24T10:00:00.250Z", "type": "platform.start", "record": {"requestId": REQUEST}}
    assert parse_event(json.dumps(line)) == [Start(REQUEST, 1795514400.25)]


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "NaN", "Infinity", "123456789012345678901234567890", '"7"', "true"]
)
def test_a_number_that_is_no_measurement_is_none(number):
    report = f'"requestId": "{REQUEST}", "metrics": {{"durationMs": 2.5, "billedDurationMs": {number}}}'
    found = parse_event(f'{{"type": "platform.report", "record": {{{report}}}}}')
    assert [line.billed_ms for line in found] in ([None], [])
    facts = f'{{"event": "inference", "request_id": "{REQUEST}", "inference_ms": 2.0, "call_number": {number}}}'
    frame = gather([("s", facts)], 1)
    assert frame["inference_ms"].to_list() in ([2.0], []), "the rest of its line is kept, or all of it is no JSON"
