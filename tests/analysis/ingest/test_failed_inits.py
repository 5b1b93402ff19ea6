"""A line about an init is booked on the invocation that it belongs to, in whatever order the platform wrote them."""

import json
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.ingest.client_records import read_clients
from analysis.ingest.joining import decide, join_calls
from analysis.ingest.platform_logs import LogParser
from core.run.run_directory import RunDirectory
from tests.analysis.report.builders import demo_configuration
from tests.analysis.synthetic import make_rows, manifest_of

INIT_TIMEOUT_MS = 10_000
BEGAN_S = 1_790_000_000.0


Place = Literal["before START", "after START", "after REPORT"]
PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True)
class Call:
    """An invocation: by which inits it was preceded or begun, and how its own lines stand."""

    init: str | None  # status of phase init; only an environment's first invocation has one
    init_in_invoke: str | None  # status of phase invoke
    report_ms: int  # how long after START its REPORT comes
    place: Place  # where the lines of its inits are
    names_request: bool  # the line carries the request id
    pause_ms: int  # before the next invocation
    status: str | None = None  # of REPORT


statuses = st.none() | st.sampled_from(["timeout", "error"])
calls = st.builds(
    Call,
    init=statuses,
    init_in_invoke=statuses,
    report_ms=st.integers(8, 20_000),
    place=st.sampled_from(PLACES),
    names_request=st.booleans(),
    pause_ms=st.integers(1, 60_000),
)


def request_id(number, stream=0):
    return str(uuid.UUID(int=1000 * (stream + 1) + number))


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


def report_line(at_ms, request, duration_ms, status, *, is_json):
    if is_json:
        record = {"requestId": request, "metrics": {"durationMs": duration_ms}}
        return as_json(at_ms, "report", record | ({"status": status} if status else {}))
    said = f"\tStatus: {status}" if status else ""
    return f"REPORT RequestId: {request}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {duration_ms} ms{said}"


LATE_MS = 2  # how long a line waits that is written after START or after REPORT


def events_of(history, *, is_json, stream=0):
    """The lines of one environment: (milliseconds, message) by time."""
    events, now_ms = [], 0
    for number, call in enumerate(history):
        request = request_id(number, stream)
        named = request if call.names_request else None
        began_ms, ends_ms = now_ms, now_ms + call.report_ms
        # Of an init within it, the invocation ends with the init; START is then written after the line of the init.
        start_ms = ends_ms if call.init_in_invoke and call.place == "before START" else began_ms
        if call.init and number == 0:
            began_ms = now_ms = now_ms + INIT_TIMEOUT_MS
            start_ms, ends_ms = start_ms + INIT_TIMEOUT_MS, ends_ms + INIT_TIMEOUT_MS
            line = init_line(now_ms, "init", call.init, INIT_TIMEOUT_MS, named, is_json=is_json)
            written_ms = {"before START": now_ms, "after START": start_ms + LATE_MS, "after REPORT": ends_ms + LATE_MS}
            events.append((written_ms[call.place], line))
        if call.init_in_invoke:
            line = init_line(ends_ms, "invoke", call.init_in_invoke, call.report_ms, named, is_json=is_json)
            events.append((ends_ms + (LATE_MS if call.place == "after REPORT" else 0), line))
        events.append((start_ms, start_line(start_ms, request, is_json=is_json)))
        events.append((ends_ms, report_line(ends_ms, request, call.report_ms, call.status, is_json=is_json)))
        now_ms = ends_ms + call.pause_ms
    return sorted(events, key=lambda event: event[0])


def parsed(*streams, page_size=100):
    """Parse the lines of environments whose log streams a page holds mixed, in the order of time."""
    lines = [(at_ms, f"stream-{number}", line) for number, events in enumerate(streams) for at_ms, line in events]
    lines.sort(key=lambda line: line[0])
    parser = LogParser()
    for first in range(0, len(lines), page_size):
        page = lines[first : first + page_size]
        times = [round(BEGAN_S * 1000) + at_ms for at_ms, _, _ in page]
        parser.feed([stream for _, stream, _ in page], times, [line for _, _, line in page])
    return parser.frame().sort("request_id")


def expected_of(history):
    """Status of the first failed init of each call."""
    return [(call.init if number == 0 else None) or call.init_in_invoke for number, call in enumerate(history)]


@settings(max_examples=50)
@given(
    histories=st.lists(st.lists(calls, min_size=1, max_size=5), min_size=1, max_size=3),
    is_json=st.booleans(),
    page_size=st.integers(1, 9),
)
def test_every_failed_init_is_booked_on_its_own_call(histories, is_json, page_size):
    streams = [events_of(history, is_json=is_json, stream=number) for number, history in enumerate(histories)]
    frame = parsed(*streams, page_size=page_size)

    booked = [(stream, number, call) for stream, calls in enumerate(histories) for number, call in enumerate(calls)]
    assert frame["request_id"].to_list() == [request_id(number, stream) for stream, number, _ in booked]
    assert frame["init_status"].to_list() == [status for history in histories for status in expected_of(history)]
    assert frame["first_in_stream"].to_list() == [number == 0 for _, number, _ in booked]
    assert frame["failed_init_ms"].to_list() == [
        INIT_TIMEOUT_MS if number == 0 and call.init else None for _, number, call in booked
    ]


def call(place="before START", *, init=None, again=None, pause_ms=900, status=None):
    """A call of 15 s whose init fails for the second time, or one of 40 ms without an init in it."""
    report_ms = 15_000 if again else 40
    return Call(init, again, report_ms, place=place, names_request=False, pause_ms=pause_ms, status=status or again)


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("pause_ms", [1, 5_000])
def test_lines_in_every_order_book_second_inits_on_their_own_calls(is_json, pause_ms):
    """Three init timeouts in a row, a warm call, one that crashed, and the init after the crash, in every order."""
    for first, second, third, fourth in product(PLACES, repeat=4):
        history = [
            call(first, init="timeout", again="timeout", pause_ms=pause_ms),
            call(second, again="timeout", pause_ms=pause_ms),
            call(third, again="timeout", pause_ms=pause_ms),
            call(pause_ms=pause_ms),
            call(pause_ms=pause_ms),
            call(fourth, again="error", pause_ms=pause_ms),
        ]
        warm = [call(pause_ms=3_000) for _ in range(4)]
        frame = parsed(
            events_of(history, is_json=is_json, stream=0), events_of(warm, is_json=is_json, stream=1), page_size=7
        )
        expected = ["timeout", "timeout", "timeout", None, None, "error", *[None] * len(warm)]
        assert frame["init_status"].to_list() == expected, (first, second, third, fourth)


@pytest.fixture(scope="module")
def measured():
    """A variant, and where it was measured."""
    configuration = demo_configuration(models=["mobilenet"], memory_sizes_mb=[512])
    return configuration.variants[0], manifest_of(configuration, make_rows(configuration, warm_samples=1)).endpoint


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_three_init_timeouts_are_three_and_a_warm_call_that_crashed_stays_warm(measured, place, is_json):
    history = [
        call(place, init="timeout", again="timeout"),
        *[call(place, again="timeout")] * 2,
        call(),
        call(status="error"),
        call(place, again="error"),
    ]
    variant, endpoint = measured
    nobody = read_clients(RunDirectory(Path("nowhere")))
    frame = parsed(events_of(history, is_json=is_json))
    rows = decide(pl.concat(join_calls(frame, nobody, 2)), variant, endpoint, "run", logs_alone=True).sort("request_id")
    assert rows["outcome"].to_list() == [*["init_timeout"] * 3, "ok", "error", "error"]
    assert rows["start_type"].to_list() == [*["cold"] * 3, "warm", "warm", "cold"]


def test_an_init_is_the_next_calls_where_the_report_before_it_is_lost():
    events = events_of([call(pause_ms=5_000), call(again="timeout")], is_json=False)
    kept = [event for event in events if not event[1].startswith("REPORT")]
    assert parsed(kept)["init_status"].to_list() == [None, "timeout"]


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_a_504_takes_the_call_whose_init_was_cut_wherever_its_start_is_logged(measured, place, is_json):
    """The gateway gave up after 29 s and told no request id; the second init took 40 s, and the next call was warm."""
    cut = replace(call(place, init="timeout", again="success"), report_ms=40_000)
    variant, endpoint = measured
    clients = pl.DataFrame(
        [
            {"call_id": "gave up", "outcome": "gateway_timeout", "sent_at": BEGAN_S, "answered_at": BEGAN_S + 29},
            {"call_id": "warm", "outcome": "error", "sent_at": BEGAN_S + 51, "answered_at": BEGAN_S + 52},
        ],
        schema=read_clients(RunDirectory(Path("nowhere"))).schema,
    )
    frame = parsed(events_of([cut, call()], is_json=is_json))
    rows = decide(pl.concat(join_calls(frame, clients, 2)), variant, endpoint, "run")
    assert rows.select("call_id", "request_id", "start_type").rows() == [
        ("gave up", request_id(0), "cold"),
        ("warm", request_id(1), "warm"),
    ]
