"""Selections from a summary that several figures use. No I/O."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from analysis.report.figures.marks import Figure, Points, Text, curve_figure, image_series
from analysis.summary import Summary
from core.run.records import Experiment
from core.variants import Image

BOX_FROM_N: Final = 5  # below, quartiles would be the samples themselves
WHISKERS_FROM_N: Final = 20  # below, p5 and p95 would be the extremes themselves
MAX_TIME_BINS: Final = 120


def memory_sizes_of(summary: Summary) -> list[int]:
    return sorted({variant.memory_mb for variant in summary.variants.values()})


def stem(image: Image) -> str:
    """An image's part of a file name, for example `resnet50` or `resnet50_litert`."""
    return image.model if image.is_the_papers else f"{image.model}_{image.group.replace('-', '_')}"


def why_no(summary: Summary, experiment: str) -> str:
    if experiment not in summary.experiments:
        return f"the {experiment} experiment is not part of this run"
    return f"the {experiment} experiment left no sample to estimate from"


def detail_of(what: str, points: Points) -> str:
    return f"{what}, {points.sample_range}" if points.rows else ""


def by_image(summary: Summary, text: Text, where: tuple[Experiment, str], metric: str, axis_title: str) -> Figure:
    """The median of one quantity against memory, one curve for each of the text's images."""
    points = Points(summary)
    for image in text.images:
        for variant in summary.variants_of(image):
            points.add(variant, where, image.display_name, metric)
    return curve_figure(
        replace(text, detail=detail_of(text.detail or "Median with 95% interval", points)),
        points,
        image_series(summary),
        axis_title,
        memory_sizes_of(summary),
        why_no(summary, where[0]),
    )


def bin_width_s(summary: Summary) -> int:
    last = max((second.second for second in summary.load_seconds), default=0)
    return max(1, math.ceil((last + 1) / MAX_TIME_BINS))
