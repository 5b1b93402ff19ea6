"""Selections from a summary that several figures use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from analysis.report.figures.marks import Figure, Points, Text, curve_figure, image_series
from analysis.report.wording import TEMPLATES
from analysis.summary import METRICS, Summary
from analysis.texts import texts
from core.run.records import Experiment
from core.variants import Image

BOX_FROM_N: Final = 5  # below, quartiles would be the samples themselves
WHISKERS_FROM_N: Final = 20  # below, p5 and p95 would be the extremes themselves
MAX_TIME_BINS: Final = 120
# The paper's own numbers of its figures by model.
PAPER_NUMBERS: Final = {
    "warm": {"inceptionv3": 4, "mobilenet": 5, "resnet50": 6},
    "cold": {"inceptionv3": 7, "resnet50": 8, "mobilenet": 9},
    "load": {"inceptionv3": 10, "resnet50": 11, "mobilenet": 12},
}


def memory_sizes_of(summary: Summary) -> list[int]:
    return sorted({variant.memory_mb for variant in summary.variants.values()})


def stem(image: Image) -> str:
    """An image's part of a file name, for example `resnet50` or `resnet50_litert`."""
    return image.model if image.is_the_papers else f"{image.model}_{image.group.replace('-', '_')}"


def why_no(summary: Summary, experiment: str) -> str:
    if experiment not in summary.experiments:
        return f"the {experiment} experiment is not part of this run"
    return f"the {experiment} experiment left no sample to estimate from"


def figure_text(
    key: str, images: Sequence[Image], points: Points | None = None, *, name: str = "", number: int = 0, **gaps: Any
) -> Text:
    """Return the words of a figure, whose gaps are filled in; `name` is the file name where it differs from the key.

    `number` is the paper's. The detail of a figure of points says how many samples each has.
    """
    found = texts(TEMPLATES / "figures.toml")[key]
    detail = found["detail"].format(**gaps)
    if points is not None:
        detail = f"{detail}, {points.sample_range}" if points.rows else ""
    return Text(
        id=f"fig{number:02d}_{name or key}" if number else name or key,
        title=found["title"].format(**gaps),
        caption=found["caption"].format(**gaps),
        section=found["section"].format(**gaps),
        experiments=tuple(experiment.format(**gaps) for experiment in found["experiments"]),
        images=tuple(images),
        label=f"Figure {number}" if number else "",
        detail=detail,
    )


def image_text(key: str, image: Image, points: Points | None = None, **gaps: Any) -> Text:
    """Return the words of a figure of one image; a model or engine that the paper does not have gets no number."""
    number = PAPER_NUMBERS.get(key, {}).get(image.model, 0) if image.is_the_papers else 0
    return figure_text(key, (image,), points, name=f"{key}_{stem(image)}", number=number, image=image, **gaps)


def by_image(
    summary: Summary, key: str, images: Sequence[Image], where: tuple[Experiment, str], metric: str, **more: Any
) -> Figure:
    """The median of one quantity against memory, one curve for each image; `more` is for `figure_text`."""
    points = Points(summary)
    for image in images:
        for variant in summary.variants_of(image):
            points.add(variant, where, image.display_name, metric)
    return curve_figure(
        figure_text(key, images, points, **more),
        points,
        image_series(summary),
        METRICS[metric][1],
        memory_sizes_of(summary),
        why_no(summary, where[0]),
    )


def bin_width_s(summary: Summary) -> int:
    last = max((second.second for second in summary.load_seconds), default=0)
    return max(1, math.ceil((last + 1) / MAX_TIME_BINS))
