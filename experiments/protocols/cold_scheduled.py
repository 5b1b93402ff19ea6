"""The paper's cold protocol: a schedule calls each function every few minutes, long enough for its environment to go.

The calls are asynchronous. A client record says when a fire was due; what became of it is in the logs. Schedules run
on their own, so what they were asked for is written down before they are switched on: a run that was killed finds the
fires that happened without it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from core import strict_json
from core.errors import CloudError
from core.program.interruption import undisturbed
from core.run.outcomes import Answer
from core.run.run_directory import RunDirectory, write_atomically
from core.run.stops import Stop
from core.variants import Variant
from experiments.checks.spend import expected_billed_ms
from experiments.plan import SECONDS_PER_MINUTE, PlannedCall, Window, windows
from experiments.protocols.recording import record_of
from experiments.session import Session

WINDOWS_FILE: Final = "schedule-windows.json"
LEAD_S: Final = 30.0  # between asking for a schedule and its first fire
PRECISION_S: Final = 60.0  # AWS fires within a minute of the time asked for
SHORTEST_PRECISION_S: Final = 1.0
STEP_S: Final = 0.5
ASK_LOGS_EVERY_S: Final = 30.0
SHORTEST_ASK_S: Final = 0.5  # in a lab that shortens time
SAME_MOMENT_S: Final = 1.0  # the API keeps dates to the second


@dataclass(frozen=True)
class Asked:
    """A window as requested; once it is closed, its count is the number of fires that happened."""

    window: Window
    first_after_deploy: bool  # whether the window's first fire is the first call of the deployed image
    closed: bool = False

    def due(self, now: float) -> list[tuple[PlannedCall, float]]:
        return [(call, at) for call, at in self.window.fires() if self.closed or at <= now]

    @property
    def last_fire_at(self) -> float:
        return self.window.start_at + (self.window.count - 1) * self.window.interval_s

    def close(self, count: int) -> Asked:
        return replace(self, window=replace(self.window, count=count), closed=True)


class WindowFile:
    """What schedules were asked for in this run, kept in its directory."""

    def __init__(self, run: RunDirectory, variants: Sequence[Variant]) -> None:
        self._path: Path = run.root / WINDOWS_FILE
        self._variants = {variant.key: variant for variant in variants}

    def read(self) -> list[Asked]:
        if not self._path.exists():
            return []
        found = []
        for item in strict_json.loads(self._path.read_text(encoding="utf-8")):
            variant = self._variants.get(item.pop("variant"))
            state = {name: item.pop(name) for name in ("first_after_deploy", "closed")}
            if variant is not None:
                found.append(Asked(Window(variant, **item), **state))
        return found

    def write(self, asked: Sequence[Asked]) -> None:
        items = [
            {
                **asdict(one.window),
                "variant": one.window.variant.key,
                "first_after_deploy": one.first_after_deploy,
                "closed": one.closed,
            }
            for one in asked
        ]
        write_atomically(self._path, strict_json.dumps(items, indent=1) + "\n")


def run_scheduled(session: Session) -> None:
    """Ask every variant's schedule for the fires that are still missing, and write each down when it is due."""
    variants = session.configuration.variants
    file = WindowFile(session.log.run, variants)
    asked = _settle(session, file.read())
    file.write(asked)
    try:
        asked = _ask_for_missing(session, file, asked)
        _watch(session, asked)
    finally:
        # A schedule that nobody watches would keep calling: switch all off, whatever ended this.
        with undisturbed():
            stopped_at = time.time()
            problems = session.services.scheduler.disable_all(variants)
            file.write([_close(session, one, stopped_at) for one in asked])
    if problems:
        raise CloudError(
            f"{len(problems)} schedules could not be switched off: {problems[0]}",
            hint="They end by their own end date; `inference-lab experiments cleanup` switches them off now.",
        )


def _settle(session: Session, asked: list[Asked]) -> list[Asked]:
    """Find out which windows of a killed attempt came to be: they are in the file, were they switched on as well?

    Of a window that is no longer on, as after a clean-up, the fires that were written down count.
    """
    settled = []
    for one in asked:
        if not one.closed:
            state = session.services.scheduler.state(one.window.variant)
            same = state.start_at is not None and abs(state.start_at - one.window.start_at) <= SAME_MOMENT_S
            if not (state.enabled and same):
                one = one.close(sum(session.log.is_done(call.call_id) for call, _ in one.window.fires()))  # noqa: PLW2901 - closed
        settled.append(one)
    return settled


def _close(session: Session, one: Asked, now: float) -> Asked:
    """Count the fires of a window when its schedule goes off.

    One that was due a moment ago may have been on its way or not. It counts if its record was written, and is asked
    for again otherwise: a call too many is a row without a record, a call too few would be a hole.
    """
    if one.closed:
        return one
    return one.close(len(_certain(session, one, now)))


def _certain(session: Session, one: Asked, now: float) -> list[tuple[PlannedCall, float]]:
    """Fires that have surely happened: long enough ago, or written down."""
    sure = now - precision_s(session.time_scale)
    return [(call, at) for call, at in one.due(now) if at <= sure or session.log.is_done(call.call_id)]


def precision_s(time_scale: float) -> float:
    """How long after its time a fire may come: a minute on AWS, less in a lab that shortens time."""
    return max(SHORTEST_PRECISION_S, PRECISION_S / time_scale)


def _ask_for_missing(session: Session, file: WindowFile, asked: list[Asked]) -> list[Asked]:
    cold = session.configuration.experiments.cold
    interval_s = cold.interval_minutes * SECONDS_PER_MINUTE / session.time_scale
    remaining = {
        variant: _remaining(asked, variant, cold.scheduled_samples) for variant in session.configuration.variants
    }
    # Asked now: once the first fire has logged something, the logs no longer tell. And before the start is set, as the
    # answers take their time, and a schedule that is switched on after its start leaves its first fire out.
    first = {
        variant: session.services.first_calls.is_first(variant) for variant, (_, wanted) in remaining.items() if wanted
    }
    start = time.time() + LEAD_S / session.time_scale
    new = windows(session.configuration.variants, remaining=remaining, now=start, interval_s=interval_s)
    if not new:
        return asked
    asked = [*asked, *(Asked(window, first[window.variant]) for window in new)]
    file.write(asked)
    for window in new:
        session.services.scheduler.enable(window.variant, start_at=window.start_at, end_at=window.end_at)
    return asked


def _remaining(asked: Sequence[Asked], variant: Variant, wanted: int) -> tuple[int, int]:
    """Number of the next fire to ask for, and how many are missing; fires of an open window count as coming."""
    had = sum(one.window.count for one in asked if one.window.variant == variant)
    return had, max(0, wanted - had)


def _watch(session: Session, asked: Sequence[Asked]) -> None:
    """Write fires down when they have surely happened, until the logs show that all were answered or time is up."""
    patience_s = session.configuration.function.timeout_s + precision_s(session.time_scale) + 30.0
    began = time.time()
    end = max((one.last_fire_at for one in asked if one.window.count), default=began)
    wanted = sum(one.window.count for one in asked)
    answered: dict[str, int] = dict.fromkeys((one.window.variant.key for one in asked), 0)
    next_look = began
    session.progress.phase("cold, scheduled", max(1.0, end - began), then_s=session.then_s)
    while True:
        now = time.time()
        if now >= next_look:
            next_look = now + max(SHORTEST_ASK_S, ASK_LOGS_EVERY_S / session.time_scale)
            _look(session, asked, answered, time.time())
        _write_down(session, asked, answered, now)
        if sum(answered.values()) >= wanted:
            break
        if now >= end + patience_s:
            _say_incomplete(session, asked, answered)
            break
        session.progress.at(min(now, end) - began, f"{sum(answered.values())} of {wanted} fires answered")
        time.sleep(STEP_S)
    session.progress.end_phase()


def _write_down(session: Session, asked: Sequence[Asked], answered: dict[str, int], now: float) -> None:
    """Keep a record of each fire that has surely happened, or that the logs show."""
    seen = dict(answered)
    for one in asked:
        certain = {call.call_id for call, _ in _certain(session, one, now)}
        for number, (call, expected_at) in enumerate(one.due(now)):
            in_logs = seen[call.variant.key] > 0
            seen[call.variant.key] -= 1
            if session.log.is_done(call.call_id) or not (in_logs or call.call_id in certain):
                continue
            session.services.first_calls.called(call.variant)
            session.add(
                record_of(
                    call,
                    Answer("pending"),  # asynchronous: what became of it is in the logs alone
                    run_id=session.run_id,
                    time_scale=session.time_scale,
                    first_after_deploy=one.first_after_deploy and number == 0,
                    intended_at=expected_at,
                )
            )


def _look(session: Session, asked: Sequence[Asked], answered: dict[str, int], now: float) -> None:
    """Count the reports that are still missing in the logs, and correct the spend by what was billed."""
    for key, seen in answered.items():
        mine = [one for one in asked if one.window.variant.key == key and one.window.count]
        due = sum(len(one.due(now)) for one in mine)
        if seen < due:
            variant = mine[0].window.variant
            billed = _billed_fires(session, variant, mine, now)
            assumed_ms = expected_billed_ms(session.configuration, variant, cold=True)
            for billed_ms in billed[seen:]:
                session.meter.correct(variant, assumed_ms=assumed_ms, billed_ms=billed_ms)
            answered[key] = max(seen, len(billed))
    session.check_spend()


def _billed_fires(session: Session, variant: Variant, mine: Sequence[Asked], now: float) -> list[float]:
    """Billed milliseconds of the fires that the logs show, of each window no more than it counts.

    A fire that was asked for again, as nobody knew of it, is in the logs too: taken for a later one, it would end the
    watch before that one has come.
    """
    billed: list[float] = []
    reported_later = 0
    for one in sorted(mine, key=lambda asked: asked.window.start_at, reverse=True):
        since = session.services.logs.billed_since(variant, one.window.start_at - SAME_MOMENT_S)
        billed = [*since[: max(0, len(since) - reported_later)][: len(one.due(now))], *billed]
        reported_later = len(since)
    return billed


def _say_incomplete(session: Session, asked: Sequence[Asked], answered: dict[str, int]) -> None:
    now = time.time()
    for key, found in answered.items():
        due = sum(len(one.due(now)) for one in asked if one.window.variant.key == key)
        if found < due:
            session.stop(
                Stop("cold", "scheduled", key, "none", "incomplete", f"{found} of {due} fires are in the logs", found)
            )
