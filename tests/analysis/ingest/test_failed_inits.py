"""A line about an init is booked on the invocation that it belongs to, in whatever order the platform wrote them."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.ingest.platform_logs import LogParser

INIT_TIMEOUT_MS = 10_000
BEGAN_S = 1_790_000_000.0


@dataclass(frozen=True)
class Call:
    """An invocation: by which inits it was preceded or begun, and how its own lines stand."""

    init: str | None  # status of phase init; only an environment's first invocation has one
    init_in_invoke: str | None  # status of phase invoke
    report_ms: int  # how long after START its REPORT comes
    line_after_start: bool  # the line of its init comes after START, as it may in JSON format
    names_request: bool  # the line carries the request id
    pause_ms: int  # before the next invocation


statuses = st.none() | st.sampled_from(["timeout", "error"])
calls = st.builds(
    Call,
    init=statuses,
    init_in_invoke=statuses,
    report_ms=st.integers(3, 20_000),
    line_after_start=st.booleans(),
    names_request=st.booleans(),
    pause_ms=st.integers(1, 60_000),
)


def request_id(number):
    return str(uuid.UUID(int=number + 1))


def as_json(at_ms, kind, record):
    time = datetime.fromtimestamp(BEGAN_S + at_ms / 1000, UTC).isoformat()
    return json.dumps({"time": time, "type": f"platform.{kind}", "record": record})


def init_line(at_ms, phase, status, duration_ms, request, *, is_json):
    if is_json:
        record = {"phase": phase, "status": status, "metrics": {"durationMs": duration_ms}}
        return as_json(at_ms, "initReport", record | ({"requestId": request} if request else {}))
    named = f"RequestId: {request}\t" if request else ""
    return f"INIT_REPORT {named}Init Duration: {duration_ms:.2f} ms\tPhase: {phase}\tStatus: {status}"


def start_line(at_ms, request, *, is_json):
    return (
        as_json(at_ms, "start", {"requestId": request}) if is_json else f"START RequestId: {request} Version: $LATEST"
    )


def report_line(at_ms, request, duration_ms, *, is_json):
    if is_json:
        return as_json(at_ms, "report", {"requestId": request, "metrics": {"durationMs": duration_ms}})
    return f"REPORT RequestId: {request}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {duration_ms} ms"


def events_of(history, *, is_json):
    """The lines of one environment: (milliseconds, message) by time."""
    events, now_ms = [], 0
    for number, call in enumerate(history):
        request = request_id(number)
        named = request if call.names_request else None
        if call.init and number == 0:
            now_ms += INIT_TIMEOUT_MS
            late_ms = 2 if call.line_after_start else 0  # before REPORT, which comes after 3 ms at least
            events.append(
                (now_ms + late_ms, init_line(now_ms, "init", call.init, INIT_TIMEOUT_MS, named, is_json=is_json))
            )
        began_ms, ends_ms = now_ms, now_ms + call.report_ms
        # Of an init within it, the invocation ends with the init; text format writes START after its line.
        start_ms = began_ms if call.line_after_start or not call.init_in_invoke else ends_ms
        if call.init_in_invoke:
            line = init_line(ends_ms, "invoke", call.init_in_invoke, call.report_ms, named, is_json=is_json)
            events.append((ends_ms, line))
        events.append((start_ms, start_line(start_ms, request, is_json=is_json)))
        events.append((ends_ms, report_line(ends_ms, request, call.report_ms, is_json=is_json)))
        now_ms = ends_ms + call.pause_ms
    return sorted(events, key=lambda event: event[0])


def parsed(events, page_size=100):
    parser = LogParser()
    for first in range(0, len(events), page_size):
        page = events[first : first + page_size]
        times = [round(BEGAN_S * 1000) + at_ms for at_ms, _ in page]
        parser.feed(["stream"] * len(page), times, [line for _, line in page])
    return parser.frame().sort("request_id")


@given(history=st.lists(calls, min_size=1, max_size=6), is_json=st.booleans(), page_size=st.integers(1, 9))
def test_every_failed_init_is_booked_on_its_own_call(history, is_json, page_size):
    frame = parsed(events_of(history, is_json=is_json), page_size)

    expected = [(call.init if number == 0 else None) or call.init_in_invoke for number, call in enumerate(history)]
    assert frame["request_id"].to_list() == [request_id(number) for number in range(len(history))]
    assert frame["init_status"].to_list() == expected
    assert frame["first_in_stream"].to_list() == [number == 0 for number in range(len(history))]
    assert frame["failed_init_ms"].to_list() == [
        INIT_TIMEOUT_MS if number == 0 and call.init else None for number, call in enumerate(history)
    ]


@pytest.mark.parametrize("is_json", [True, False])
def test_three_init_timeouts_in_a_row_are_three_init_timeouts(is_json):
    first = Call("timeout", "timeout", 15_000, line_after_start=False, names_request=False, pause_ms=900)
    again = Call(None, "timeout", 15_000, line_after_start=False, names_request=False, pause_ms=900)
    assert parsed(events_of([first, again, again], is_json=is_json))["init_status"].to_list() == ["timeout"] * 3


@pytest.mark.parametrize("is_json", [True, False])
def test_a_warm_call_that_crashed_has_no_init(is_json):
    warm = Call(None, None, 40, line_after_start=False, names_request=False, pause_ms=100)
    crashed = Call(None, None, 40, line_after_start=False, names_request=False, pause_ms=100)
    after = Call(None, "timeout", 15_000, line_after_start=False, names_request=False, pause_ms=1)
    frame = parsed(events_of([warm, crashed, after], is_json=is_json))
    assert frame["init_status"].to_list() == [None, None, "timeout"]


def test_an_init_is_the_next_calls_where_the_report_before_it_is_lost():
    history = [
        Call(None, None, 40, line_after_start=False, names_request=False, pause_ms=5_000),
        Call(None, "timeout", 15_000, line_after_start=False, names_request=False, pause_ms=1),
    ]
    events = [event for event in events_of(history, is_json=False) if not event[1].startswith("REPORT")]
    assert parsed(events)["init_status"].to_list() == [None, "timeout"]
