"""Estimate percentiles, differences, and shares with their intervals. No I/O, nothing trimmed.

Every interval is two-sided at 95%. docs/explanation/statistics.md gives the reasons and the measured coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from analysis.estimate.environments import Sample
from analysis.summary import METRICS, Distribution, Estimate
from core.statistics.intervals import CONFIDENCE, interval_ranks, smallest_n, t_half_width

Samples = npt.NDArray[np.float64]

PERCENTILES: Final[dict[str, float]] = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
RESAMPLES: Final = 4000
# Below this a bootstrap of medians covers less than it says (simulated in tests/analysis).
SMALLEST_BOOTSTRAP_N: Final = 6
# Above this lag-1 correlation few calls hold few tails, and intervals of tails cover too little (bench/calibration.py).
TOO_ALIKE: Final = 0.6
MANY_DISTINCT: Final = 4000  # a mean of so many samples is normal to all purposes


def clean(values: Any) -> Samples:
    """Values as a sorted array of floats, nulls and NaN left out."""
    array = np.asarray(values, dtype=np.float64)
    return np.sort(array[~np.isnan(array)])


def quantile(ordered: Samples, share: float) -> float:
    """The quantile by linear interpolation between order statistics (Hyndman and Fan, type 7)."""
    return float(np.quantile(ordered, share))


def percentile(ordered: Samples, share: float) -> Estimate:
    """A percentile with its exact binomial order-statistic interval.

    The median is given from n = 1 on; a tail percentile only where n carries an interval, since with fewer samples it
    is no more than the maximum. Source of the interval: core/statistics/intervals.py.
    """
    n = len(ordered)
    if n == 0:
        return Estimate(value=None, n=0, reason="no samples")
    ranks = interval_ranks(n, share)
    if ranks is None:
        reason = f"needs n >= {smallest_n(share)}"
        value = quantile(ordered, share) if share == 0.5 else None
        return Estimate(value=value, n=n, reason=reason)
    low, high = float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1])
    return Estimate(value=quantile(ordered, share), low=low, high=high, level=CONFIDENCE, n=n)


def percentile_over_environments(sample: Sample, share: float) -> Estimate:
    """A percentile whose interval allows for environments that differ.

    The median's interval is Student's over the environments' medians, widened to hold the median of all calls, where
    environments have about as many calls each. Any other is Woodruff's by Korn and Graubard's effective n, moved by
    how uncertain the environments' average is.
    Sources: analysis/estimate/environments.py; docs/explanation/statistics.md has what both cover.
    """
    n, ordered = len(sample), sample.ordered
    if sample.independent or n == 0:
        return percentile(ordered, share)
    value = quantile(ordered, share)
    needs = sample.needs_environments()
    if share == 0.5:
        if needs:
            return Estimate(value=value, n=n, reason=needs)
        if sample.alike_in_size:
            half, middle = t_half_width(sample.medians), float(sample.medians.mean())
            return Estimate(value=value, low=min(value, middle - half), high=max(value, middle + half), n=n)
    countable = sample.countable_n(sample.values <= value)
    if needs or countable < smallest_n(share):
        return Estimate(
            value=None, n=n, reason=needs or f"needs an effective n >= {smallest_n(share)}, has {countable:.0f}"
        )
    if share != 0.5 and countable < 2 * smallest_n(share) and (sample.components.autocorrelation or 0) > TOO_ALIKE:
        return Estimate(value=None, n=n, reason="calls that follow each other are too alike")
    below, tail = share * countable, (1 - CONFIDENCE) / 2
    low_rank = int(np.floor(float(betaincinv(below, countable - below + 1, tail)) * n))
    high_rank = int(np.ceil(float(betaincinv(below + 1, countable - below, 1 - tail)) * n))
    if low_rank < 1 or high_rank > n:
        return Estimate(value=None, n=n, reason="too few calls beyond it")
    moved = 1 + sample.location_half_width
    return Estimate(
        value=value, low=float(ordered[low_rank - 1]) / moved, high=float(ordered[high_rank - 1]) * moved, n=n
    )


def distribution(metric: str, sample: Sample) -> Distribution:
    """The percentiles of one metric and where its variance is; `metric` is a key of METRICS."""
    ordered = sample.ordered
    n = len(ordered)
    parts: dict[str, Any] = vars(sample.components) | {
        name: percentile_over_environments(sample, share) for name, share in PERCENTILES.items()
    }
    return Distribution(
        **parts,
        metric=metric,
        unit=METRICS[metric][1],
        n=n,
        minimum=float(ordered[0]) if n else None,
        maximum=float(ordered[-1]) if n else None,
        mean=float(ordered.mean()) if n else None,
    )


def bootstrap_medians(ordered: Samples, random: np.random.Generator, resamples: int = RESAMPLES) -> Samples:
    """Medians of bootstrap resamples, drawn without resampling.

    A resample is n draws of F_n^-1(U), so its order statistics are F_n^-1 of the order statistics of n uniforms. Of
    these the m-th is Beta(m, n + 1 - m), and U_(m) given U_(m+1) is U_(m+1) times Beta(m, 1) (David and Nagaraja, Order
    Statistics, section 2.5). The result has exactly the bootstrap's distribution, at a cost that does not grow with n.
    """
    n = len(ordered)
    middle = n // 2
    if n % 2:
        return _at(ordered, random.beta(middle + 1, middle + 1, resamples))
    upper = random.beta(middle + 1, middle, resamples)
    lower = upper * random.beta(middle, 1, resamples)
    return (_at(ordered, lower) + _at(ordered, upper)) / 2


def _at(ordered: Samples, uniforms: npt.NDArray[np.float64]) -> Samples:
    index = np.ceil(uniforms * len(ordered)).astype(np.int64) - 1
    return ordered[np.clip(index, 0, len(ordered) - 1)]


@dataclass(frozen=True)
class MedianComparison:
    """Difference a - b and ratio a / b of two medians."""

    difference: Estimate
    ratio: Estimate
    cliffs_delta: float | None


def compare_medians(
    a: Samples, b: Samples, random: np.random.Generator, *, level: float = CONFIDENCE
) -> MedianComparison:
    """Compare two ordered samples by their medians, with percentile bootstrap intervals.

    Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3. No interval below n = 6 on either side.
    """
    n = min(len(a), len(b))
    if n == 0:
        nothing = Estimate(value=None, n=0, reason="no samples on one side")
        return MedianComparison(nothing, nothing, None)
    median_a, median_b = quantile(a, 0.5), quantile(b, 0.5)
    delta = cliffs_delta(a, b)
    ratio_value = median_a / median_b if median_b > 0 else None
    if n < SMALLEST_BOOTSTRAP_N:
        reason = f"needs n >= {SMALLEST_BOOTSTRAP_N} on both sides"
        return MedianComparison(
            Estimate(value=median_a - median_b, n=n, reason=reason),
            Estimate(value=ratio_value, n=n, reason=reason),
            delta,
        )
    draws_a, draws_b = bootstrap_medians(a, random), bootstrap_medians(b, random)
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(draws_a - draws_b, tails)
    difference = Estimate(value=median_a - median_b, low=float(low), high=float(high), level=level, n=n)
    if ratio_value is None or draws_b.min() <= 0:
        ratio = Estimate(value=ratio_value, n=n, reason="the second median can be zero")
    else:
        low, high = np.quantile(draws_a / draws_b, tails)
        ratio = Estimate(value=ratio_value, low=float(low), high=float(high), level=level, n=n)
    return MedianComparison(difference, ratio, delta)


def cliffs_delta(a: Samples, b: Samples) -> float | None:
    """P(A > B) - P(A < B) over all pairs, in O(n log n). N. Cliff, Psychological Bulletin 114 (1993), 494-509."""
    if len(a) == 0 or len(b) == 0:
        return None
    below = np.searchsorted(b, a, side="left").sum()
    above = (len(b) - np.searchsorted(b, a, side="right")).sum()
    return float((below - above) / (len(a) * len(b)))


def share(hits: int, n: int, *, level: float = CONFIDENCE) -> Estimate:
    """A proportion with its exact interval. C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404-413."""
    if n == 0:
        return Estimate(value=None, n=0, reason="no samples")
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return Estimate(value=hits / n, low=low, high=high, level=level, n=n)


def mean(sample: Sample, random: np.random.Generator, resamples: int = 1000) -> Estimate:
    """A mean with a bootstrap-t interval, over environments with Student's: the one to use for money, which adds up.

    Efron and Tibshirani, An Introduction to the Bootstrap, section 12.5. It keeps its level for skewed data, and falls
    short of it where single samples carry much of the sum: no useful interval of a mean is free of distribution. So it
    is marked as approximate; docs/explanation/statistics.md has the measured coverage.
    """
    if sample.independent:
        found = _bootstrap_t(sample.ordered, random, resamples)
    else:
        value, needs = float(sample.values.mean()), sample.needs_environments()
        if needs:
            return Estimate(value=value, n=len(sample), reason=needs)
        half, middle = t_half_width(sample.means), float(sample.means.mean())
        found = Estimate(value=value, low=min(value, middle - half), high=max(value, middle + half), n=len(sample))
    return found if found.low is None else found.model_copy(update={"approximate": True})


def mean_draws(sample: Sample, random: np.random.Generator, draws: int) -> Samples | None:
    """Draws of the true mean: Student's t around the sample's, with the standard error over environments.

    The posterior under a normal model of the environments with the usual flat prior (Gelman and others, Bayesian Data
    Analysis, 3rd edition, section 3.2). None where too few environments were measured to tell their spread.
    """
    values = sample.means
    k = len(values)
    if k < SMALLEST_BOOTSTRAP_N and (sample.independent or sample.needs_environments()):
        return None
    error = float(values.std(ddof=1)) / np.sqrt(k)
    return np.asarray(sample.values.mean() + error * random.standard_t(k - 1, draws), dtype=np.float64)


def largest_share(values: Samples) -> float:
    """The share of the sum that the largest sample is; 0 where there is nothing to share."""
    total = float(values.sum()) if len(values) else 0.0
    return float(values.max()) / total if total > 0 else 0.0


def _bootstrap_t(values: Samples, random: np.random.Generator, resamples: int) -> Estimate:
    n = len(values)
    if n == 0:
        return Estimate(value=None, n=0, reason="no samples")
    value = float(values.mean())
    if n < SMALLEST_BOOTSTRAP_N:
        return Estimate(value=value, n=n, reason=f"needs n >= {SMALLEST_BOOTSTRAP_N}")
    deviation = float(values.std())
    if deviation == 0:
        return Estimate(value=value, low=value, high=value, n=n)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) > MANY_DISTINCT:
        half = 1.959964 * deviation / np.sqrt(n)
        return Estimate(value=value, low=float(value - half), high=float(value + half), n=n)
    # Centered, so that the variance does not vanish in the difference of two large numbers.
    centred = distinct - value
    drawn = random.multinomial(n, counts / n, resamples) / n
    means = drawn @ centred
    spreads = np.sqrt(np.maximum(drawn @ centred**2 - means**2, 0.0))
    told = spreads > 1e-9 * deviation  # a resample of one value alone says nothing of its spread
    if not told.any():
        return Estimate(value=value, n=n, reason="too few distinct values")
    low, high = np.quantile(means[told] / spreads[told], (0.025, 0.975))
    return Estimate(
        value=value, low=value - float(high) * deviation, high=max(value, value - float(low) * deviation), n=n
    )


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which hypotheses to reject so that any false rejection at all has probability at most `level`.

    S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = [False] * len(p_values)
    for step, place in enumerate(order):
        if p_values[place] > level / (len(p_values) - step):
            break
        rejected[place] = True
    return rejected
