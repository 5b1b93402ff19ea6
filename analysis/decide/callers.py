"""The share of all callers who get no correct answer within the limit, at the stated traffic. No I/O.

A call is bad if it failed in any way (an error, a throttle, a 504, a lost connection) or took longer than the limit.
Callers meet three conditions: a cold start, an idle environment while nobody else is served, and one while others are.
Each is measured by its own experiment, and [traffic] says how often callers meet it. The share of bad calls is
the sum of the conditions' shares by these weights. Its interval melds the exact intervals of the parts (M. P. Fay,
M. A. Proschan and E. Brittain, "Combining One-Sample Confidence Procedures for Inference in the Two-Sample Case",
Biometrics 71 (2015), 146-156). What was not measured may be anything from 0 to 1, so that it counts by its weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import betaincinv, stdtrit

from analysis.estimate.cells import Measured
from analysis.estimate.environments import Sample
from analysis.estimate.traffic import CallMix
from analysis.summary import ConditionShare, ConstraintVerdict, Estimate
from core.statistics.intervals import CONFIDENCE, freedom

ConditionName = Literal["cold", "alone", "concurrent"]
DRAWS: Final = 4000
SEED: Final = 20_261_127  # of the melding: a fixed set of draws, so that the same counts give the same interval
FEW_LOAD_CALLS: Final = 300  # of the load's lowest rates, where the traffic's own rate has fewer
MOST_TIMES_MORE: Final = 100.0
# Sent by nobody (the generator had no room), or with an outcome that only the logs could tell and do not.
NOT_EXPERIENCED: Final = ("dropped", "missing", "pending")


@dataclass(frozen=True)
class Condition:
    """Calls of one condition; `countable` is their number less what environments that differ take off."""

    name: ConditionName
    bad: int
    n: int
    bad_at_least: float  # shares: counted with the limit shifted by how uncertain the environments' average is
    bad_at_most: float
    countable: float
    environments: int
    source: str
    between: float = 1.0  # which part of that uncertainty is the environments' own, and not scatter of the calls

    @property
    def share(self) -> float:
        return self.bad / self.n if self.n else float("nan")

    def times(self, factor: float) -> Condition:
        """The same condition had it been measured so many times more often, in as many more environments."""
        if self.n == 0:
            fresh = round(8 * factor)
            return replace(self, n=fresh, countable=float(fresh), bad_at_least=0.0, bad_at_most=0.0)
        countable = max(self.countable, 0.5 * self.n) * factor
        return replace(self, bad=round(self.bad * factor), n=round(self.n * factor), countable=countable)


@dataclass(frozen=True)
class Waits:
    """How long each caller of one condition waited, in ms; infinite if the call failed."""

    name: ConditionName
    latency: Sample
    source: str = ""
    like: Sample | None = None  # calls that tell how environments differ, where these cannot

    def condition(self, limit_ms: float) -> Condition:
        """Count the bad calls: those answered after the limit, and failed ones, whose latency is infinite.

        A load that few environments can carry does not tell how environments differ; `like` has calls that do.
        """
        latency, like = self.latency, self.like
        n, over = len(latency), latency.values > limit_ms
        moved, countable = 1 + latency.location_half_width, latency.countable_n(over)
        if like is not None and latency.needs_environments() and not like.independent and not like.needs_environments():
            spread = like.location_half_width * math.sqrt(like.environment_count / max(1, latency.environment_count))
            moved, countable = 1 + spread, n * freedom(max(2, n), like.environment_count)
        return Condition(
            name=self.name,
            bad=int(over.sum()),
            n=n,
            bad_at_least=int((latency.values > limit_ms * moved).sum()) / n if n else 0.0,
            bad_at_most=int((latency.values > limit_ms / moved).sum()) / n if n else 0.0,
            countable=countable,
            environments=latency.environment_count,
            source=self.source,
            between=latency.between_fraction,
        )


def measured_waits(measured: Measured, key: str, peak_rps: float) -> tuple[Waits, ...]:
    """The three conditions of one variant. Warm-up calls, bursts and first starts after a deployment are in none."""
    like = measured.sample(key, "warm", "warm", "client_latency_ms")
    return _cold(measured, key), _alone(measured, key), _concurrent(measured, key, peak_rps, like)


def percentile_ms(waits: Sequence[Waits], mix: CallMix, share: float) -> float | None:
    """Return a percentile of what callers wait in the mixture, in ms; None where a part of it was not measured.

    Infinite where so many callers get no answer.
    """
    weights = weights_of(mix)
    parts = [one for one in waits if weights[one.name] > 0]
    if not all(len(one.latency) for one in parts):
        return None
    values = np.concatenate([one.latency.values for one in parts])
    weight = np.concatenate([np.full(len(one.latency), weights[one.name] / len(one.latency)) for one in parts])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    return float(values[order[min(len(order) - 1, int(np.searchsorted(reached, share * reached[-1])))]])


def _counted(part: pl.DataFrame | None) -> pl.DataFrame | None:
    """Calls that count and calls that failed, less warm-ups and what no caller experienced."""
    if part is None:
        return None
    kept = part.filter(
        (pl.col("rule").is_null() | (pl.col("rule") == "failed"))
        & ~pl.col("warmup")
        & ~pl.col("first_after_deploy")
        & (pl.col("protocol").fill_null("") != "burst")
        & ~pl.col("outcome").is_in(NOT_EXPERIENCED)
    )
    return kept if kept.height else None


def _all_starts(measured: Measured, key: str, experiment: str, starts: Sequence[str]) -> pl.DataFrame | None:
    parts = [found for start in starts if (found := _counted(measured.parts.get((key, experiment, start)))) is not None]
    return pl.concat(parts) if parts else None


def _waited(part: pl.DataFrame, latency: pl.Expr) -> Sample:
    """How long each caller waited, with the execution environment; infinite if the call failed.

    A failed call whose environment nobody knows belongs to the one that was called before it: failures come in rows.
    """
    failed = pl.col("outcome") != "ok"
    own = -1 - pl.int_range(pl.len(), dtype=pl.Int64)
    near = pl.col("environment").forward_fill().backward_fill()
    held = part.sort("intended_at").select(
        pl.when(failed).then(float("inf")).otherwise(latency.cast(pl.Float64)).alias("ms"),
        pl.when(failed).then(near).otherwise(pl.col("environment")).fill_null(own).alias("environment"),
    )
    return Sample.of(held["ms"].to_numpy(), held["environment"].to_numpy())


def _cold(measured: Measured, key: str) -> Waits:
    # A cold call that failed seldom tells its start: in the cold experiment it is taken for a cold one.
    part = _all_starts(measured, key, "cold", ("cold",))
    failed = _all_starts(measured, key, "cold", ("unknown",))
    source = "cold experiment"
    if part is None and failed is None:
        part, source = _all_starts(measured, key, "load", ("cold",)), "cold starts of the load"
    if failed is not None:
        failed = failed.filter(pl.col("outcome") != "ok")
        part = failed if part is None else pl.concat([part, failed])
    if part is None:
        return Waits("cold", Sample.of([]), "not measured")
    # Scheduled and forced calls do not pass the gateway: what that adds is taken from the warm calls.
    latency, inside = measured.warm(key, "client_latency_ms").ordered, measured.warm(key, "duration_ms").ordered
    outside_ms = max(0.0, float(np.median(latency) - np.median(inside))) if len(latency) and len(inside) else 0.0
    through_gateway = pl.col("trigger").fill_null("") == "api"
    waited = pl.when(through_gateway).then(pl.col("client_latency_ms")).otherwise(pl.col("total_ms") + outside_ms)
    return Waits("cold", _waited(part, waited), source)


def _alone(measured: Measured, key: str) -> Waits:
    part = _all_starts(measured, key, "warm", ("warm", "unknown"))
    if part is None:
        return Waits("alone", Sample.of([]), "not measured")
    if (part["connection"] == "kept").any():
        part = part.filter(pl.col("connection") != "new")
    latency = _waited(part, pl.coalesce("client_latency_ms", "duration_ms"))
    return Waits("alone", latency, "warm experiment")


def _concurrent(measured: Measured, key: str, peak_rps: float, like: Sample) -> Waits:
    """Calls of the load that found an environment, at rates up to the traffic's highest, or the lowest there were."""
    part = _all_starts(measured, key, "load", ("warm", "unknown"))
    if part is None:
        return Waits("concurrent", Sample.of([]), "not measured")
    second = pl.col("intended_at").floor()
    rated = part.with_columns(pl.len().over(second).alias("rate")).sort("rate", "intended_at")
    within = int((rated["rate"] <= max(1.0, peak_rps)).sum())
    taken = rated.head(max(within, FEW_LOAD_CALLS))
    latency = _waited(taken, pl.coalesce("latency_from_intended_ms", "client_latency_ms", pl.col("duration_ms")))
    highest = int(str(taken["rate"].max()))
    source = f"load up to {highest} requests per second"
    return Waits("concurrent", latency, source, like)


def weights_of(mix: CallMix) -> dict[ConditionName, float]:
    return {"cold": mix.cold, "alone": mix.alone, "concurrent": mix.concurrent}


_UNIFORMS: Final = np.random.default_rng(SEED).random((3, DRAWS))


def bad_share(conditions: Sequence[Condition], mix: CallMix) -> Estimate:
    """The share of bad calls in the mixture, with its melded interval; no value where a part was not measured."""
    weights = weights_of(mix)
    lower, upper = (_melded(conditions, weights, upper=side) for side in (False, True))
    low, high = float(np.quantile(lower, 0.025)), float(np.quantile(upper, 0.975))
    n = sum(one.n for one in conditions)
    missing = [one.name for one in conditions if one.n == 0 and weights[one.name] > 0]
    if missing:
        return Estimate(value=None, low=low, high=high, n=n, reason=f"not measured: {', '.join(missing)}")
    value = sum(weights[one.name] * one.share for one in conditions if weights[one.name] > 0)
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=n)


def _melded(
    conditions: Sequence[Condition], weights: dict[ConditionName, float], *, upper: bool
) -> npt.NDArray[np.float64]:
    total = np.zeros(DRAWS)
    for place, one in enumerate(conditions):
        if (weight := weights[one.name]) > 0:
            total += weight * _confidence_draws(place, one, upper=upper)
    return total


@lru_cache(maxsize=1024)
def _confidence_draws(place: int, one: Condition, *, upper: bool) -> npt.NDArray[np.float64] | float:
    """Draws of one end of the exact interval of a condition's share, with the uniforms of its place."""
    n = one.countable
    hits = (one.bad_at_most if upper else one.bad_at_least) * n
    if upper:
        return 1.0 if n <= 0 or hits >= n else np.asarray(betaincinv(hits + 1, n - hits, _UNIFORMS[place]))
    return np.asarray(betaincinv(hits, n - hits + 1, _UNIFORMS[place])) if n > 0 and hits > 0 else 0.0


def bad_share_draws(
    conditions: Sequence[Condition], mix: CallMix, random: np.random.Generator, draws: int
) -> npt.NDArray[np.float64]:
    """Draws of the share of bad calls, by Jeffreys' posterior of each part; anything where a part was not measured.

    The environments' average is uncertain, too, and shifts the limit: a draw of Student's t picks a share between those
    counted with the limit moved by the half-width of the environments' location.
    """
    total = np.zeros(draws)
    for one in conditions:
        weight, k = weights_of(mix)[one.name], one.environments
        if weight <= 0:
            continue
        if one.countable <= 0:
            total += weight * random.random(draws)
            continue
        together = k < one.n
        effective = min(float(one.n), one.countable / freedom(one.n, k)) if together and k > 1 else one.countable
        moved = np.zeros(draws)
        if together and k > 1:
            moved = one.between * random.standard_t(k - 1, draws) / stdtrit(k - 1, (1 + CONFIDENCE) / 2)
        more, less = one.bad_at_most - one.share, one.share - one.bad_at_least
        hits = effective * np.clip(one.share + np.where(moved > 0, more, less) * moved, 0.0, 1.0)
        total += weight * random.beta(hits + 0.5, effective - hits + 0.5)
    return total


def verdict(found: Estimate, limit: float) -> ConstraintVerdict:
    """`meets` or `fails` if the whole interval is on one side of the limit, else `undetermined`."""
    if found.high is not None and found.high <= limit:
        return "meets"
    return "fails" if found.low is not None and found.low > limit else "undetermined"


def bad_share_verdict(conditions: Sequence[Condition], mix: CallMix, limit: float) -> ConstraintVerdict:
    """Return `verdict(bad_share(conditions, mix), limit)`, which counts draws where it can and does not sort them."""
    weights = weights_of(mix)
    upper = int(np.count_nonzero(_melded(conditions, weights, upper=True) <= limit))
    lower = int(np.count_nonzero(_melded(conditions, weights, upper=False) <= limit))
    # A quantile is between two draws: if both are on one side of the limit, so is it.
    if upper < math.floor(0.975 * (DRAWS - 1)) and lower > math.ceil(0.025 * (DRAWS - 1)):
        return "undetermined"
    return verdict(bad_share(conditions, mix), limit)


def calls_to_decide(conditions: Sequence[Condition], mix: CallMix, limit: float) -> dict[ConditionName, int] | None:
    """How many more calls of each condition would decide if they went on as they did; None beyond a hundredfold."""
    weights = weights_of(mix)
    factor = 1.0
    while factor < MOST_TIMES_MORE:
        factor *= 1.15
        scaled = [one.times(factor) if weights[one.name] > 0 else one for one in conditions]
        if verdict(bad_share(scaled, mix), limit) != "undetermined":
            return {one.name: after.n - one.n for one, after in zip(conditions, scaled, strict=True)}
    return None


def shares(conditions: Sequence[Condition], mix: CallMix) -> tuple[ConditionShare, ...]:
    """Return the parts of the mixture, for the report."""
    weights = weights_of(mix)
    return tuple(
        ConditionShare(
            condition=one.name,
            weight=weights[one.name],
            bad=one.bad,
            n=one.n,
            environments=one.environments,
            source=one.source,
        )
        for one in conditions
    )
