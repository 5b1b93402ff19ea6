"""Simulate a month of traffic: what callers get, and what it costs.

A month is simulated several times. Each replicate draws its own bootstrap sample of the measured calls, its own idle
life and its own burstiness from the ranges given, so the spread of the replicates is the uncertainty of the answer. The
same seed gives every variant and strategy the same arrivals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from core.money.charges import (
    BYTES_PER_GB,
    SECONDS_PER_MONTH,
    FrontDoor,
    compute_usd,
    front_door_usd,
    lambda_month_usd,
    logs_usd,
    provisioned_duration_usd,
    snapstart_usd,
)
from core.money.prices import Prices, gb_seconds
from simulation import kernel
from simulation.arrivals import DAY_S, HOUR_S, Arrivals, Shaped, blocks
from simulation.kernel import State
from simulation.pool import (
    Calls,
    NotMeasuredError,
    Pool,
    Provisioned,
    Samples,
    SnapStart,
    Strategy,
    TargetTracking,
    WarmPings,
)
from simulation.sketch import quantile_ms, share_over

DAYS_PER_MONTH: Final = SECONDS_PER_MONTH / DAY_S
CHOICES: Final = {"newest_first": kernel.NEWEST_FIRST, "oldest_first": kernel.OLDEST_FIRST, "random": kernel.RANDOM}
NO_CALLS: Final = np.empty(0)


@dataclass(frozen=True)
class Billing:
    """What the price of a variant depends on besides its calls."""

    memory_mb: int
    architecture: str
    log_bytes: float = 0.0  # per call
    image_gb: float = 0.0
    free_tier: bool = False


@dataclass(frozen=True)
class Effort:
    """How much is simulated.

    A replicate covers whole periods of the arrivals' shape (a day, or a week where days differ) until it has
    `min_requests`, at most a month. With more than `max_requests` in one period, only a part of each hour is played, at
    its true rate.
    """

    replicates: int = 20
    min_requests: int = 20_000
    max_requests: int = 1_000_000


@dataclass(frozen=True)
class Band:
    """A figure with the range that 90% of the replicates fall into."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Month:
    """A month under one strategy. Shares are of all callers; each caller counts once, whatever it retries.

    `missed_share` is the share of callers without a correct answer within `limit_ms`. Percentiles count a caller that
    never gets a correct answer as infinitely slow. Per-replicate values stay, for comparing strategies draw by draw.
    """

    strategy: Strategy
    requests: float
    limit_ms: float
    p50_ms: Band
    p99_ms: Band
    missed_share: Band
    cold_share: Band  # of the calls that ran
    peak_concurrency: Band
    usd: Band
    parts: dict[str, Band]
    simulated_requests: int


@dataclass(frozen=True)
class _Replicate:
    counters: npt.NDArray[np.float64]
    latencies: npt.NDArray[np.float64]
    parts: dict[str, float]
    per_month: float  # how many times the simulated traffic fits into a month
    simulated: int  # callers, before the counters were scaled to whole hours

    @property
    def usd(self) -> float:
        return sum(self.parts.values())


def simulate(
    samples: Samples,
    arrivals: Arrivals,
    pool: Pool,
    strategy: Strategy,
    billing: Billing,
    prices: Prices,
    *,
    limit_ms: float,
    seed: int,
    effort: Effort = Effort(),
) -> Month:
    """Simulate a month. Raises NotMeasuredError where the strategy needs samples that are missing."""
    starts = _starts(samples, strategy)
    seeds = np.random.SeedSequence(seed).spawn(effort.replicates)
    idle_minutes = _stratified(pool.idle_minutes, effort.replicates, seed)
    burstiness = _stratified(arrivals.burstiness, effort.replicates, seed + 1) if isinstance(arrivals, Shaped) else None
    replicates = []
    for index, own in enumerate(seeds):
        state, covered_s, hour_s = play_replicate(
            (samples.warm, starts),
            arrivals,
            pool,
            strategy,
            own,
            idle_s=60 * idle_minutes[index],
            burstiness=1.0 if burstiness is None else burstiness[index],
            effort=effort,
        )
        per_month = SECONDS_PER_MONTH / (covered_s * HOUR_S / hour_s)
        simulated = int(state.counters[kernel.CALLERS])
        if hour_s < HOUR_S:
            state.counters[: kernel.PEAK] *= HOUR_S / hour_s
            state.counters[kernel.COUNTERS :] *= HOUR_S / hour_s
            state.latencies[:] *= HOUR_S / hour_s
        parts = month_parts(state.counters, per_month, pool.front_door, strategy, billing, prices)
        replicates.append(_Replicate(state.counters, state.latencies, parts, per_month, simulated))
    return _month(replicates, strategy, limit_ms)


def _starts(samples: Samples, strategy: Strategy) -> Calls:
    """Return the calls that start an environment under a strategy."""
    if not len(samples.warm):
        raise NotMeasuredError("no warm call was measured")
    restores = isinstance(strategy, SnapStart)
    starts = samples.restored if restores else samples.cold
    if starts is None or not len(starts):
        kind = "restore from a snapshot" if restores else "cold start"
        raise NotMeasuredError(f"no {kind} was measured, so its latency and price are unknown")
    return starts


def _stratified(bounds: tuple[float, float], count: int, seed: int) -> npt.NDArray[np.float64]:
    """Return draws of a log-uniform distribution, one from each of `count` equal parts, in random order."""
    random = np.random.default_rng(seed)
    places = (random.permutation(count) + 0.5) / count
    low, high = np.log(bounds)
    return np.asarray(np.exp(low + places * (high - low)), dtype=np.float64)


def _extent(arrivals: Arrivals, effort: Effort, strategy: Strategy) -> tuple[float, float]:
    """Return how many seconds a replicate covers, and how much of each hour is played."""
    if not isinstance(arrivals, Shaped):
        return arrivals.duration_s, HOUR_S
    days = arrivals.days_in_period
    while days * arrivals.requests_per_day < effort.min_requests and days + arrivals.days_in_period <= DAYS_PER_MONTH:
        days += arrivals.days_in_period
    part = min(1.0, effort.max_requests / (days * arrivals.requests_per_day))
    if isinstance(strategy, TargetTracking):
        part = 1.0  # its minutes cannot be shortened
    return days * DAY_S * part, HOUR_S * part


def play_replicate(
    calls: tuple[Calls, Calls],
    arrivals: Arrivals,
    pool: Pool,
    strategy: Strategy,
    seed: np.random.SeedSequence,
    *,
    idle_s: float,
    burstiness: float,
    effort: Effort,
) -> tuple[State, float, float]:
    """Play one replicate; return its state, the seconds that it covers, and how much of each hour was played.

    Its pool is filled before moment 0 by the traffic that comes before it.
    """
    # Three streams, so that arrivals are the same whatever the pool does with them.
    of_samples, of_arrivals, of_pool = (np.random.default_rng(child) for child in seed.spawn(3))
    warm, cold = (each.resampled(of_samples, pool.limit_s) for each in calls)
    until_s, hour_s = _extent(arrivals, effort, strategy)
    from_s = -min(1.5 * idle_s, 24 * hour_s) if isinstance(arrivals, Shaped) else 0.0
    rules = _rules(pool, strategy, idle_s, hour_s)
    state = kernel.new_state(rules, strategy.count if isinstance(strategy, WarmPings) else 0, from_s, of_pool)
    levels = np.zeros(1)
    if isinstance(strategy, Provisioned):
        levels = np.array(strategy.levels, dtype=np.float64)
    stream = blocks(arrivals, of_arrivals, from_s=from_s, until_s=until_s, hour_s=hour_s, burstiness=burstiness)
    for block in stream:
        kernel.play(block, block[-1], rules, state, warm, cold, levels, of_pool)
    kernel.play(NO_CALLS, until_s, rules, state, warm, cold, levels, of_pool)
    kernel.bill_provisioned(until_s, state.scalars, state.counters)
    # Callers whose retries are still due get their last attempts after the end.
    kernel.drain(rules, state, warm, cold, levels, of_pool)
    return state, until_s, hour_s


def _rules(pool: Pool, strategy: Strategy, idle_s: float, hour_s: float) -> kernel.Rules:
    tracking = strategy if isinstance(strategy, TargetTracking) else None
    pings = strategy if isinstance(strategy, WarmPings) else None
    # Each other type of a field would be another program to compile, which takes seconds.
    return kernel.Rules(
        idle_s=float(idle_s),
        choice=CHOICES[pool.choice],
        concurrency=pool.concurrency,
        scaling_burst=float(pool.scaling_burst),
        scaling_per_s=float(pool.scaling_per_s),
        max_retries=pool.caller_retries,
        backoff_s=float(pool.caller_backoff_s),
        hour_s=float(hour_s),
        target=float(tracking.target) if tracking else 0.0,
        min_provisioned=float(tracking.minimum) if tracking else 0.0,
        max_provisioned=float(tracking.maximum) if tracking else 0.0,
        allocation_s=float(tracking.allocation_s) if tracking else 0.0,
        ping_every_s=60.0 * pings.every_minutes if pings else math.inf,
        ping_spread_s=float(pings.spread_s) if pings else 0.0,
        ping_hold_s=pings.hold_ms / 1000 if pings else 0.0,
    )


def month_parts(
    counters: npt.NDArray[np.float64],
    per_month: float,
    front_door: FrontDoor,
    strategy: Strategy,
    billing: Billing,
    prices: Prices,
) -> dict[str, float]:
    """Price the counters of a simulation, scaled to a month: USD by part."""
    of = counters * per_month
    memory_mb, architecture = billing.memory_mb, billing.architecture
    on_demand_ms = of[kernel.WARM_BILLED_MS] + of[kernel.COLD_BILLED_MS] + of[kernel.PINGS_BILLED_MS]
    invokes = float(of[kernel.CALLS] + of[kernel.PINGS])
    amount = gb_seconds(memory_mb, float(on_demand_ms))
    parts: dict[str, float] = {}
    if isinstance(strategy, Provisioned | TargetTracking):
        # The free tier does not apply to functions with provisioned concurrency.
        parts["compute"] = compute_usd(amount, architecture, prices)
        parts["requests"] = invokes / 1e6 * prices["requests_per_million_usd"]
        kept = gb_seconds(memory_mb, 1000 * float(of[kernel.PROVISIONED_S]))
        parts["provisioned"] = kept * prices[f"{architecture}_provisioned_gb_second_usd"]
        used = gb_seconds(memory_mb, float(of[kernel.PROVISIONED_BILLED_MS]))
        parts["provisioned_duration"] = provisioned_duration_usd(used, architecture, prices)
    else:
        parts["compute"], parts["requests"] = lambda_month_usd(
            invokes, amount, architecture, prices, free_tier=billing.free_tier
        )
    if isinstance(strategy, SnapStart):
        cache, restores = snapstart_usd(memory_mb, SECONDS_PER_MONTH, float(of[kernel.COLD]), prices)
        parts |= {"snapstart_cache": cache, "snapstart_restore": restores}
    if isinstance(strategy, WarmPings):
        parts["pings"] = float(of[kernel.PINGS]) / 1e6 * prices["scheduler_per_million_usd"]
    log_bytes = invokes * billing.log_bytes
    kept_logs = log_bytes / BYTES_PER_GB * prices["logs_stored_gb_month_usd"]
    return parts | {
        "front_door": front_door_usd(float(of[kernel.CALLERS] + of[kernel.RETRIES]), front_door, prices),
        "logs": logs_usd(log_bytes, prices) + kept_logs,
        "storage": billing.image_gb * prices["ecr_gb_month_usd"],
    }


def _month(replicates: Sequence[_Replicate], strategy: Strategy, limit_ms: float) -> Month:
    pooled = np.sum([one.latencies for one in replicates], axis=0)
    never = float(sum(one.counters[kernel.GAVE_UP] for one in replicates))

    def percentile(share: float) -> Band:
        own = [quantile_ms(one.latencies, float(one.counters[kernel.GAVE_UP]), share) for one in replicates]
        return _band(own, quantile_ms(pooled, never, share))

    def mean(own: Sequence[float]) -> Band:
        return _band(own, float(np.mean(own)))

    def missed(one: _Replicate) -> float:
        return share_over(one.latencies, float(one.counters[kernel.GAVE_UP]), limit_ms)

    peaks = [float(one.counters[kernel.PEAK]) for one in replicates]
    requests = float(np.mean([one.counters[kernel.CALLERS] * one.per_month for one in replicates]))
    return Month(
        strategy=strategy,
        requests=requests,
        limit_ms=limit_ms,
        p50_ms=percentile(0.50),
        p99_ms=percentile(0.99),
        missed_share=_band([missed(one) for one in replicates], share_over(pooled, never, limit_ms)),
        cold_share=mean([one.counters[kernel.COLD] / max(one.counters[kernel.CALLS], 1.0) for one in replicates]),
        peak_concurrency=_band(peaks, max(peaks)),
        usd=mean([one.usd for one in replicates]),
        parts={part: mean([one.parts[part] for one in replicates]) for part in replicates[0].parts},
        simulated_requests=sum(one.simulated for one in replicates),
    )


def _band(own: Sequence[float], value: float) -> Band:
    low, high = np.quantile(own, [0.05, 0.95], method="closest_observation")
    return Band(value, float(low), float(high))
