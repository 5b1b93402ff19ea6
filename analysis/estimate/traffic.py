"""How often traffic meets a cold start, and what a month of it costs by three ways of keeping environments warm.

No I/O. The model, hour by hour: requests arrive as a Poisson process of rate `a`, each keeps one environment busy for
an exponential service time of mean `s`, an environment idle for longer than `T` is reclaimed, and the environment that
became idle last is used first (as the lab does; AWS does not say).

With N(t) requests in progress, an environment becomes idle when N falls from n + 1 to n, and lies on a stack of idle
ones. Every environment put on that stack later is taken off before N next rises from n to n + 1, so at that rise it is
on top again: it has been idle for exactly the first-passage time of N from n to n + 1. If that took longer than T it is
gone, and so is everything below it, which is older: the rise is a cold start. Rises from n happen at rate a P(N = n),
with N Poisson of mean a s (the M/M/inf queue). Hence

    cold share = sum over n of P(N = n) P(first passage from n to n + 1 > T).

For rare requests this is exp(-a T), the probability of a gap longer than T. First passage: J. Keilson, Markov Chain
Models, Rarity and Exponentiality (1979), chapter 5; the same question by simulation and for other disciplines:
N. Mahmoudi and H. Khazaei, Performance Modeling of Serverless Computing Platforms, IEEE Transactions on Cloud Computing
10 (2022). Neglected: that a cold start itself keeps its environment busy for longer, and that requests may come in
bursts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal
from scipy.special import gammaln, pdtr

from analysis.summary import BreakEven, CostCurve, MonthlyCost, Strategy
from core.charges import (
    BYTES_PER_GB,
    SECONDS_PER_MONTH,
    compute_usd,
    lambda_month_usd,
    logs_usd,
    provisioned_duration_usd,
    provisioned_usd,
)
from core.prices import Prices, gb_seconds
from simulation.erlang import cheapest_level, erlang_b

DAYS_PER_MONTH: Final = SECONDS_PER_MONTH / 86_400
# Weights of the hours of a day: eight hours of full work, shoulders, a quiet night.
BUSINESS_HOURS: Final = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 20, 18, 18, 20, 20, 18, 14, 8, 5, 4, 3, 2, 1)
PING_MARGIN: Final = 0.8  # pings come at this share of the idle time, so that a late one still finds its environment
MAX_ENVIRONMENTS: Final = 3000
_EXACT_LEVELS: Final = 20
_NEGLIGIBLE: Final = 1e-8
_CERTAIN: Final = 100.0


@dataclass(frozen=True)
class Traffic:
    """Requests of a day, hour by hour, and how long an idle environment lives."""

    requests_per_day: float
    hourly_weights: tuple[float, ...]
    idle_s: float

    @classmethod
    def of(cls, requests_per_day: float, daily_shape: str | Sequence[float], idle_minutes: float) -> Traffic:
        if daily_shape == "flat":
            weights: Sequence[float] = (1.0,) * 24
        elif daily_shape == "business_hours":
            weights = BUSINESS_HOURS
        else:
            weights = [float(weight) for weight in daily_shape]
        total = sum(weights)
        shares = tuple(weight / total for weight in weights) if total > 0 else (1 / 24,) * 24
        return cls(requests_per_day, shares, idle_minutes * 60)

    def scaled(self, requests_per_month: float) -> Traffic:
        """The same shape with another volume."""
        return Traffic(requests_per_month / DAYS_PER_MONTH, self.hourly_weights, self.idle_s)

    @property
    def requests_per_month(self) -> float:
        return self.requests_per_day * DAYS_PER_MONTH

    @property
    def hourly_rates_rps(self) -> tuple[float, ...]:
        return tuple(self.requests_per_day * weight / 3600 for weight in self.hourly_weights)


def first_passage_survival(level: int, rate_rps: float, service_s: float, time_s: float) -> float:
    """P(the M/M/inf queue needs longer than `time_s` from `level` requests in progress to one more), exactly.

    By the spectrum of the absorbed chain 0..level, made symmetric by its stationary weights.
    """
    leave = 1 / service_s
    levels = np.arange(level + 1)
    diagonal = -(rate_rps + levels * leave)
    beside = np.sqrt(rate_rps * levels[1:] * leave)
    values, vectors = eigh_tridiagonal(diagonal, beside)
    # exp(Qt) = D^-1 V exp(t values) V' D, with D^2 the stationary weights (a s)^i / i!.
    logs = 0.5 * (levels * math.log(rate_rps * service_s) - gammaln(levels + 1))
    survival = float((vectors[level] * np.exp(values * time_s)) @ (vectors.T @ np.exp(logs - logs[level])))
    return min(1.0, max(0.0, survival))


@lru_cache(maxsize=4096)
def _cold_by_level(rate_rps: float, service_s: float, idle_s: float) -> npt.NDArray[np.float64]:
    """Terms of the sum that makes the cold share, by level, all levels that matter.

    Beyond the first levels the passage time is exponential to all purposes (Keilson, chapter 8), with the exact mean
    P(N <= n) / (a P(N = n)) of a birth-and-death process.
    """
    load = rate_rps * service_s
    last = math.ceil(load + 12 * math.sqrt(load) + 12)
    levels = np.arange(last + 1)
    probability = np.exp(levels * math.log(load) - load - gammaln(levels + 1))
    # Under heavy load the lowest levels have no probability that a float can hold; they are left out of the sum.
    held = probability > 0
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        mean_s = np.where(held, pdtr(levels, load) / (rate_rps * probability), np.inf)
        survival = np.exp(-idle_s / mean_s)
    for level in range(1, min(_EXACT_LEVELS, last) + 1):
        # Elsewhere the term is nothing, or the passage certain to be over: the exponential law does.
        if probability[level] > _NEGLIGIBLE and idle_s < _CERTAIN * mean_s[level]:
            survival[level] = first_passage_survival(level, rate_rps, service_s, idle_s)
    return np.asarray(probability * survival, dtype=np.float64)


def cold_share(rate_rps: float, service_s: float, idle_s: float, *, kept_warm: int = 0) -> float:
    """Expected share of cold starts; `kept_warm` environments are never reclaimed."""
    if rate_rps <= 0:
        return 0.0 if kept_warm else 1.0
    return min(1.0, float(_cold_by_level(rate_rps, service_s, idle_s)[kept_warm:].sum()))


def daily_cold_share(traffic: Traffic, service_s: float, *, kept_warm: int = 0) -> float:
    """Cold share over a day: the hours' shares weighted by their requests."""
    return sum(
        weight * cold_share(rate, service_s, traffic.idle_s, kept_warm=kept_warm)
        for weight, rate in zip(traffic.hourly_weights, traffic.hourly_rates_rps, strict=True)
        if weight > 0
    )


@dataclass(frozen=True)
class CallMix:
    """What callers meet, as shares of all calls."""

    cold: float
    alone: float  # an idle environment, no other request in progress
    concurrent: float  # an idle environment, others in progress


def call_mix(traffic: Traffic, service_s: float, *, kept_warm: int = 0) -> CallMix:
    """Return what callers meet with so many environments kept warm: the one question asked of the traffic model."""
    cold = daily_cold_share(traffic, service_s, kept_warm=kept_warm)
    busy = sum(
        weight * -math.expm1(-rate * service_s)
        for weight, rate in zip(traffic.hourly_weights, traffic.hourly_rates_rps, strict=True)
    )
    return CallMix(cold=cold, alone=(1 - cold) * (1 - busy), concurrent=(1 - cold) * busy)


def needed_environments(traffic: Traffic, service_s: float, max_cold_share: float) -> int:
    """The fewest environments to keep warm so that the cold share stays within bounds, by bisection."""

    def enough(count: int) -> bool:
        return daily_cold_share(traffic, service_s, kept_warm=count) <= max_cold_share

    if enough(0):
        return 0
    low, high = 0, 1
    while not enough(high):
        low, high = high, high * 2
        if high > MAX_ENVIRONMENTS:
            return MAX_ENVIRONMENTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class CallProfile:
    """What one variant's calls take, as measured: means, since money adds up."""

    variant: str
    memory_mb: int
    architecture: str
    warm_billed_ms: float
    cold_billed_ms: float | None
    log_bytes: float
    image_gb: float = 0.0


def monthly_cost(
    strategy: Strategy,
    profile: CallProfile,
    traffic: Traffic,
    prices: Prices,
    *,
    max_cold_share: float,
    through_gateway: bool = True,
    free_tier: bool = False,
    environments: int | None = None,
    service_ms: float | None = None,
) -> MonthlyCost:
    """USD a month for the traffic. `environments` overrides how many are kept warm (provisioned or pinged).

    Without an override provisioned concurrency and pings keep the fewest environments that hold `max_cold_share`, and
    at least one. `service_ms` is how long a warm call keeps its environment; by default what is billed for it.
    """
    if profile.cold_billed_ms is None:
        return _unknown(strategy, profile, traffic, "no cold start was measured: its billed time is unknown")
    requests, service_s = traffic.requests_per_month, (service_ms or profile.warm_billed_ms) / 1000
    if environments is None:
        environments = 0 if strategy == "on_demand" else max(1, needed_environments(traffic, service_s, max_cold_share))
        if strategy == "provisioned_concurrency":
            # More than the cold share asks for, where a higher level costs less.
            loads = [rate * service_s for rate in traffic.hourly_rates_rps]
            environments = max(environments, cheapest_level(loads, profile.memory_mb, profile.architecture, prices)[0])
    cold = daily_cold_share(traffic, service_s, kept_warm=environments)
    warm_gbs = gb_seconds(profile.memory_mb, profile.warm_billed_ms)
    cold_gbs = gb_seconds(profile.memory_mb, profile.cold_billed_ms)
    parts: dict[str, float] = {}
    calls = requests
    if strategy == "provisioned_concurrency":
        within = sum(
            weight * (1 - erlang_b(environments, rate * service_s))
            for weight, rate in zip(traffic.hourly_weights, traffic.hourly_rates_rps, strict=True)
        )
        over_gbs = requests * (cold * cold_gbs + max(0.0, 1 - within - cold) * warm_gbs)
        # The free tier does not apply to functions with provisioned concurrency.
        compute = compute_usd(over_gbs, profile.architecture, prices)
        parts["provisioned"] = provisioned_usd(
            profile.memory_mb, environments, SECONDS_PER_MONTH, profile.architecture, prices
        )
        parts["provisioned_duration"] = provisioned_duration_usd(
            requests * within * warm_gbs, profile.architecture, prices
        )
        request_fee = requests / 1e6 * prices["requests_per_million_usd"]
    else:
        amount = requests * (cold * cold_gbs + (1 - cold) * warm_gbs)
        if strategy == "warm_pings":
            # A ping that finds no environment idle starts one; in the steady state each is a warm call.
            pings = environments * SECONDS_PER_MONTH / (traffic.idle_s * PING_MARGIN)
            calls += pings
            parts["pings"] = pings / 1e6 * prices["scheduler_per_million_usd"]
            amount += pings * warm_gbs
        compute, request_fee = lambda_month_usd(calls, amount, profile.architecture, prices, free_tier=free_tier)
    parts |= {
        "compute": compute,
        "requests": request_fee,
        "gateway": requests / 1e6 * prices["rest_api_per_million_usd"] if through_gateway else 0.0,
        "logs": logs_usd(calls * profile.log_bytes, prices)
        + calls * profile.log_bytes / BYTES_PER_GB * prices["logs_stored_gb_month_usd"],
        "storage": profile.image_gb * prices["ecr_gb_month_usd"],
    }
    return MonthlyCost(
        variant=profile.variant,
        strategy=strategy,
        usd=sum(parts.values()),
        parts=parts,
        requests=requests,
        expected_cold_share=cold,
        environments=float(environments) if strategy != "on_demand" else requests / SECONDS_PER_MONTH * service_s,
    )


def _unknown(strategy: Strategy, profile: CallProfile, traffic: Traffic, reason: str) -> MonthlyCost:
    return MonthlyCost(
        variant=profile.variant,
        strategy=strategy,
        usd=None,
        parts={},
        requests=traffic.requests_per_month,
        expected_cold_share=daily_cold_share(traffic, profile.warm_billed_ms / 1000),
        environments=None,
        reason=reason,
    )


def break_even(
    below: Strategy,
    above: Strategy,
    profile: CallProfile,
    traffic: Traffic,
    prices: Prices,
    *,
    max_cold_share: float,
    free_tier: bool = False,
    lowest: float = 1e3,
    highest: float = 1e9,
) -> BreakEven:
    """Requests a month from which `above` costs less than `below`, the day's shape unchanged; the lowest crossing.

    Searched on a grid of 4 points a decade between 1e3 and 1e9 requests, then by bisection to 1 %.
    """

    def result(requests: float | None, reason: str = "") -> BreakEven:
        return BreakEven(
            variant=profile.variant,
            cheaper_below=below,
            cheaper_above=above,
            requests_per_month=requests,
            reason=reason,
        )

    if profile.cold_billed_ms is None:
        return result(None, "no cold start was measured")

    @lru_cache(maxsize=256)
    def saving(requests: float) -> float:
        """What `above` saves over `below`, in USD."""
        at = traffic.scaled(requests)
        costs = [
            monthly_cost(strategy, profile, at, prices, max_cold_share=max_cold_share, free_tier=free_tier).usd or 0.0
            for strategy in (below, above)
        ]
        return costs[0] - costs[1]

    grid = np.geomspace(lowest, highest, round(4 * math.log10(highest / lowest)) + 1)
    if saving(float(grid[0])) > 0:
        return result(None, f"cheaper from {lowest:,.0f} requests a month on")
    for low, high in pairwise(grid):
        if saving(float(high)) > 0:
            return result(_bisect(saving, float(low), float(high)))
    return result(None, f"never, to {highest:,.0f} requests a month")


CURVE_REQUESTS_PER_DAY: Final = tuple(float(f"{value:.3g}") for value in np.geomspace(100, 1e7, 16))


def cost_curve(
    strategy: Strategy,
    profile: CallProfile,
    traffic: Traffic,
    prices: Prices,
    *,
    max_cold_share: float,
    free_tier: bool = False,
) -> CostCurve | None:
    """USD a month against requests a day, the day's shape unchanged; None where the price is unknown."""
    usd = []
    for requests_per_day in CURVE_REQUESTS_PER_DAY:
        at = traffic.scaled(requests_per_day * DAYS_PER_MONTH)
        cost = monthly_cost(strategy, profile, at, prices, max_cold_share=max_cold_share, free_tier=free_tier).usd
        if cost is None:
            return None
        usd.append(cost)
    return CostCurve(
        variant=profile.variant, strategy=strategy, requests_per_day=CURVE_REQUESTS_PER_DAY, usd=tuple(usd)
    )


def _bisect(saving: Callable[[float], float], low: float, high: float) -> float:
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if saving(middle) > 0 else (middle, high)
    return high
