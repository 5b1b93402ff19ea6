"""The platform's lines in both formats, and which of them each log level shows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.dataplane.function_output import OutputSplitter
from lab.dataplane.platform_log import (
    PlatformLog,
    Report,
    application_level,
    iso_time,
    level_of,
)
from lab.dataplane.rules import MAX_LOG_EVENT_BYTES
from tests.lab.dataplane.harness import conditions, configuration, reports

NOW = 1_700_000_000.1234
ID = "8286a188-ba32-4475-8077-530cd35c09a9"


def log(log_format, level="INFO"):
    return PlatformLog(configuration("f", log_format=log_format, system_log_level=level, memory_mb=512), "e")


def report(**changes):
    values = {
        "request_id": ID,
        "duration_ms": 1049.63,
        "billed_duration_ms": 2344,
        "memory_size_mb": 512,
        "max_memory_used_mb": 250,
        "init_duration_ms": 1293.83,
    }
    return Report(**{**values, **changes})


def test_text_lines_are_lambdas():
    text = log("Text")
    assert text.start(NOW, ID) == f"START RequestId: {ID} Version: $LATEST"
    assert text.runtime_done(NOW, ID, 1.0, 2, "success", None) == f"END RequestId: {ID}"
    assert text.report(NOW, report()) == (
        f"REPORT RequestId: {ID}\tDuration: 1049.63 ms\tBilled Duration: 2344 ms\tMemory Size: 512 MB\t"
        "Max Memory Used: 250 MB\tInit Duration: 1293.83 ms\t"
    )
    assert text.report(NOW, report(init_duration_ms=None, status="error", error_type="Runtime.ExitError")).endswith(
        "Max Memory Used: 250 MB\tStatus: error\tError Type: Runtime.ExitError\t"
    )
    assert text.init_report(NOW, "init", 9999.79, "timeout") == (
        "INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout"
    )
    assert text.timed_out(NOW, ID, 3.0) == f"2023-11-14T22:13:20.123Z {ID} Task timed out after 3.00 seconds"


def test_json_events_are_lambdas():
    events = log("JSON", "DEBUG")
    assert json.loads(events.start(NOW, ID)) == {
        "time": "2023-11-14T22:13:20.123Z",
        "type": "platform.start",
        "record": {"requestId": ID, "version": "$LATEST"},
    }
    assert json.loads(events.report(NOW, report())) == {
        "time": "2023-11-14T22:13:20.123Z",
        "type": "platform.report",
        "record": {
            "requestId": ID,
            "metrics": {
                "durationMs": 1049.63,
                "billedDurationMs": 2344,
                "memorySizeMB": 512,
                "maxMemoryUsedMB": 250,
                "initDurationMs": 1293.83,
            },
            "status": "success",
        },
    }
    timed_out = json.loads(events.report(NOW, report(status="timeout", error_type="Sandbox.Timedout")))["record"]
    assert (timed_out["status"], timed_out["errorType"]) == ("timeout", "Sandbox.Timedout")
    init = json.loads(events.init_report(NOW, "init", 12.5, "error", "Runtime.ExitError"))
    assert init["type"] == "platform.initReport"
    assert init["record"]["phase"] == "init"
    assert init["record"]["metrics"] == {"durationMs": 12.5}


FAILED = ["failed init", "failed initReport", "failed runtimeDone", "failed"]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("DEBUG", ["start", "initStart", "initRuntimeDone", "initReport", "runtimeDone", "report", *FAILED]),
        ("INFO", ["start", "report", *FAILED]),
        ("WARN", FAILED),
    ],
)
def test_the_system_log_level_decides_which_events_are_written(level, shown):
    events = log("JSON", level)
    written = {
        "start": events.start(NOW, ID),
        "initStart": events.init_start(NOW, "init"),
        "initRuntimeDone": events.init_runtime_done(NOW, "init", "success"),
        "initReport": events.init_report(NOW, "init", 1.0, "success"),
        "runtimeDone": events.runtime_done(NOW, ID, 1.0, 2, "success", None),
        "report": events.report(NOW, report()),
        "failed init": events.init_runtime_done(NOW, "init", "error", "Runtime.ExitError"),
        "failed initReport": events.init_report(NOW, "init", 1.0, "timeout"),
        "failed runtimeDone": events.runtime_done(NOW, ID, 1.0, 2, "error", "Runtime.ExitError"),
        "failed": events.report(NOW, report(status="error")),
    }
    assert [name for name, line in written.items() if line is not None] == shown


@pytest.mark.parametrize(
    ("line", "level"),
    [
        # "monitoring-cloudwatchlogs-log-level" has this one
        ('{"level": "debug", "msg": "my debug log", "timestamp": "2024-11-02T16:51:31.587199Z"}', "DEBUG"),
        ('{"level": "ERROR", "time": "2024-11-02T16:51:31+01:00"}', "ERROR"),
        ('{"level": "Trace", "timestamp": "2024-11-02T16:51:31Z"}', "TRACE"),
        ('{"level": "FATAL", "timestamp": "2024-11-02T16:51:31Z"}', "FATAL"),
        ('{"level": "WARNING", "timestamp": "2024-11-02T16:51:31Z"}', "WARN"),
        ('{"level": "CRITICAL", "timestamp": "2024-11-02T16:51:31Z"}', "FATAL"),
        ('{"level": "ERROR"}', "INFO"),  # without a time, the level does not count
        ('{"level": "ERROR", "timestamp": "yesterday"}', "INFO"),
        ('{"level": "ERROR", "timestamp": "2024-11-02T16:51:31"}', "INFO"),  # of which time zone?
        ('{"level": "ERROR", "timestamp": "2024-13-02T16:51:31Z"}', "INFO"),
        ('{"level": "ERROR", "timestamp": 1730566291}', "INFO"),
        ('{"level": 7, "timestamp": "2024-11-02T16:51:31Z"}', "INFO"),
        ('{"level": "loud", "timestamp": "2024-11-02T16:51:31Z"}', "INFO"),
        ('{"message": "no level"}', "INFO"),
        ('{"level": "ERROR"', "INFO"),
        ("plain text", "INFO"),
    ],
)
def test_a_line_of_the_function_has_the_level_it_names_else_info(line, level):
    assert application_level(line) == level_of(level)


def test_times_are_utc_with_milliseconds():
    assert iso_time(0.9996) == "1970-01-01T00:00:01.000Z"


def frame(message, kind=b"\x03"):
    data = message.encode()
    return b"\xa5\x5a\x00" + kind + len(data).to_bytes(4, "big") + (0).to_bytes(8, "big") + data


@given(
    st.lists(st.tuples(st.booleans(), st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), min_size=1))),
    st.integers(1, 40),
)
def test_lines_and_frames_come_out_whole_and_in_order_however_they_are_cut(messages, size):
    stream = b"".join(frame(text) if framed else text.encode() + b"\n" for framed, text in messages)
    splitter, found = OutputSplitter(), []
    for start in range(0, len(stream), size):
        found += splitter.feed(stream[start : start + size])
    assert found == [text for _, text in messages]
    assert splitter.flush() == []


def test_a_frame_keeps_its_lines_together_even_behind_an_unfinished_line():
    splitter = OutputSplitter()
    assert splitter.feed(b"no end" + frame("one\ntwo\n") + b"rest") == ["no end", "one\ntwo"]
    assert splitter.flush() == ["rest"]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_the_splitter_fail_or_keep_what_is_not_its_own(data, size):
    splitter = OutputSplitter()
    for start in range(0, len(data), size):
        splitter.feed(data[start : start + size])
    splitter.flush()
    assert splitter.feed(b"after\n") == ["after"]


def test_a_line_longer_than_an_event_may_be_comes_in_parts():
    splitter = OutputSplitter()
    parts = splitter.feed(b"x" * (2 * MAX_LOG_EVENT_BYTES + 5) + b"\n")
    assert [len(part) for part in parts] == [MAX_LOG_EVENT_BYTES, MAX_LOG_EVENT_BYTES, 5]


async def test_a_function_in_json_format_logs_json_at_the_levels_it_asks_for(lab):
    lab.function(
        """
        import json, logging
        def handler(event, context):
            logging.getLogger().debug("too fine")
            logging.getLogger().info("fine")
            logging.getLogger().warning("worth a look")
            print("plain")
            print(json.dumps({"level": "ERROR", "own": True, "timestamp": "2024-11-02T16:51:31Z"}))
            print(json.dumps({"level": "ERROR", "without": "a time"}))
        """,
        log_format="JSON",
        application_log_level="WARN",
    )
    async with lab:
        result = await lab.call()
        await lab.call()
    lines = lab.logs.lines("function")
    (_, first), *_ = lab.logs.streams("function").items()
    records = [json.loads(line) for line in first]
    kinds = [record.get("type") or record.get("level") for record in records]
    assert kinds == ["platform.start", "WARNING", "ERROR", "platform.report", "lab.conditions"] * 2
    assert records[1]["message"] == "worth a look"
    assert records[1]["requestId"] == result.request_id
    assert records[3]["record"]["metrics"]["initDurationMs"] > 0
    assert "initDurationMs" not in records[8]["record"]["metrics"]
    assert reports(lines) == []
    assert len(conditions(lines)) == 2
