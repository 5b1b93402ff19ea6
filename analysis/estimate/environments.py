"""Samples as clusters: calls of one execution environment are alike, so the environment is the unit. No I/O.

An interval that counts n calls of k environments as n independent ones is too narrow as soon as environments differ.
Two methods hold their coverage here, both by the spread of environments alone, whatever happens within one:

- Medians, means and their differences: one value per environment, and Student's t over these k values. R. Ibragimov and
  U. K. Mueller, "t-Statistic Based Correlation and Heterogeneity Robust Inference", Journal of Business and Economic
  Statistics 28 (2010), 453-468; T. Kalibera and R. Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013.
- Shares and tail percentiles: the exact interval of a share with the effective number of calls, reduced for the few
  degrees of freedom that k environments give. E. L. Korn and B. I. Graubard, "Confidence Intervals for Proportions with
  Small Expected Number of Positive Counts Estimated from Survey Data", Survey Methodology 24 (1998), 193-201. A
  percentile's interval is that of the share below it, read on the axis of the values: R. S. Woodruff, "Confidence
  Intervals for Medians and Other Position Measures", JASA 47 (1952), 635-646.

If every call has its own environment (cold starts), both reduce to the methods for independent samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from core.statistics.intervals import freedom, t_half_width

Values = npt.NDArray[np.float64]
# Below this Student's t over environments is wider than anything it could tell.
SMALLEST_ENVIRONMENTS: Final = 5


@dataclass(frozen=True)
class Sample:
    """Values of one metric in the order of sending, each with the number of its execution environment."""

    values: Values
    environments: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: Any, environments: Any = None) -> Self:
        """Make a sample; values that are null or NaN are left out. Without environments each value has its own."""
        array = np.asarray(values, dtype=np.float64)
        known = ~np.isnan(array)
        if environments is None:
            return cls(array[known], np.arange(int(known.sum()), dtype=np.int64))
        _, codes = np.unique(np.asarray(environments)[known], return_inverse=True)
        return cls(array[known], codes.astype(np.int64).reshape(-1))

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def ordered(self) -> Values:
        """The values in ascending order."""
        return np.sort(self.values)

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """How many values each environment has."""
        return np.bincount(self.environments).astype(np.int64) if len(self) else np.empty(0, dtype=np.int64)

    @property
    def environment_count(self) -> int:
        return len(self.sizes)

    @property
    def alike_in_size(self) -> bool:
        """Whether no environment has less than a third of the calls of the average one."""
        return self.environment_count > 0 and 3 * int(self.sizes.min()) * self.environment_count >= len(self)

    @property
    def independent(self) -> bool:
        """Whether each value has its own environment."""
        return self.environment_count == len(self)

    @cached_property
    def medians(self) -> Values:
        """One value per environment, ascending: its median. The values themselves where they are independent."""
        if self.independent:
            return self.ordered
        order = np.lexsort((self.values, self.environments))
        ranked, starts = self.values[order], np.concatenate(([0], np.cumsum(self.sizes)[:-1]))
        low, high = starts + (self.sizes - 1) // 2, starts + self.sizes // 2
        return np.sort((ranked[low] + ranked[high]) / 2)

    @cached_property
    def means(self) -> Values:
        """One value per environment: its mean."""
        if self.independent:
            return self.ordered
        return np.asarray(np.bincount(self.environments, self.values) / self.sizes, dtype=np.float64)

    def needs_environments(self) -> str:
        """Return why there is no interval, or "" if there are enough environments."""
        if self.independent or self.environment_count >= SMALLEST_ENVIRONMENTS:
            return ""
        shared = ": calls that do not overlap share one" if self.environment_count == 1 else ""
        return f"needs {SMALLEST_ENVIRONMENTS} environments, has {self.environment_count}{shared}"

    def effective_n(self, hits: npt.NDArray[np.bool_]) -> float:
        """Return how many independent calls would tell the share of `hits` as well as these do; n at most.

        The variance of the share comes from the environments' totals, so it includes dependence within one.
        """
        n, k = len(self), self.environment_count
        found = float(hits.mean()) if n else 0.0
        if self.independent or k < 2 or found in (0.0, 1.0):
            return float(n)
        totals = np.bincount(self.environments, hits.astype(np.float64))
        variance = k / (k - 1) * float(((totals - self.sizes * found) ** 2).sum()) / n**2
        return min(float(n), found * (1 - found) / variance) if variance > 0 else float(n)

    def countable_n(self, hits: npt.NDArray[np.bool_]) -> float:
        """Return the effective n, reduced for the degrees of freedom of k environments (Korn and Graubard).

        0 for calls of a single environment: nothing tells how another one would do.
        """
        if self.independent:
            return float(len(self))
        return self.effective_n(hits) * freedom(len(self), self.environment_count)

    @cached_property
    def components(self) -> Components:
        """Return the spread within and between environments, and the autocorrelation of neighbors.

        Analysis of variance of one random factor, unbalanced: S. R. Searle, G. Casella and C. E. McCulloch, Variance
        Components (1992), section 3.6.
        """
        n, k = len(self), self.environment_count
        if n == 0:
            return Components(0, None, None, None, None)
        mean = float(self.values.mean())
        effective = self.effective_n(self.values <= np.median(self.values))
        if self.independent or n - k < 2 or mean <= 0:
            return Components(k, effective, None, None, None)
        within, between, _ = _variances(self)
        return Components(
            environments=k,
            effective_n=effective,
            within_percent=100 * math.sqrt(within) / mean,
            between_percent=100 * math.sqrt(between) / mean if k > 1 else None,
            autocorrelation=_autocorrelation(self),
        )

    @cached_property
    def location_half_width(self) -> float:
        """Return the relative half-width of the environments' average: Student's t over log medians.

        A tail moves with its environments, so intervals of a tail allow for it; 0 for independent values.
        """
        positive = self.medians[(self.medians > 0) & np.isfinite(self.medians)]
        if self.independent or len(positive) < 2:
            return 0.0
        return math.expm1(t_half_width(np.log(positive)))

    @cached_property
    def between_fraction(self) -> float:
        """Return which part of the spread of the environments' locations is their own, 0 to 1.

        The rest is the scatter of the calls that each location was estimated from. By logarithms, as the location is.
        """
        known = (self.values > 0) & np.isfinite(self.values)
        logs, codes = np.log(self.values[known]), self.environments[known]
        logged = Sample.of(logs, codes)
        if self.independent or logged.environment_count < 2 or len(logs) - logged.environment_count < 2:
            return 1.0
        within, between, typical = _variances(logged)
        return math.sqrt(between / (between + within / typical)) if between > 0 else 0.0


@dataclass(frozen=True)
class Components:
    """How the variance splits; spreads in percent of the mean, None if unknown."""

    environments: int
    effective_n: float | None
    within_percent: float | None
    between_percent: float | None
    autocorrelation: float | None  # of calls that follow each other in one environment


def _variances(sample: Sample) -> tuple[float, float, float]:
    """Return the variance within environments, that between them, and the typical number of calls of one."""
    n, k = len(sample), sample.environment_count
    residuals = sample.values - sample.means[sample.environments]
    within = float((residuals**2).sum()) / (n - k)
    if k < 2:
        return within, 0.0, float(n)
    typical = (n - float((sample.sizes.astype(np.float64) ** 2).sum()) / n) / (k - 1)
    spread = float((sample.sizes * (sample.means - sample.values.mean()) ** 2).sum()) / (k - 1)
    return within, max(0.0, (spread - within) / typical), typical


def _autocorrelation(sample: Sample) -> float | None:
    residuals = sample.values - sample.means[sample.environments]
    order = np.argsort(sample.environments, kind="stable")
    ranked, environments = residuals[order], sample.environments[order]
    neighbors = environments[1:] == environments[:-1]
    variance = float((ranked**2).sum())
    if not neighbors.any() or variance <= 0:
        return None
    return float((ranked[1:] * ranked[:-1])[neighbors].sum()) / variance
