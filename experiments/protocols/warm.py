"""Warm calls: GET on the REST endpoint, one after another, over a connection kept and over a new one each time.

Rounds visit every variant and kind of connection once, in a random order of their own, so that a drift of the machine
or the network falls on all alike. Warm-ups are labelled and left out later. A sample that came out cold is kept and
labelled by its evidence; it counts neither towards the samples nor towards the interval.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.configuration import WarmTable
from core.intervals import median_half_width_percent
from core.records import ClientRecord
from core.stops import Stop, StopReason
from core.variants import Variant
from experiments.aws.http_timing import Connection, Reply
from experiments.plan import PARALLEL_WARMUPS, PlannedCall, Series, all_series, shuffled
from experiments.protocols.gateway_timeouts import let_function_end
from experiments.protocols.recording import reply_record
from experiments.session import Session
from loadtests.plan import gateway_patience_s


@dataclass
class Progression:
    """How far one series is."""

    series: Series
    latencies_ms: list[float] = field(default_factory=list)
    taken: int = 0  # samples sent, whatever came of them
    over: bool = False

    def keep(self, record: ClientRecord) -> None:
        self.taken += 1
        if is_warm_sample(record) and record.client_latency_ms is not None:
            self.latencies_ms.append(record.client_latency_ms)


def is_warm_sample(record: ClientRecord) -> bool:
    """Whether a record counts towards warm statistics: answered well, by an environment that had answered before.

    An answer that says nothing of its environment counts here, where only the end of a series depends on it.
    """
    return record.outcome == "ok" and not record.warmup and (record.handler is None or not record.handler.cold)


def reason_to_stop(taken: int, latencies_ms: list[float], table: WarmTable) -> tuple[StopReason, float | None] | None:
    """Why a series is over, and the half-width of its median's interval in percent; None while it goes on.

    The interval is looked at from `samples` on, never before: looking early and often would favour lucky moments.
    """
    width = median_half_width_percent(latencies_ms)
    if len(latencies_ms) >= table.samples:
        if not table.until_ci_percent:
            return "samples", width
        if width is not None and width <= table.until_ci_percent:
            return "ci_reached", width
    return ("max_samples", width) if taken >= most_samples(table) else None


def most_samples(table: WarmTable) -> int:
    """Where a series ends at the latest. Cold and failed samples do not count, but are bounded too."""
    return table.max_samples if table.until_ci_percent else min(table.max_samples, 2 * table.samples)


def run_warm(session: Session) -> None:
    """Warm up, then sample in rounds until every series has a reason to stop."""
    series = all_series(session.configuration)
    connections = _Connections(session)
    try:
        progressions = [_so_far(session, one) for one in series]
        _warm_up(session, [one for one in progressions if not one.over], connections)
        _sample(session, progressions, connections)
    finally:
        connections.close()


class _Connections:
    """One kept connection a variant, and new ones on request."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: dict[str, Connection] = {}
        self._timeout_s = gateway_patience_s(session.configuration.gateway)

    def get(self, call: PlannedCall) -> Reply:
        if call.connection == "new":
            fresh = self._open(call.variant)
            try:
                return fresh.get()
            finally:
                fresh.close()
        kept = self._kept.setdefault(call.variant.key, self._open(call.variant))
        kept.ensure()
        return kept.get()

    def close(self) -> None:
        for connection in self._kept.values():
            connection.close()

    def _open(self, variant: Variant) -> Connection:
        return Connection(self._session.services.deployment.url(variant), timeout_s=self._timeout_s)


def _so_far(session: Session, series: Series) -> Progression:
    """What an earlier attempt of this run has measured already."""
    progression = Progression(series)
    while (record := session.log.records.get(series.sample(progression.taken).call_id)) is not None:
        progression.keep(record)
    _judge(session, progression, say=False)
    return progression


def _warm_up(session: Session, progressions: list[Progression], connections: _Connections) -> None:
    """Start an environment for each variant, then make the warm-ups of each series that an earlier attempt left out.

    A resumed run finds its environments gone, so each of its variants gets one more labelled call at the beginning.
    """
    warm = session.configuration.experiments.warm
    by_variant: dict[str, list[PlannedCall]] = {}
    for one in progressions:
        planned = [one.series.warmup(number) for number in range(warm.warmups)]
        todo = [call for call in planned if not session.log.is_done(call.call_id)]
        if not todo:
            todo = [_extra_warmup(session, one.series, warm.warmups)]
        by_variant.setdefault(one.series.variant.key, []).extend(todo)
    session.progress.phase("warm-ups", sum(map(len, by_variant.values())), then_s=session.then_s)
    ended = threading.Event()
    with ThreadPoolExecutor(max_workers=PARALLEL_WARMUPS) as pool:
        work = [pool.submit(_warm_up_variant, session, calls, connections, ended) for calls in by_variant.values()]
        try:
            for one_variant in work:
                one_variant.result()
        finally:
            ended.set()
    session.progress.end_phase()


def _extra_warmup(session: Session, series: Series, number: int) -> PlannedCall:
    while session.log.is_done(series.warmup(number).call_id):
        number += 1
    return series.warmup(number)


def _warm_up_variant(
    session: Session, calls: list[PlannedCall], connections: _Connections, ended: threading.Event
) -> None:
    for call in calls:
        if not ended.is_set() and not session.log.cannot_run("warm", call.variant):
            _send(session, call, connections)
        session.progress.advance(1, call.variant.display_name)


def _sample(session: Session, progressions: list[Progression], connections: _Connections) -> None:
    warm = session.configuration.experiments.warm
    bound = warm.max_samples if warm.until_ci_percent else warm.samples
    session.progress.phase(
        "warm", sum(max(0, bound - one.taken) for one in progressions if not one.over), then_s=session.then_s
    )
    while open_ones := [one for one in progressions if not one.over]:
        number = min(one.taken for one in open_ones)
        # A resumed run takes up the round that was broken off: who is ahead waits for the others.
        present = {one.series.key: one for one in open_ones if one.taken == number}
        for key in shuffled(sorted(present), session.configuration.experiments.seed, "warm", number):
            one = present[key]
            if session.log.cannot_run("warm", one.series.variant):
                _give_up(session, one)
            else:
                one.keep(_send(session, one.series.sample(number), connections))
                _judge(session, one, say=True)
            session.progress.advance(1, one.series.variant.display_name)
    session.progress.end_phase()


def _send(session: Session, call: PlannedCall, connections: _Connections) -> ClientRecord:
    first = session.services.first_calls.is_first(call.variant)
    reply = connections.get(call)
    session.services.first_calls.called(call.variant)
    record = reply_record(call, reply, run_id=session.run_id, time_scale=session.time_scale, first=first)
    session.add(record)
    if record.outcome == "gateway_timeout":
        # It leaves a started environment for the next call.
        let_function_end(session, record)
    return record


def _judge(session: Session, one: Progression, *, say: bool) -> None:
    reason = reason_to_stop(one.taken, one.latencies_ms, session.configuration.experiments.warm)
    if reason is None:
        return
    one.over = True
    if say:
        why, width = reason
        interval = "too few for an interval" if width is None else f"median known to +- {width:.1f} %"
        _stop(session, one, why, f"{len(one.latencies_ms)} warm of {one.taken} samples; {interval}", width)


def _give_up(session: Session, one: Progression) -> None:
    one.over = True
    outcome = session.log.latest_outcome("warm", one.series.variant)
    _stop(session, one, "cannot_run", f"{outcome} several times in a row: not tried again", None)


def _stop(session: Session, one: Progression, reason: StopReason, detail: str, width: float | None) -> None:
    series = one.series
    session.stop(
        Stop(
            "warm",
            "sequential",
            series.variant.key,
            series.connection,
            reason,
            detail,
            len(one.latencies_ms),
            width,
        )
    )
