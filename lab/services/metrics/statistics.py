"""CloudWatch's statistics over raw samples, period by period. No I/O.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from core.errors import UserError
from lab.services.metrics.metric_store import Samples

STATISTICS: Final = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_PERCENTILE: Final = re.compile(r"[pP](\d{1,2}(?:\.\d{1,10})?|100)")


class StatisticError(UserError):
    """A statistic that CloudWatch does not have, or that the lab does not model."""


def check_statistic(statistic: str) -> None:
    """Raise StatisticError unless the statistic can be answered."""
    if statistic not in STATISTICS and not _PERCENTILE.fullmatch(statistic):
        raise StatisticError(
            f"the statistic {statistic!r} is not modeled by the lab; it has {', '.join(STATISTICS)} and p0 to p100"
        )


def by_period(samples: Samples, *, statistic: str, start_s: float, period_s: int) -> list[tuple[float, float]]:
    """(start of the period, value) for each period that holds samples, ascending.

    `samples` are in the order of time, (n, 5): time_s, sum, minimum, maximum, count. Periods run from `start_s`
    on. Raises StatisticError.
    """
    check_statistic(statistic)
    if len(samples) == 0:
        return []
    periods = np.floor_divide(samples[:, 0] - start_s, period_s)
    edges = np.flatnonzero(np.diff(periods)) + 1
    starts = start_s + periods[np.concatenate(([0], edges))] * period_s
    parts = np.split(samples, edges)
    values = (_value(part, statistic) for part in parts)
    return [(float(start), value) for start, value in zip(starts.tolist(), values, strict=True) if value is not None]


def _value(samples: Samples, statistic: str) -> float | None:
    sums, minima, maxima, counts = samples[:, 1], samples[:, 2], samples[:, 3], samples[:, 4]
    number = float(counts.sum())
    if statistic == "SampleCount":
        return number
    if statistic == "Sum":
        return float(sums.sum())
    if statistic == "Average":
        return float(sums.sum()) / number if number else None
    if statistic == "Minimum":
        return float(minima.min())
    if statistic == "Maximum":
        return float(maxima.max())
    # CloudWatch does not say how it interpolates between neighbors; this is the default of numpy and R (type 7).
    return float(np.percentile(minima, float(statistic[1:])))
