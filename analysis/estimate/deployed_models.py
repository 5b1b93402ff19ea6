"""What is published of the models, and what was measured of those deployed: Table 1. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from analysis.summary import Table1Row
from core.variants import DISPLAY_NAMES

BYTES_PER_MB: Final = 1_000_000
ACCURACY_SOURCE: Final = "Keras Applications, ImageNet validation set: https://keras.io/api/applications/"


@dataclass(frozen=True)
class Published:
    """A model as the paper's Table 1 states it; the accuracies are those of Keras' published weights."""

    size_mb: float
    top1: float
    top5: float
    multiply_adds: float


PUBLISHED: Final[dict[str, Published]] = {
    "resnet50": Published(size_mb=98, top1=0.749, top5=0.921, multiply_adds=4e9),
    "mobilenet": Published(size_mb=16, top1=0.704, top5=0.895, multiply_adds=579e6),
    "inceptionv3": Published(size_mb=92, top1=0.779, top5=0.937, multiply_adds=6e9),
}


@dataclass(frozen=True)
class DeployedModel:
    """Facts of a model as deployed, from the line the function logs at its start."""

    size_bytes: int | None
    parameters: int | None
    multiply_adds: int | None


def accuracies(models: Collection[str]) -> dict[str, float]:
    """Published top-1 accuracy of each model that has one."""
    return {model: PUBLISHED[model].top1 for model in models if model in PUBLISHED}


def table1(
    models: Collection[str], deployed: Mapping[str, DeployedModel], weights: Mapping[str, tuple[str, ...]]
) -> tuple[Table1Row, ...]:
    """Table 1 of the paper, measured beside published."""
    rows = []
    for model in models:
        paper, found = PUBLISHED.get(model), deployed.get(model)
        rows.append(
            Table1Row(
                model=model,
                display_name=DISPLAY_NAMES.get(model, model),
                size_mb=found.size_bytes / BYTES_PER_MB if found and found.size_bytes else None,
                parameters=found.parameters if found else None,
                multiply_adds=found.multiply_adds if found else None,
                top1_accuracy=paper.top1 if paper else None,
                top5_accuracy=paper.top5 if paper else None,
                accuracy_source=ACCURACY_SOURCE if paper else "",
                weights=weights.get(model, ()),
                paper_size_mb=paper.size_mb if paper else None,
                paper_top1_accuracy=paper.top1 if paper else None,
                paper_top5_accuracy=paper.top5 if paper else None,
                paper_multiply_adds=paper.multiply_adds if paper else None,
                reason="" if found else "the logs hold no line in which the function describes its model",
            )
        )
    return tuple(rows)
