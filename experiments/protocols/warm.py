"""Warm calls: GET on the REST endpoint, one after another, over a kept connection and over a new one each time.

The execution environment is the unit of evidence: some environments are faster than others by chance. So the
samples of a variant are spread over several environments, each started by a forced update. Within an environment,
rounds visit every variant and kind of connection once, in random order, so that a drift of the machine or the network
affects all alike. Warm-ups are labeled and excluded later. A sample that came out cold is kept and labeled by its
evidence; it counts neither towards the samples nor towards the interval.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.configuration import PILOT_CALLS, WarmTable
from core.run.records import ClientRecord
from core.run.stops import Stop, StopReason
from core.statistics.deciding import Decision, EnvironmentCalls, Goal, calls_of_next, costs_more, decide
from core.statistics.intervals import environments_half_width_percent, median_half_width_percent
from core.variants import Variant
from experiments.aws.http_timing import Connection, Reply
from experiments.aws.lambda_control import Nonces
from experiments.plan import (
    PARALLEL_WARMUPS,
    PlannedCall,
    Series,
    all_series,
    deciding_on,
    planned_environments,
    shuffled,
)
from experiments.protocols.gateway_timeouts import keep_reply
from experiments.session import Session
from loadtests.plan import gateway_patience_s


@dataclass
class Progression:
    """How far one series is."""

    series: Series
    table: WarmTable
    goal: Goal | None = None  # what its calls are to decide; None where the plan fixes their number
    environments: dict[str, EnvironmentCalls] = field(default_factory=dict)  # by the id that the handler answers
    taken: int = 0  # samples sent, whatever their outcome
    environment: int = 0  # number of the planned environment that answers the next sample
    begins_at: int = 0  # the first sample of that environment, and of the next one
    ends_at: int = 0
    over: bool = False
    decision: Decision | None = None
    _present: str = ""

    def __post_init__(self) -> None:
        self.ends_at = self._calls_here()

    @property
    def counted(self) -> int:
        return sum(len(one.latencies_ms) for one in self.environments.values())

    @property
    def latencies_ms(self) -> list[list[float]]:
        """Return the samples that count, by environment."""
        return [one.latencies_ms for one in self.environments.values() if one.latencies_ms]

    @property
    def between_environments(self) -> bool:
        """Whether the planned environments before this one are complete."""
        return self.taken == self.begins_at

    def next_sample(self) -> PlannedCall:
        return self.series.sample(self.environment, self.taken)

    def keep(self, record: ClientRecord) -> None:
        """Take in the next sample's record.

        A resumed run finishes a planned environment in a new one, so samples are grouped by the handler's id. A failed
        call tells no id: it belongs to the environment that answered before it.
        """
        if record.handler is not None:
            self._present = record.handler.environment_id
        group = self.environments.setdefault(self._present or f"planned-{self.environment}", EnvironmentCalls())
        if record.outcome != "ok":
            group.failed += 1
        elif is_warm_sample(record) and record.client_latency_ms is not None:
            group.latencies_ms.append(record.client_latency_ms)
            if record.handler is not None:
                group.handler_ms.append(record.handler.handler_ms)
        self.taken += 1
        if self.taken == self.ends_at:
            self.environment, self.begins_at, self._present = self.environment + 1, self.taken, ""
            self.ends_at += self._calls_here()

    def _calls_here(self) -> int:
        """Return how many samples the environment that begins now answers; it follows from those before it alone."""
        if not self.table.until_decided:
            return self.table.first_sample_of(self.environment + 1) - self.taken
        left = max(1, self.table.max_samples - self.taken)
        if self.goal is None or self.environment < self.table.environments:
            return min(left, PILOT_CALLS)
        return calls_of_next(list(self.environments.values()), self.goal, left)


def is_warm_sample(record: ClientRecord) -> bool:
    """Whether a record counts towards warm statistics: answered well, by an environment that had answered before.

    An answer that says nothing of its environment counts here, where only the end of a series depends on it.
    """
    return record.outcome == "ok" and not record.warmup and (record.handler is None or not record.handler.cold)


def reason_to_stop(taken: int, latencies_ms: Sequence[Sequence[float]], table: WarmTable) -> StopReason | None:
    """Return why a series is over; None while it continues.

    `latencies_ms` holds the counted samples by environment. The interval is looked at from `samples` on, and then only
    where an environment is complete: looking early and often would favor lucky moments.
    """
    if sum(map(len, latencies_ms)) >= table.samples:
        if not table.until_ci_percent:
            return "samples"
        complete = table.environments == 1 or table.environment_of(taken) != table.environment_of(taken - 1)
        width = half_width_percent(latencies_ms, table)
        if complete and width is not None and width <= table.until_ci_percent:
            return "ci_reached"
    return "max_samples" if taken >= most_samples(table) else None


def half_width_percent(latencies_ms: Sequence[Sequence[float]], table: WarmTable) -> float | None:
    """Return the half-width of the median's interval in percent; None with too few samples."""
    if table.environments > 1:
        return environments_half_width_percent(latencies_ms)
    return median_half_width_percent([one for samples in latencies_ms for one in samples])


def most_samples(table: WarmTable) -> int:
    """Where a series ends at the latest. Cold and failed samples do not count, but are bounded too."""
    return table.max_samples if table.until_ci_percent else min(table.max_samples, 2 * table.samples)


def run_warm(session: Session) -> None:
    """Sample in one environment of every variant after another until every series has a reason to stop."""
    table = session.configuration.experiments.warm
    connections = _Connections(session)
    try:
        progressions = [_so_far(session, one) for one in all_series(session.configuration)]
        left = sum(_calls_left(one) for one in progressions)
        session.progress.phase("warm", left, then_s=session.then_s)
        with session.nonces() as nonces:
            while open_ones := _undecided(session, progressions) if table.until_decided else _open(progressions):
                environment = min(one.environment for one in open_ones)
                # A resumed run takes up the environment that was interrupted: who is ahead waits for the others.
                present = [one for one in open_ones if one.environment == environment]
                _start_environments(session, present, connections, nonces)
                _sample(session, present, environment, connections)
        session.progress.end_phase()
    finally:
        connections.close()


def _open(progressions: Sequence[Progression]) -> list[Progression]:
    return [one for one in progressions if not one.over]


def _calls_left(one: Progression) -> int:
    if one.over:
        return 0
    sizes = planned_environments(one.table, one.goal)
    return max(0, sum(sizes) - one.taken) + max(0, len(sizes) - one.environment) * one.table.warmups


def _undecided(session: Session, progressions: Sequence[Progression]) -> list[Progression]:
    """Eliminate decided variants, and return the series that continue; looks only between environments.

    E. Even-Dar, S. Mannor and Y. Mansour, "Action Elimination and Stopping Conditions for the Multi-Armed Bandit and
    Reinforcement Learning Problems", Journal of Machine Learning Research 7 (2006), 1079-1105.
    """
    looked_at = [one for one in _open(progressions) if one.between_environments and one.environment]
    for one in looked_at:
        if one.environment >= one.table.environments:
            _look(session, one)
    met = [one for one in progressions if one.decision == "meets"]
    for one in looked_at:
        open_still = not one.over and one.goal is not None
        rivals = sum(other.goal is not None for other in progressions) - 1
        cheaper = next((other for other in met if open_still and _costs_more(session, one, other, rivals)), None)
        if cheaper is not None:
            detail = f"costs more per call than {cheaper.series.variant.display_name}, which meets the goal"
            _end(session, one, "dearer", detail)
    return _open(progressions)


def _look(session: Session, one: Progression) -> None:
    """Judge one series by its own calls."""
    calls = f"{one.taken} calls in {len(one.environments)} environments"
    if one.goal is None:
        _end(session, one, "samples", f"{calls}; calls on this kind of connection decide nothing")
        return
    model = session.configuration.model(one.series.variant.model)
    least = session.configuration.goal.min_top1_accuracy
    if model.top1_accuracy is not None and model.top1_accuracy < least:
        _end(session, one, "fails", f"top-1 accuracy {model.top1_accuracy:g} is below the goal's {least:g}")
        return
    groups = list(one.environments.values())
    one.decision = decide(groups, one.goal)
    bad = f"{sum(group.bad(one.goal.limit_ms) for group in groups)} of {calls} were bad"
    if one.decision is not None:
        _end(session, one, one.decision, bad)
    elif one.taken >= one.table.max_samples:
        _end(session, one, "max_samples", f"{bad}: undecided")


def _costs_more(session: Session, one: Progression, other: Progression, rivals: int) -> bool:
    mine, theirs = (
        of.memory_mb * session.meter.prices.gb_second_usd(of.architecture)
        for of in (one.series.variant, other.series.variant)
    )
    return costs_more(list(one.environments.values()), list(other.environments.values()), mine / theirs, rivals=rivals)


def _end(session: Session, one: Progression, reason: StopReason, detail: str) -> None:
    """End a series, and keep why."""
    one.over = True
    series, width = one.series, half_width_percent(one.latencies_ms, one.table)
    session.stop(Stop("warm", "sequential", series.variant.key, series.connection, reason, detail, one.counted, width))


class _Connections:
    """One kept connection a variant, and new ones on request."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: dict[str, Connection] = {}
        self._timeout_s = gateway_patience_s(session.configuration.gateway)

    def get(self, call: PlannedCall) -> Reply:
        if call.connection == "new":
            with contextlib.closing(self._open(call.variant)) as fresh:
                return fresh.get()
        kept = self._kept.setdefault(call.variant.key, self._open(call.variant))
        kept.ensure()
        return kept.get()

    def close(self) -> None:
        for connection in self._kept.values():
            connection.close()

    def _open(self, variant: Variant) -> Connection:
        deployment = self._session.services.deployment
        return Connection(deployment.url(variant), deployment.access(variant), timeout_s=self._timeout_s)


def _so_far(session: Session, series: Series) -> Progression:
    """Return what an earlier attempt of this run has measured already."""
    progression = Progression(series, *deciding_on(session.configuration, series.connection))
    while (record := session.log.records.get(progression.next_sample().call_id)) is not None:
        progression.keep(record)
    table = progression.table
    if not table.until_decided:
        progression.over = reason_to_stop(progression.taken, progression.latencies_ms, table) is not None
    return progression


def _start_environments(
    session: Session, progressions: Sequence[Progression], connections: _Connections, nonces: Nonces
) -> None:
    """Start a new environment for each variant and make the warm-ups of its series.

    A resumed run finds its environments gone, so it starts a new one and makes labeled calls before it samples on.
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
    if table.replaces_environments:
        nonces.force(variant, f"warm/{environment}")
    for one in progressions:
        for call in _warmups(session, one.series, environment, table.warmups):
            if not ended.is_set() and not session.log.cannot_run("warm", variant):
                _send(session, call, connections)
            session.progress.advance(1, variant.display_name)


def _warmups(session: Session, series: Series, environment: int, count: int) -> list[PlannedCall]:
    """Return the warm-ups of an environment that have no record, and at least one where all of them have."""

    def undone(numbers: Iterable[int]) -> Iterator[PlannedCall]:
        calls = (series.warmup(environment, number) for number in numbers)
        return (call for call in calls if not session.log.is_done(call.call_id))

    return list(undone(range(count))) or [next(undone(itertools.count(count)))]


def _sample(session: Session, progressions: Sequence[Progression], environment: int, connections: _Connections) -> None:
    """Sample in rounds until each series is over or due for its next environment."""
    seed = session.configuration.experiments.seed
    while here := [one for one in progressions if not one.over and one.environment == environment]:
        place = min(one.taken - one.begins_at for one in here)
        present = {one.series.key: one for one in here if one.taken - one.begins_at == place}
        number = min(one.taken for one in present.values())
        for key in shuffled(sorted(present), seed, "warm", number):
            one = present[key]
            if session.log.cannot_run("warm", one.series.variant):
                _end(session, one, "cannot_run", session.log.why_it_cannot_run("warm", one.series.variant))
            else:
                one.keep(_send(session, one.next_sample(), connections))
                if not one.table.until_decided:
                    _judge(session, one)
            session.progress.advance(1, one.series.variant.display_name)


def _send(session: Session, call: PlannedCall, connections: _Connections) -> ClientRecord:
    first = session.services.first_calls.is_first(call.variant)
    return keep_reply(session, call, connections.get(call), first=first)


def _judge(session: Session, one: Progression) -> None:
    reason = reason_to_stop(one.taken, one.latencies_ms, one.table)
    if reason is not None:
        width = half_width_percent(one.latencies_ms, one.table)
        interval = "too few for an interval" if width is None else f"median known to +- {width:.1f}%"
        samples = f"{one.counted} warm of {one.taken} samples in {len(one.latencies_ms)} environments"
        _end(session, one, reason, f"{samples}; {interval}")
