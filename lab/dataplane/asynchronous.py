"""Asynchronous invokes: a bounded queue, retries with their delays, and the fate of each event for a while.

Source: "How Lambda handles errors and retries with asynchronous invocation".
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from lab.contracts import FunctionConfiguration, InvokeResult, MetricSink
from lab.dataplane.invocation import Request
from lab.dataplane.rules import retry_delay_s, throttle_delay_s

State = Literal["queued", "running", "succeeded", "failed", "expired", "dropped"]
_NAMESPACE: Final = "AWS/Lambda"
_ONGOING: Final = ("queued", "running")

InvokeEvent = Callable[[FunctionConfiguration, Request], Awaitable[InvokeResult]]


@dataclass
class Fate:
    """What has become of an event so far."""

    request_id: str
    function_name: str
    state: State
    accepted_at: float  # seconds since the epoch
    finished_at: float | None = None
    attempts: int = 0
    throttles: int = 0
    error: str = ""


class AsynchronousInvokes:
    """Takes events and sees to it that they run. `invoke` runs one attempt; all attempts are the same request."""

    def __init__(
        self,
        invoke: InvokeEvent,
        current: Callable[[str, str | None], FunctionConfiguration | None],
        metrics: MetricSink,
        *,
        capacity: int,
        fates_kept: int,
        time_scale: float,
    ) -> None:
        self._invoke = invoke
        self._current = current
        self._metrics = metrics
        self._capacity = capacity
        self._fates_kept = fates_kept
        self._time_scale = time_scale
        self._fates: OrderedDict[str, Fate] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished = 0

    def accept(self, function: FunctionConfiguration, request: Request) -> bool:
        """Queue an event; False when the queue is full."""
        if len(self._tasks) >= self._capacity:
            return False
        fate = Fate(request.request_id, function.name, "queued", time.time())
        self._fates[request.request_id] = fate
        self._count(function.name, "AsyncEventsReceived", 1.0)
        task = asyncio.get_running_loop().create_task(self._run(fate, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def fate(self, request_id: str) -> Fate | None:
        return self._fates.get(request_id)

    async def close(self) -> None:
        """Drop the events that have not run yet; their state says so."""
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, fate: Fate, request: Request) -> None:
        try:
            await self._attempts(fate, request)
        except asyncio.CancelledError:
            self._end(fate, "dropped", "the lab was shut down")
            raise

    async def _attempts(self, fate: Fate, request: Request) -> None:
        while True:
            function = self._current(fate.function_name, request.qualifier)
            if function is None:
                self._end(fate, "failed", f"function {fate.function_name} no longer exists")
                return
            if self._age_s(fate) > function.maximum_event_age_s:
                self._count(fate.function_name, "AsyncEventsDropped", 1.0)
                self._end(fate, "expired", f"older than {function.maximum_event_age_s} s")
                return
            fate.state = "running"
            result = await self._invoke(function, request)
            if result.error_code is not None and (result.status == 429 or result.status >= 500):
                fate.throttles += 1
                delay_s = throttle_delay_s(fate.throttles)
            elif result.error_code is not None:
                self._end(fate, "failed", result.error_code)
                return
            else:
                fate.attempts += 1
                if fate.attempts == 1:
                    age_ms = (time.time() - fate.accepted_at) * 1000
                    self._count(fate.function_name, "AsyncEventAge", age_ms, "Milliseconds")
                if result.function_error is None:
                    self._end(fate, "succeeded", "")
                    return
                if fate.attempts > function.maximum_retry_attempts:
                    self._count(fate.function_name, "AsyncEventsDropped", 1.0)
                    self._end(fate, "failed", result.payload[:2000].decode("utf-8", "replace"))
                    return
                delay_s = retry_delay_s(fate.attempts + 1)
            fate.state = "queued"
            await asyncio.sleep(delay_s / self._time_scale)

    def _age_s(self, fate: Fate) -> float:
        """Age of an event on the lab's clock, which `time_scale` makes faster."""
        return (time.time() - fate.accepted_at) * self._time_scale

    def _end(self, fate: Fate, state: State, error: str) -> None:
        fate.state, fate.error, fate.finished_at = state, error, time.time()
        self._finished += 1
        while self._finished > self._fates_kept:
            oldest = next((key for key, kept in self._fates.items() if kept.state not in _ONGOING), None)
            if oldest is None:
                break
            del self._fates[oldest]
            self._finished -= 1

    def _count(self, function_name: str, metric: str, value: float, unit: str = "Count") -> None:
        self._metrics.put(_NAMESPACE, {"FunctionName": function_name}, time.time(), [(metric, unit, value)])
