"""Warm calls: GET on the REST endpoint, one after another, over a kept connection and over a new one each time.

The execution environment is the unit of evidence: how fast it runs is partly luck that all of its calls share. So the
samples of a variant are spread over several environments, each started by a forced update. Within an environment,
rounds visit every variant and kind of connection once, in random order, so that a drift of the machine or the network
affects all alike. Warm-ups are labelled and excluded later. A sample that came out cold is kept and labelled by its
evidence; it counts neither towards the samples nor towards the interval.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.configuration import WarmTable
from core.intervals import environments_half_width_percent, median_half_width_percent
from core.records import ClientRecord
from core.stops import Stop, StopReason
from core.variants import Variant
from experiments.aws.http_timing import Connection, Reply
from experiments.aws.lambda_control import Nonces
from experiments.plan import PARALLEL_WARMUPS, PlannedCall, Series, all_series, shuffled
from experiments.protocols.gateway_timeouts import let_function_end
from experiments.protocols.recording import reply_record
from experiments.session import Session
from loadtests.plan import gateway_patience_s


@dataclass
class Progression:
    """How far one series is."""

    series: Series
    samples_per_environment: int
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)  # by environment
    taken: int = 0  # samples sent, whatever their outcome
    over: bool = False

    @property
    def environment(self) -> int:
        """Return the number of the environment that answers the next sample."""
        return self.taken // self.samples_per_environment

    @property
    def counted(self) -> int:
        return sum(map(len, self.latencies_ms.values()))

    def next_sample(self) -> PlannedCall:
        return self.series.sample(self.environment, self.taken)

    def keep(self, record: ClientRecord) -> None:
        environment = self.environment
        self.taken += 1
        if is_warm_sample(record) and record.client_latency_ms is not None:
            self.latencies_ms.setdefault(environment, []).append(record.client_latency_ms)


def is_warm_sample(record: ClientRecord) -> bool:
    """Whether a record counts towards warm statistics: answered well, by an environment that had answered before.

    An answer that says nothing of its environment counts here, where only the end of a series depends on it.
    """
    return record.outcome == "ok" and not record.warmup and (record.handler is None or not record.handler.cold)


def reason_to_stop(
    taken: int, latencies_ms: Mapping[int, Sequence[float]], table: WarmTable
) -> tuple[StopReason, float | None] | None:
    """Return why a series is over and the half-width of its median's interval in percent; None while it goes on.

    `latencies_ms` holds the counted samples by environment. The interval is looked at from `samples` on, and then only
    where an environment is complete: looking early and often would favour lucky moments.
    """
    width = half_width_percent(latencies_ms, table)
    if sum(map(len, latencies_ms.values())) >= table.samples:
        if not table.until_ci_percent:
            return "samples", width
        complete = table.environments == 1 or taken % table.samples_per_environment == 0
        if complete and width is not None and width <= table.until_ci_percent:
            return "ci_reached", width
    return ("max_samples", width) if taken >= most_samples(table) else None


def half_width_percent(latencies_ms: Mapping[int, Sequence[float]], table: WarmTable) -> float | None:
    """Return the half-width of the median's interval in percent; None where there is too little to tell."""
    if table.environments > 1:
        return environments_half_width_percent(list(latencies_ms.values()))
    return median_half_width_percent([one for samples in latencies_ms.values() for one in samples])


def most_samples(table: WarmTable) -> int:
    """Where a series ends at the latest. Cold and failed samples do not count, but are bounded too."""
    return table.max_samples if table.until_ci_percent else min(table.max_samples, 2 * table.samples)


def run_warm(session: Session) -> None:
    """Sample in one environment of every variant after another until every series has a reason to stop."""
    table = session.configuration.experiments.warm
    connections = _Connections(session)
    try:
        progressions = [_so_far(session, one, table) for one in all_series(session.configuration)]
        session.progress.phase("warm", _calls_left(progressions, table), then_s=session.then_s)
        with Nonces(session.services.control, session.run_id) as nonces:
            while open_ones := [one for one in progressions if not one.over]:
                environment = min(one.environment for one in open_ones)
                # A resumed run takes up the environment that was interrupted: who is ahead waits for the others.
                present = [one for one in open_ones if one.environment == environment]
                _start_environments(session, present, connections, nonces)
                _sample(session, present, environment, connections)
        session.progress.end_phase()
    finally:
        connections.close()


def _calls_left(progressions: Sequence[Progression], table: WarmTable) -> int:
    bound = table.max_samples if table.until_ci_percent else table.samples
    samples = [max(0, bound - one.taken) for one in progressions if not one.over]
    return sum(left + math.ceil(left / table.samples_per_environment) * table.warmups for left in samples)


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
        deployment = self._session.services.deployment
        return Connection(deployment.url(variant), timeout_s=self._timeout_s, headers=deployment.headers(variant))


def _so_far(session: Session, series: Series, table: WarmTable) -> Progression:
    """Return what an earlier attempt of this run has measured already."""
    progression = Progression(series, table.samples_per_environment)
    while (record := session.log.records.get(progression.next_sample().call_id)) is not None:
        progression.keep(record)
    _judge(session, progression, say=False)
    return progression


def _start_environments(
    session: Session, progressions: Sequence[Progression], connections: _Connections, nonces: Nonces
) -> None:
    """Start a new environment for each variant and make the warm-ups of its series.

    A resumed run finds its environments gone, so it starts a new one and makes labelled calls before it samples on.
    """
    by_variant: dict[str, list[Progression]] = {}
    for one in progressions:
        by_variant.setdefault(one.series.variant.key, []).append(one)
    ended = threading.Event()
    with ThreadPoolExecutor(max_workers=PARALLEL_WARMUPS) as pool:
        work = [
            pool.submit(_start_environment, session, members, connections, nonces, ended)
            for members in by_variant.values()
        ]
        try:
            for one_variant in work:
                one_variant.result()
        finally:
            ended.set()


def _start_environment(
    session: Session,
    progressions: Sequence[Progression],
    connections: _Connections,
    nonces: Nonces,
    ended: threading.Event,
) -> None:
    table = session.configuration.experiments.warm
    variant, environment = progressions[0].series.variant, progressions[0].environment
    if ended.is_set() or session.log.cannot_run("warm", variant):
        return
    if table.environments > 1:
        nonces.force(variant, f"warm/{environment}")
    for one in progressions:
        for call in _warmups(session, one.series, environment, table.warmups):
            if not ended.is_set() and not session.log.cannot_run("warm", variant):
                _send(session, call, connections)
            session.progress.advance(1, variant.display_name)


def _warmups(session: Session, series: Series, environment: int, count: int) -> list[PlannedCall]:
    """Return the warm-ups of an environment that have no record, and at least one where all of them have."""
    todo = [
        call for number in range(count) if not session.log.is_done((call := series.warmup(environment, number)).call_id)
    ]
    number = count
    while not todo:
        if not session.log.is_done((call := series.warmup(environment, number)).call_id):
            todo.append(call)
        number += 1
    return todo


def _sample(session: Session, progressions: Sequence[Progression], environment: int, connections: _Connections) -> None:
    """Sample in rounds until each series is over or due for its next environment."""
    seed = session.configuration.experiments.seed
    while here := [one for one in progressions if not one.over and one.environment == environment]:
        number = min(one.taken for one in here)
        present = {one.series.key: one for one in here if one.taken == number}
        for key in shuffled(sorted(present), seed, "warm", number):
            one = present[key]
            if session.log.cannot_run("warm", one.series.variant):
                _give_up(session, one)
            else:
                one.keep(_send(session, one.next_sample(), connections))
                _judge(session, one, say=True)
            session.progress.advance(1, one.series.variant.display_name)


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
        _stop(
            session,
            one,
            why,
            f"{one.counted} warm of {one.taken} samples in {len(one.latencies_ms)} environments; {interval}",
            width,
        )


def _give_up(session: Session, one: Progression) -> None:
    one.over = True
    outcome = session.log.latest_outcome("warm", one.series.variant)
    _stop(session, one, "cannot_run", f"{outcome} several times in a row; not retried", None)


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
            one.counted,
            width,
        )
    )
