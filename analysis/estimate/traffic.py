"""How often traffic meets a cold start.

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
10 (2022). Neglected: that a cold start itself keeps its environment busy for longer.

The formula holds for Poisson arrivals. Where requests come in bursts, the same questions are answered by simulation
(`simulation.levels`), which counts the time of cold starts as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal
from scipy.special import gammaln, pdtr

from core.money.charges import SECONDS_PER_MONTH
from core.variants import Start
from simulation.arrivals import BURST_S, Shaped, on_shares
from simulation.erlang import erlang_b
from simulation.levels import find_levels, share_within
from simulation.search import MAX_LEVEL, lowest_level

DAYS_PER_MONTH: Final = SECONDS_PER_MONTH / 86_400
# Weights of the hours of a day: eight hours of full work, shoulders, a quiet night.
BUSINESS_HOURS: Final = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 20, 18, 18, 20, 20, 18, 14, 8, 5, 4, 3, 2, 1)
PING_MARGIN: Final = 0.8  # pings come at this share of the idle time, so that a late one still finds its environment
_EXACT_LEVELS: Final = 20
_NEGLIGIBLE: Final = 1e-8
_CERTAIN: Final = 100.0


def hourly_weights(daily_shape: str | Sequence[float]) -> tuple[float, ...]:
    """Return the weights of the hours of a day: of "flat", "business_hours", or those given."""
    named = {"flat": (1.0,) * 24, "business_hours": BUSINESS_HOURS}
    shape = named[daily_shape] if isinstance(daily_shape, str) else daily_shape
    return tuple(float(weight) for weight in shape)


@dataclass(frozen=True)
class Traffic:
    """Requests of a day, hour by hour, and how long an idle environment lives.

    `burstiness` is the index of dispersion of the arrivals (`simulation.arrivals`); 1 is a Poisson process.
    """

    requests_per_day: float
    hourly_weights: tuple[float, ...]
    idle_s: float
    burstiness: float = 1.0

    @classmethod
    def of(
        cls, requests_per_day: float, daily_shape: str | Sequence[float], idle_minutes: float, burstiness: float = 1.0
    ) -> Traffic:
        weights = hourly_weights(daily_shape)
        total = sum(weights)
        shares = tuple(weight / total for weight in weights) if total > 0 else (1 / 24,) * 24
        return cls(requests_per_day, shares, idle_minutes * 60, burstiness)

    def scaled(self, requests_per_month: float) -> Traffic:
        """The same shape with another volume."""
        return replace(self, requests_per_day=requests_per_month / DAYS_PER_MONTH)

    @property
    def requests_per_month(self) -> float:
        return self.requests_per_day * DAYS_PER_MONTH

    @property
    def hourly_rates_rps(self) -> tuple[float, ...]:
        return tuple(self.requests_per_day * weight / 3600 for weight in self.hourly_weights)

    @property
    def peak_rps(self) -> float:
        """The rate of the busiest hour, or of its bursts."""
        peak_rps = max(self.hourly_rates_rps)
        return peak_rps / float(on_shares(np.array([peak_rps]), self.burstiness, BURST_S)[0])

    @property
    def is_poisson(self) -> bool:
        return self.burstiness <= 1

    @property
    def arrivals(self) -> Shaped:
        return Shaped(self.hourly_rates_rps * 7, (self.burstiness, self.burstiness), BURST_S)


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


@dataclass(frozen=True)
class Service:
    """How long calls keep their environment, as means in seconds; the formulas neglect that a cold one takes longer."""

    warm_s: float
    cold_s: float


def daily_cold_share(traffic: Traffic, service: Service, *, kept_warm: int = 0) -> float:
    """Cold share over a day: the hours' shares weighted by their requests."""
    if not traffic.is_poisson:
        return find_levels(traffic.arrivals, service.warm_s, service.cold_s, traffic.idle_s).cold_from(kept_warm)
    return sum(
        weight * cold_share(rate, service.warm_s, traffic.idle_s, kept_warm=kept_warm)
        for weight, rate in zip(traffic.hourly_weights, traffic.hourly_rates_rps, strict=True)
        if weight > 0
    )


def provisioned_share(traffic: Traffic, service: Service, level: int) -> float:
    """Share of calls that find one of `level` provisioned environments free; by Erlang's loss formula for Poisson."""
    if not traffic.is_poisson:
        return share_within(traffic.arrivals, level, service.warm_s, service.cold_s, traffic.idle_s)
    return sum(
        weight * (1 - erlang_b(level, rate * service.warm_s))
        for weight, rate in zip(traffic.hourly_weights, traffic.hourly_rates_rps, strict=True)
    )


@dataclass(frozen=True)
class CallMix:
    """The conditions that callers meet, as shares of all calls."""

    cold: float
    alone: float  # an idle environment, no other request in progress
    concurrent: float  # an idle environment, others in progress


def call_mix(traffic: Traffic, service: Service, *, kept_warm: int = 0) -> CallMix:
    """Return what callers meet with so many environments kept warm: the one question asked of the traffic model."""
    cold = daily_cold_share(traffic, service, kept_warm=kept_warm)
    if traffic.is_poisson:
        busy = sum(
            weight * -math.expm1(-rate * service.warm_s)
            for weight, rate in zip(traffic.hourly_weights, traffic.hourly_rates_rps, strict=True)
        )
        return CallMix(cold=cold, alone=(1 - cold) * (1 - busy), concurrent=(1 - cold) * busy)
    levels = find_levels(traffic.arrivals, service.warm_s, service.cold_s, traffic.idle_s)
    # A cold start with no other call in progress becomes a warm one if an environment is kept.
    alone = levels.alone - (0.0 if kept_warm else float(levels.cold[:1].sum()))
    return CallMix(cold=cold, alone=alone, concurrent=max(0.0, 1 - cold - alone))


def needed_environments(traffic: Traffic, service: Service, max_cold_share: float) -> int:
    """The fewest environments to keep warm so that the cold share stays within bounds, by bisection."""

    def enough(count: int) -> bool:
        return daily_cold_share(traffic, service, kept_warm=count) <= max_cold_share

    return 0 if enough(0) else lowest_level(enough) or MAX_LEVEL


@dataclass(frozen=True)
class CallProfile:
    """The measured mean times of one variant's calls; means, because a bill is a sum."""

    variant: str
    memory_mb: int
    architecture: str
    warm_billed_ms: float
    cold_billed_ms: float | None
    log_bytes: float
    image_gb: float = 0.0
    start: Start = "on_demand"

    @property
    def service(self) -> Service:
        """What is billed for a call is how long it keeps its environment."""
        return Service(self.warm_billed_ms / 1000, (self.cold_billed_ms or self.warm_billed_ms) / 1000)
