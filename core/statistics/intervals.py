"""Exact, distribution-free confidence intervals of quantiles by order statistics. No I/O.

Of n independent samples the number B at or below the true p-quantile is binomial(n, p), whatever the distribution.
So the r-th and s-th smallest samples enclose the quantile with probability at least P(r <= B <= s - 1).
Source: H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1; G. J. Hahn and W. Q. Meeker,
Statistical Intervals, section 5.2.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, bdtrc, stdtrit

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Interval:
    """A closed interval that holds the true quantile with at least 95% confidence."""

    lower: float
    upper: float

    @property
    def half_width(self) -> float:
        return (self.upper - self.lower) / 2


@lru_cache(maxsize=65_536)
def interval_ranks(n: int, quantile: float) -> tuple[int, int] | None:
    """Ranks (counted from 1) of the two order statistics that enclose a quantile, or None where n is too small.

    Each tail is missed with probability at most (1 - CONFIDENCE) / 2: the lower rank is the largest r with
    P(B <= r - 1) within that, the upper the smallest s with P(B >= s) within that.
    """
    tail = (1 - CONFIDENCE) / 2
    if n < smallest_n(quantile):
        return None
    lower = _last(lambda rank: float(bdtr(rank - 1, n, quantile)) <= tail, 1, n)
    upper = n + 1 - _last(lambda back: float(bdtrc(n - back, n, quantile)) <= tail, 1, n)
    return lower, upper


@lru_cache(maxsize=1024)
def smallest_n(quantile: float) -> int:
    """The fewest samples that can enclose a quantile: both extremes must be beyond it often enough.

    The smallest sample is above the quantile with probability (1 - p)^n, the largest below it with p^n.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}; expected a number between 0 and 1")
    tail = (1 - CONFIDENCE) / 2
    n = max(1, math.ceil(math.log(tail) / math.log(max(quantile, 1 - quantile))))
    while float(bdtr(0, n, quantile)) > tail or float(bdtrc(n - 1, n, quantile)) > tail:
        n += 1  # the logarithm was rounded to the wrong side
    return n


def quantile_interval(ordered: Sequence[float], quantile: float) -> tuple[Interval | None, str]:
    """Interval of a quantile from samples in ascending order; None and "needs n >= N" where they are too few."""
    ranks = interval_ranks(len(ordered), quantile)
    if ranks is None:
        return None, f"needs n >= {smallest_n(quantile)}"
    return Interval(lower=float(ordered[ranks[0] - 1]), upper=float(ordered[ranks[1] - 1])), ""


def median_half_width_percent(samples: Sequence[float]) -> float | None:
    """Half-width of the median's interval in percent of the median; None where n is too small or the median is 0."""
    ordered = sorted(samples)
    interval, _reason = quantile_interval(ordered, 0.5)
    if interval is None:
        return None
    median = statistics.median(ordered)
    return 100 * interval.half_width / median if median > 0 else None


def environments_half_width_percent(environments: Sequence[Sequence[float]]) -> float | None:
    """Half-width, in percent, of the interval of the median over execution environments, the unit of evidence.

    Student's t over the medians of the environments: calls of one environment are alike, so their number does not
    count. None where fewer than two environments have samples or the medians' mean is 0.
    Source: Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013, section 6.
    """
    medians = [statistics.median(samples) for samples in environments if samples]
    if len(medians) < 2 or not (mean := statistics.fmean(medians)):
        return None
    return 100 * t_half_width(medians) / mean


def t_half_width(per_environment: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Half-width of Student's interval of the mean of k values, one per environment; k is 2 at least."""
    k = len(per_environment)
    spread = float(np.std(per_environment, ddof=1))
    return float(stdtrit(k - 1, (1 + CONFIDENCE) / 2)) * spread / math.sqrt(k)


def freedom(n: int, k: int) -> float:
    """By how much the few degrees of freedom of k environments reduce n calls; 0 for a single environment.

    Source: E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998), 193-201.
    """
    if k < 2 or n < 2:
        return 0.0
    tail = (1 + CONFIDENCE) / 2
    return (float(stdtrit(n - 1, tail)) / float(stdtrit(k - 1, tail))) ** 2


def _last(holds: Callable[[int], bool], first: int, last: int) -> int:
    """The largest number in first..last for which a condition that holds at first and then stops still holds."""
    while first < last:
        middle = (first + last + 1) // 2
        if holds(middle):
            first = middle
        else:
            last = middle - 1
    return first
