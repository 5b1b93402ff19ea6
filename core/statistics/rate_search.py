"""The highest rate of Poisson arrivals at which few enough callers miss the limit: a sequential search. No I/O.

The figure is that of MLPerf's Server scenario: the highest rate at which the share of misses stays within a bound
(V. J. Reddi et al., "MLPerf Inference Benchmark", ISCA 2020). Every step offers one constant rate. The search begins at
the highest rate and halves it until a rate holds. Then it goes in rounds of eight steps, on both sides of an estimate
in turn, each round longer than the one before. After a round, a logistic regression of the share of misses on the
logarithm of the rate gives the next estimate, and the search ends where its interval is narrow enough. Callers who wait
behind each other miss together; the scatter of the steps widens the interval (P. McCullagh and J. A. Nelder,
"Generalized Linear Models", 2nd edition, section 4.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, stdtrit

FIRST_MISSES: Final = 10.0  # expected at the bound in each step until a rate holds
ROUND: Final = 8  # steps about one estimate
STEP_MISSES: Final = 8.0  # expected at the bound in each step of the first round
GROWTH: Final = 1.5  # of the calls of a step from round to round: few looks stop too early less often
SPREAD: Final = 0.05  # distance of a step from the estimate, relative, so that the regression sees a slope
NEAR: Final = 0.35  # in the logarithm of the rate: steps farther away bend the regression
SLOPE_PRIOR: Final = (8.0, 8.0)  # mean and standard deviation, for steps too few to show the slope
HALF_WIDTH: Final = 0.022  # relative, of the 95% interval, so that an error of 5% is rare
FEWEST_INDEPENDENT: Final = 100  # misses near the estimate; fewer are too skewed for an interval
EXPECTED_MISSES: Final = 2000  # of a whole search: median of synthetic servers, 900 to 7,000
MOST_LATE: Final = 0.1  # of the misses: more are the sender's than the function's
SURELY: Final = 0.999  # that fewer miss at the highest rate, before the search ends there


@dataclass(frozen=True)
class Search:
    """The question: `max_missed_share` is the bound. No step leaves these rates or is planned to exceed these calls."""

    max_missed_share: float
    highest_rps: float
    lowest_rps: float
    most_calls: int


@dataclass(frozen=True)
class Step:
    """The result of one rate."""

    rate_rps: float
    missed: int
    calls: int
    late: int = 0  # missed because the sender was late


@dataclass(frozen=True)
class HighestRate:
    """The highest rate with its 95% interval, in requests per second; None and why where it is not known."""

    rate_rps: float | None
    low_rps: float | None
    high_rps: float | None
    calls: int
    reason: str = ""  # "" where the interval is as narrow as the search wants it


def rate_text(found: HighestRate) -> str:
    """Return the result, or what is known so far, as a sentence without its end."""
    if found.rate_rps is None:
        return f"highest rate not known: {found.reason}"
    interval = f"{found.low_rps:.3g} to {found.high_rps:.3g}"
    note = f"; {found.reason}" if found.reason else ""
    return f"highest rate {found.rate_rps:.3g} requests/s ({interval}), {found.calls:,} calls{note}"


def expected_calls(max_missed_share: float) -> int:
    """Return the calls that a search takes as a rule: half of the searches of synthetic servers took fewer."""
    return math.ceil(EXPECTED_MISSES / max_missed_share)


def look(steps: Sequence[Step], search: Search) -> tuple[HighestRate, tuple[float, int] | None]:
    """Return what the steps show so far, and the next rate in requests per second with its calls; None at the end."""
    calls = sum(step.calls for step in steps)
    first = next((place for place, one in enumerate(steps) if one.missed <= search.max_missed_share * one.calls), None)
    if first is None:
        return _halve(steps, search, calls)
    if _surely_holds([step for step in steps if step.rate_rps == search.highest_rps], search.max_missed_share):
        return _unknown(calls, f"fewer callers miss even at {search.highest_rps:g} requests/s, the highest rate"), None
    if sum(step.late for step in steps[first:]) > MOST_LATE * sum(step.missed for step in steps[first:]):
        return _unknown(calls, f"the sender was late for more than {MOST_LATE:.0%} of the calls that missed"), None
    found, center = _after_rounds(steps, first, search)
    rounds, in_round = divmod(len(steps) - first - 1, ROUND)
    if in_round == 0 and not found.reason:
        return found, None
    side = SPREAD if len(steps) % 2 else -SPREAD
    rate_rps = min(max(math.exp(center + side), search.lowest_rps), search.highest_rps)
    return found, _offer(rate_rps, STEP_MISSES * GROWTH**rounds, search, calls)


def _halve(steps: Sequence[Step], search: Search, calls: int) -> tuple[HighestRate, tuple[float, int] | None]:
    rate_rps = steps[-1].rate_rps / 2 if steps else search.highest_rps
    if rate_rps < search.lowest_rps:
        return _unknown(calls, f"too many callers miss at every rate down to {2 * rate_rps:.3g} requests/s"), None
    return _unknown(calls, "no rate has held so far"), _offer(rate_rps, FIRST_MISSES, search, calls)


def _surely_holds(steps: Sequence[Step], share: float) -> bool:
    missed, calls = sum(step.missed for step in steps), sum(step.calls for step in steps)
    return calls > missed and bool(betaincinv(missed + 1, calls - missed, SURELY) < share)


def _after_rounds(steps: Sequence[Step], first: int, search: Search) -> tuple[HighestRate, float]:
    """Return the result after the last whole round, and the logarithm of the rate that the next one is about.

    Within a round the rates stay where they are, whatever its steps show: an estimate that moved with each step would
    follow the misses that it is to be independent of.
    """
    calls = sum(step.calls for step in steps)
    center = math.log(min(steps[first].rate_rps * math.sqrt(2), search.highest_rps))
    found = _unknown(calls, "the first round is not complete")
    for number in range(1, (len(steps) - first - 1) // ROUND + 1):
        seen = steps[: first + 1 + number * ROUND]
        near = [step for step in seen if abs(math.log(step.rate_rps) - center) <= NEAR]
        offset, half_width, independent = estimate(near, center, search.max_missed_share)
        center += min(max(offset, -NEAR), NEAR)
        found = _found(math.exp(center), half_width, independent, calls)
        if abs(offset) > 2 * SPREAD:
            found = _unknown(calls, "the last rates were too far from it")
    return found, center


def _offer(rate_rps: float, misses: float, search: Search, calls: int) -> tuple[float, int] | None:
    wanted = math.ceil(misses / search.max_missed_share)
    return (rate_rps, wanted) if calls + wanted <= search.most_calls else None


def _unknown(calls: int, reason: str) -> HighestRate:
    return HighestRate(None, None, None, calls, reason)


def _found(rate_rps: float, half_width: float, independent: float, calls: int) -> HighestRate:
    if independent < FEWEST_INDEPENDENT:
        return _unknown(calls, f"needs {FEWEST_INDEPENDENT} independent misses near it, has {independent:.0f}")
    reason = ""
    if half_width > HALF_WIDTH:
        reason = f"the interval is wider than {100 * HALF_WIDTH:g}% to each side"
    low_rps, high_rps = rate_rps * math.exp(-half_width), rate_rps * math.exp(half_width)
    return HighestRate(rate_rps, low_rps, high_rps, calls, reason)


def estimate(steps: Sequence[Step], center: float, share: float) -> tuple[float, float, float]:
    """Return where the share of misses reaches the bound, the half-width of its 95% interval, and independent misses.

    The first two are in the logarithm of the rate, the first from `center`. Logistic regression by Newton's method,
    with a normal prior of the slope. The variance is binomial times the scatter of the steps, 1 at least.
    """
    x = np.array([math.log(step.rate_rps) - center for step in steps])
    calls = np.array([float(step.calls) for step in steps])
    missed = np.array([float(step.missed) for step in steps])
    mean, spread = SLOPE_PRIOR
    bound = math.log(share / (1 - share))
    level, slope = bound, mean
    inverse: npt.NDArray[np.float64] = np.eye(2)
    residuals, weight = missed, calls
    for _ in range(12):
        expected = 1 / (1 + np.exp(-np.clip(level + slope * x, -30, 30)))
        residuals, weight = missed - calls * expected, calls * expected * (1 - expected)
        gradient = np.array([residuals.sum(), (residuals * x).sum() - (slope - mean) / spread**2])
        cross = (weight * x).sum()
        curvature = np.array([[weight.sum() + 1e-9, cross], [cross, (weight * x * x).sum() + 1 / spread**2]])
        inverse = np.linalg.inv(curvature)
        change = np.clip(inverse @ gradient, -2, 2)
        level, slope = level + float(change[0]), max(0.5, slope + float(change[1]))
    offset = (bound - level) / slope
    free = max(1, len(steps) - 2)
    scatter = max(1.0, float((residuals**2 / np.maximum(weight, 1e-9)).sum()) / free)
    direction = np.array([1.0, offset])
    error = math.sqrt(float(direction @ inverse @ direction) * scatter) / slope
    return offset, float(stdtrit(free, 0.975)) * error, float(missed.sum()) / scatter
