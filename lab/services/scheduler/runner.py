"""Fires schedules: watches the control plane and invokes each target asynchronously at its time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lab.contracts import Invoker
from lab.services.scheduler.definitions import GRACE_S, ScheduleDefinition, event_payload
from lab.services.scheduler.expressions import Rate, parse
from lab.services.scheduler.moto_schedules import MotoSchedules

_log: Final = logging.getLogger(__name__)
# How late a change of a schedule, a step of the clock or the end of a suspension is noticed at most.
_POLL_S: Final = 0.25
# A gap between two looks at the clock that is longer than this was no busy moment: the machine slept or was stopped.
_SUSPENDED_S: Final = 60.0
_RETRY_PAUSE_S: Final = (1.0, 60.0)  # first, longest; doubled in between


@dataclass
class _Entry:
    definition: ScheduleDefinition
    table: Rate
    passed_s: float  # every fire time up to here has been dealt with
    next_s: float | None


class ScheduleRunner:
    """Runs every schedule of the control plane until it is stopped.

    A fire time belongs to the wall clock, as StartDate does; sleeping belongs to the monotonic clock, in short
    slices, so that a step of the wall clock is noticed. A fire time is dealt with once: a clock that steps back
    repeats none, and all that a suspended machine missed of one schedule fires once, as its latest time.
    """

    def __init__(
        self,
        source: MotoSchedules,
        invoker: Invoker,
        *,
        time_scale: float = 1.0,
        now_s: Callable[[], float] = time.time,
        poll_s: float = _POLL_S,
    ) -> None:
        """`poll_s`: how often the control plane and the clock are looked at."""
        self._source = source
        self._poll_s = poll_s
        self._invoker = invoker
        self._time_scale = time_scale
        self._now_s = now_s
        self._entries: dict[str, _Entry] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fire, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="schedules")

    async def stop(self) -> None:
        """Fire nothing more; a delivery that waits for its retry is dropped."""
        for task in (*([self._task] if self._task else []), *self._deliveries):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._task = None

    async def _run(self) -> None:
        looked_s = self._now_s()
        while True:
            now_s = self._now_s()
            try:
                self._refresh()
                self._fire_due(now_s, suspended=now_s - looked_s > _SUSPENDED_S)
            except Exception:  # noqa: BLE001 - one fault would end all schedules, and nobody would hear of it
                _log.exception("schedules could not be read or fired")
            looked_s = now_s
            upcoming = [entry.next_s for entry in self._entries.values() if entry.next_s is not None]
            pause_s = min(self._poll_s, max(0.0, min(upcoming) - self._now_s())) if upcoming else self._poll_s
            await asyncio.sleep(pause_s)

    def _refresh(self) -> None:
        current = {definition.arn: definition for definition in self._source.definitions()}
        for arn in self._entries.keys() - current.keys():
            del self._entries[arn]
        for arn, definition in current.items():
            known = self._entries.get(arn)
            if known is None or known.definition.revision != definition.revision:
                self._entries[arn] = self._entry(definition, known)

    def _entry(self, definition: ScheduleDefinition, known: _Entry | None) -> _Entry:
        # A rate counts from StartDate, without one from the moment the schedule was last changed.
        base_s = definition.modified_s if definition.start_s is None else definition.start_s
        table = parse(definition.expression, base_s=base_s, time_scale=self._time_scale, end_s=definition.end_s)
        # A changed schedule has missed nothing before its change, and repeats nothing that its last revision fired.
        passed_s = max(definition.modified_s - GRACE_S, known.passed_s if known else float("-inf"))
        next_s = table.next_after(passed_s) if definition.enabled else None
        if definition.enabled and next_s is None:
            _log.warning("schedule %s never fires: no time of %s is left", definition.arn, definition.expression)
        while next_s is not None and next_s < definition.modified_s:
            following_s = table.next_after(next_s)
            if following_s is None or following_s > definition.modified_s:
                break
            passed_s, next_s = next_s, following_s
        return _Entry(definition, table, passed_s, next_s)

    def _fire_due(self, now_s: float, *, suspended: bool) -> None:
        for entry in list(self._entries.values()):
            due: list[float] = []
            while entry.next_s is not None and entry.next_s <= now_s:
                due.append(entry.next_s)
                entry.passed_s = entry.next_s
                entry.next_s = entry.table.next_after(
                    # After a long sleep there may be a great many; only the latest one matters.
                    max(entry.passed_s, now_s - 86_400.0) if suspended else entry.passed_s
                )
            for scheduled_s in due[-1:] if suspended else due:
                task = asyncio.get_running_loop().create_task(self._deliver(entry.definition, scheduled_s))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, definition: ScheduleDefinition, scheduled_s: float) -> None:
        started = time.monotonic()
        pause_s, longest_s = _RETRY_PAUSE_S
        execution_id = secrets.token_hex(8)
        for attempt in range(1, definition.maximum_retry_attempts + 2):
            problem = await self._attempt(definition, scheduled_s, execution_id, attempt)
            if problem is None:
                break
            retryable, text = problem
            age_s = time.monotonic() - started + pause_s
            if not retryable or attempt > definition.maximum_retry_attempts or age_s > definition.maximum_event_age_s:
                _log.warning("schedule %s could not invoke %s: %s", definition.arn, definition.target_arn, text)
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    async def _attempt(
        self, definition: ScheduleDefinition, scheduled_s: float, execution_id: str, attempt: int
    ) -> tuple[bool, str] | None:
        """None if the event was taken over, else whether to try again, and why it was not."""
        if ":lambda:" not in definition.target_arn:
            return False, "the lab's schedules invoke Lambda functions only"
        payload = event_payload(definition, scheduled_s, execution_id, attempt)
        try:
            result = await self._invoker.invoke(definition.target_arn, payload, invocation_type="Event")
        except Exception as error:  # noqa: BLE001 - a delivery must not die unseen; the data plane's faults are worth another try
            _log.exception("schedule %s", definition.arn)
            return True, repr(error)
        if result.error_code is None:
            return None
        return result.status == 429 or result.status >= 500, result.error_code
