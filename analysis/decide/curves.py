"""Find the Pareto front, and the knee of a model's memory curve. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from analysis.summary import Knee, ParetoPoint
from core.variants import Image

KNEE_GAIN: Final = 0.10


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


def knee(image: Image, metric: str, curve: Mapping[int, float]) -> Knee:
    """The smallest memory size that no larger one beats by more than 10% in the median."""
    sizes = sorted(curve)
    found: int | None = None
    if len(sizes) < 3:
        reason = f"needs at least 3 memory sizes that ran, {len(sizes)} did"
    else:
        found = next(
            size
            for size in sizes
            if all(curve[larger] >= (1 - KNEE_GAIN) * curve[size] for larger in sizes if larger > size)
        )
        if found == sizes[-1]:
            found, reason = None, f"the last step still gains more than {100 * KNEE_GAIN:.0f}%"
        else:
            gain = 1 - min(curve[size] for size in sizes if size >= found) / curve[found]
            reason = f"no larger size is faster by more than {100 * KNEE_GAIN:.0f}% (the best by {100 * gain:.1f}%)"
    return Knee(
        model=image.model,
        engine=image.engine,
        architecture=image.architecture,
        metric=metric,
        memory_mb=found,
        curve={size: curve[size] for size in sizes},
        reason=reason,
    )
