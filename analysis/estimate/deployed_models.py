"""Table 1: published facts of the models, and measured facts of the deployed ones. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from analysis.estimate.touched_files import Touched
from analysis.summary import Table1Row
from core.configuration import Configuration
from core.models import PAPER_MODELS

BYTES_PER_MB: Final = 1_000_000


@dataclass(frozen=True)
class DeployedModel:
    """Facts of a model as deployed, from the line the function logs at its start."""

    size_bytes: int | None
    parameters: int | None
    multiply_adds: int | None
    touched: Touched | None = None


def accuracies(configuration: Configuration) -> dict[str, float]:
    """Published top-1 accuracy of each model that has one."""
    published = {name: configuration.model(name).top1_accuracy for name in configuration.matrix.models}
    return {name: accuracy for name, accuracy in published.items() if accuracy is not None}


def table1(
    configuration: Configuration, deployed: Mapping[str, DeployedModel], weights: Mapping[str, tuple[str, ...]]
) -> tuple[Table1Row, ...]:
    """Table 1 of the paper, measured next to published; `deployed` by the key of the image."""
    rows = []
    for image in configuration.container_images:
        model = image.model
        record, found, paper = configuration.model(model), deployed.get(image.key), PAPER_MODELS.get(model)
        rows.append(
            Table1Row(
                model=model,
                engine=image.engine,
                architecture=image.architecture,
                display_name=image.display_name,
                size_mb=found.size_bytes / BYTES_PER_MB if found and found.size_bytes else None,
                parameters=found.parameters if found else None,
                multiply_adds=found.multiply_adds if found else None,
                top1_accuracy=record.top1_accuracy,
                top5_accuracy=record.top5_accuracy,
                accuracy_source=record.accuracy_source,
                weights=weights.get(model, ()),
                paper_size_mb=paper.size_mb if paper else None,
                paper_top1_accuracy=paper.top1_accuracy if paper else None,
                paper_top5_accuracy=paper.top5_accuracy if paper else None,
                paper_multiply_adds=paper.multiply_adds if paper else None,
                reason="" if found else "the logs hold no line in which the function describes its model",
            )
        )
    return tuple(rows)
