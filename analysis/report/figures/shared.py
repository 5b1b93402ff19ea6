"""What figures of every kind ask of a summary. No I/O."""

from __future__ import annotations

import math
from typing import Final

from analysis.report.figures.marks import (
    Points,
)
from analysis.report.wording import (
    parse_variant,
)
from analysis.summary import Summary
from core.variants import Variant

BOX_FROM_N: Final = 5  # below, quartiles would be the samples themselves
WHISKERS_FROM_N: Final = 20  # below, p5 and p95 would be the extremes themselves
MAX_TIME_BINS: Final = 120


def variants_of(summary: Summary, model: str | None = None) -> list[Variant]:
    variants = [parse_variant(key) for key in summary.variants]
    return [variant for variant in variants if model is None or variant.model == model]


def memory_sizes_of(summary: Summary) -> list[int]:
    return sorted({variant.memory_mb for variant in variants_of(summary)})


def why_no(summary: Summary, experiment: str) -> str:
    if experiment not in summary.experiments:
        return f"the {experiment} experiment is not part of this run"
    return f"the {experiment} experiment left no sample to estimate from"


def detail_of(what: str, points: Points) -> str:
    return f"{what}, {points.sample_range}" if points.rows else ""


def bin_width_s(summary: Summary) -> int:
    last = max((second.second for second in summary.load_seconds), default=0)
    return max(1, math.ceil((last + 1) / MAX_TIME_BINS))
