"""The open-model sender: each request leaves at its time, whatever became of the ones before."""

from __future__ import annotations

import gc
import http.client
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import gevent
import gevent.pool

from core.aws.endpoint_access import Access, headers_of
from core.errors import CloudError
from core.run.outcomes import GATEWAY_ID_HEADER, Answer, classify_http
from core.run.records import ClientRecord
from core.variants import Variant
from loadtests.account import INTERRUPTED
from loadtests.connections import Connection, ConnectionPool

# So many failures with nothing else between them, and the variant cannot run: that is its result.
GIVE_UP_AFTER: Final = 20
# A throttle or the gateway's timeout is what a load test is there to find, and no reason to end it.
REASONS_TO_GIVE_UP: Final = frozenset({"error", "out_of_memory", "init_timeout", "timeout", "connection"})
GATEWAY_ID_HEADERS: Final = (GATEWAY_ID_HEADER, "x-amzn-request-id")
REQUEST_HEADERS: Final = {"Accept": "application/json"}
# How long a wait for the next arrival may go without looking whether the load is to stop.
STOP_LATENCY_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is common to every call of one stage, a stage being one variant under one shape."""

    run_id: str
    variant: Variant
    protocol: str  # name of the shape
    url: str  # of the variant's endpoint
    access: Access
    started_at: float  # seconds since the epoch; arrival times count from here
    max_in_flight: int
    time_scale: float
    warmup: bool = False  # calls before the shape, labeled

    @property
    def host(self) -> str:
        """Return the address of the endpoint's host."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def call_id(self, number: int) -> str:
        """Unique in the run: a variant may be loaded twice, though not at the same millisecond."""
        kind = "load-warmup" if self.warmup else "load"
        return f"{kind}-{self.variant.key}-{self.started_at * 1000:.0f}-{number}"


@dataclass
class _Call:
    number: int
    intended_at: float
    sent_at: float | None = None
    answered_at: float | None = None
    connect_ms: float | None = None
    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


class Sender:
    """Sends one worker's arrivals of a stage, and hands a record of each, with the answer's length, to `on_record`."""

    def __init__(self, stage: Stage, pool: ConnectionPool, on_record: Callable[[ClientRecord, int], None]) -> None:
        self._stage = stage
        self._pool = pool
        self._on_record = on_record
        self._headers = headers_of(stage.access, stage.url)
        self._path = urlsplit(stage.url).path
        self._calls = gevent.pool.Group()
        # Times are taken from a clock that never jumps, and written as seconds since the epoch.
        self._epoch = time.time() - time.perf_counter()
        self._stopping = False
        self._failures_in_a_row = 0
        self.stopped_because = ""
        self.no_connection = False

    def run(self, arrivals: Iterable[tuple[int, float]]) -> None:
        """Send (number, time in s after the stage's start) in ascending order, and wait for the answers."""
        # A collection of what Locust and its libraries left behind would stop the clock for tens of milliseconds.
        gc.collect()
        gc.freeze()
        for number, at_s in arrivals:
            intended_at = self._stage.started_at + at_s
            self._wait_until(intended_at)
            if self._stopping:
                break
            if len(self._calls) >= self._stage.max_in_flight:
                self._drop(number, intended_at)
            else:
                self._calls.start(gevent.Greenlet(self._call, number, intended_at))
        self._calls.join()

    def stop(self, because: str) -> None:
        """Send nothing more; calls under way are answered still."""
        self._stopping = True
        self.stopped_because = self.stopped_because or because

    def interrupt(self) -> None:
        """Stop, and give up calls under way; each leaves a record that says so."""
        self.stop("interrupted")
        self._calls.kill()

    def _now(self) -> float:
        return self._epoch + time.perf_counter()

    def _wait_until(self, moment: float) -> None:
        while not self._stopping:
            ahead_s = moment - self._now()
            # Even when late, the greenlets that wait for answers get their turn.
            gevent.sleep(max(0.0, min(ahead_s, STOP_LATENCY_S)))
            if ahead_s <= 0:
                return

    def _call(self, number: int, intended_at: float) -> None:
        call = _Call(number, intended_at)
        connection: Connection | None = None
        try:
            connection, is_new = self._pool.take()
            call.connect_ms = connection.connect_ms if is_new else None
            self._exchange(call, connection.http)
            self._pool.give_back(connection)
            connection = None
        except CloudError as error:
            call.sent_at = self._now()
            call.error = error.message
        except (OSError, http.client.HTTPException) as error:
            # A connection that could not be opened was an attempt to send all the same, and not a dropped arrival.
            call.sent_at = call.sent_at or self._now()
            call.error = f"{type(error).__name__}: {error}"
        except gevent.GreenletExit:
            call.sent_at = call.sent_at or self._now()
            call.error = INTERRUPTED
        finally:
            if connection is not None:
                connection.close()
        self._keep(call)

    def _exchange(self, call: _Call, connection: http.client.HTTPConnection) -> None:
        headers = {**REQUEST_HEADERS, **self._headers()}
        call.sent_at = self._now()
        connection.request("GET", self._path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        call.answered_at = self._now()
        call.status, call.body = response.status, body
        call.headers = {name.lower(): value for name, value in response.getheaders()}

    def _drop(self, number: int, intended_at: float) -> None:
        because = f"{self._stage.max_in_flight} calls were under way, as many as max_in_flight allows"
        self._on_record(self._record(_Call(number, intended_at), Answer("dropped", because)), 0)

    def _keep(self, call: _Call) -> None:
        if call.answered_at is None:
            answer = Answer("connection", call.error)
        else:
            answer = classify_http(call.status, call.body, call.headers)
        self._on_record(self._record(call, answer), len(call.body))
        self._watch(answer)

    def _watch(self, answer: Answer) -> None:
        """Stop hammering a variant that cannot run."""
        if answer.outcome in REASONS_TO_GIVE_UP:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= GIVE_UP_AFTER and not self._stopping:
                self.no_connection = answer.outcome == "connection"
                self.stop(f"{GIVE_UP_AFTER} failures in a row, the last: {answer.error}")
        else:
            self._failures_in_a_row = 0

    def _record(self, call: _Call, answer: Answer) -> ClientRecord:
        stage = self._stage
        gateway_id = next((call.headers[name] for name in GATEWAY_ID_HEADERS if name in call.headers), None)
        return ClientRecord(
            run_id=stage.run_id,
            call_id=stage.call_id(call.number),
            experiment="load",
            protocol=stage.protocol,
            trigger="api",
            variant=stage.variant.key,
            model=stage.variant.model,
            engine=stage.variant.engine,
            architecture=stage.variant.architecture,
            memory_mb=stage.variant.memory_mb,
            warmup=stage.warmup,
            connection="none" if call.sent_at is None else "kept" if call.connect_ms is None else "new",
            intended_at=call.intended_at,
            sent_at=call.sent_at,
            answered_at=call.answered_at,
            connect_ms=call.connect_ms,
            client_latency_ms=_elapsed_ms(call.sent_at, call.answered_at),
            latency_from_intended_ms=_elapsed_ms(call.intended_at, call.answered_at),
            http_status=call.status or None,
            outcome=answer.outcome,
            error=answer.error,
            request_id=answer.handler.request_id if answer.handler else None,
            gateway_request_id=gateway_id,
            handler=answer.handler,
            time_scale=stage.time_scale,
        )


def _elapsed_ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 1000
