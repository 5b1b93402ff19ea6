"""Find the Pareto front, and the knee of a model's memory curve. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from analysis.estimate.environments import Sample
from analysis.estimate.estimates import SMALLEST_BOOTSTRAP_N, Samples, compare_medians, quantile
from analysis.summary import Knee, ParetoPoint
from core.statistics.intervals import CONFIDENCE
from core.variants import Image

KNEE_GAIN: Final = 0.10
GAIN_TEXT: Final = f"{100 * KNEE_GAIN:.0f}%"


def pareto(points: Sequence[ParetoPoint]) -> tuple[ParetoPoint, ...]:
    """Mark which variants no other beats: no more expensive, slower, or less accurate, and better in one of these."""

    def dominates(a: ParetoPoint, b: ParetoPoint) -> bool:
        accuracy_a, accuracy_b = a.top1_accuracy or 0.0, b.top1_accuracy or 0.0
        no_worse = a.usd_per_million <= b.usd_per_million and a.latency_ms <= b.latency_ms and accuracy_a >= accuracy_b
        better = a.usd_per_million < b.usd_per_million or a.latency_ms < b.latency_ms or accuracy_a > accuracy_b
        return no_worse and better

    marked = []
    for point in points:
        by = next((other.variant for other in points if dominates(other, point)), None)
        marked.append(point.model_copy(update={"on_front": by is None, "dominated_by": by}))
    return tuple(marked)


def knee(image: Image, metric: str, samples: Mapping[int, Sample], random: np.random.Generator) -> Knee:
    """The smallest memory size that no larger one beats by more than 10% in the median; `samples` by size in MB.

    None, with the reason, where that is the smallest or the largest size, or where the intervals do not tell.
    """
    found, reason = _find_knee({size: samples[size].medians for size in sorted(samples)}, random)
    return Knee(
        model=image.model,
        engine=image.engine,
        architecture=image.architecture,
        start=image.start,
        metric=metric,
        memory_mb=found,
        curve={size: quantile(samples[size].ordered, 0.5) for size in sorted(samples)},
        reason=reason,
    )


def _find_knee(medians: Mapping[int, Samples], random: np.random.Generator) -> tuple[int | None, str]:
    """Walk up from the smallest size for as long as a larger one is shown to gain.

    The answer is wrong only if the true knee is taken for beaten by one of the larger sizes, or a smaller size for
    unbeaten by the one that beats it: k - 1 one-sided errors for k sizes, which share 5% (Bonferroni).
    """
    sizes = list(medians)
    if len(sizes) < 3:
        return None, f"needs at least 3 memory sizes that ran, {len(sizes)} did"
    level, kept = 1 - 2 * (1 - CONFIDENCE) / (len(sizes) - 1), 1 - KNEE_GAIN
    for place, size in enumerate(sizes[:-1]):
        larger = sizes[place + 1 :]
        ratios = [compare_medians(medians[other], medians[size], random, level=level).ratio for other in larger]
        if any(ratio.high is not None and ratio.high < kept for ratio in ratios):
            continue
        for other, ratio in zip(larger, ratios, strict=True):
            if ratio.low is None or ratio.low < kept:
                needs = f" (it needs {SMALLEST_BOOTSTRAP_N} environments of each size)" if ratio.reason else ""
                return None, (
                    f"the intervals do not tell whether {other:,} MB is faster than {size:,} MB "
                    f"by more than {GAIN_TEXT}{needs}"
                )
        if place == 0:
            return None, f"no size is faster than the smallest, {size:,} MB, by more than {GAIN_TEXT}"
        gain = max(0.0, *(1 - ratio.value for ratio in ratios if ratio.value is not None))
        return size, f"no larger size is faster by more than {GAIN_TEXT} (the best by {100 * gain:.1f}%)"
    return None, f"the last step still gains more than {GAIN_TEXT}"
