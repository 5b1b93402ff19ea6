"""The figures of a run: those of the paper under its numbers, and those it lacks.

What is drawn is aggregated first, so a figure's size does not grow with the number of invocations. A value that could
not be estimated is named below the title with its reason, never drawn as 0. Every figure carries the badge of its
origin inside the picture, so a copy of it cannot be mistaken for another figure.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis.estimate.cells import Measured, kept
from analysis.report.figures.choice import (
    cost_against_latency,
    cost_per_million,
    memory_used,
    monthly_by_strategy,
    outcomes,
    swapping,
)
from analysis.report.figures.latency import cold_phases, load_over_time, spread
from analysis.report.figures.marks import Figure
from analysis.report.figures.paper import by_model, cold_against_warm, load, request_rate, warm
from analysis.summary import Summary
from core.variants import Image

# Of ANALYSED_COLUMNS: sorting the cells copies all that is left.
NEEDED_BY_NO_FIGURE: Final = (
    *("call_id", "group", "trigger", "model", "memory_mb", "weights", "start_evidence", "http_status", "sent_at"),
    *("answered_at", "billed_ms", "max_memory_used_mb", "handler_ms", "decode_ms", "init_to_call_ms"),
    "major_page_faults",
)


def build_figures(summary: Summary, invocations: pl.DataFrame) -> list[Figure]:
    """Every figure of a run, those of all models first within each section.

    `invocations` has ANALYSED_COLUMNS. A model that is not in the run has no
    figure; the paper's figures are of its engine alone, and absent without it; an experiment that left nothing has
    figures that say so.
    """
    known = pl.col("variant").is_in(list(summary.variants))
    measured = Measured(kept(invocations.drop(NEEDED_BY_NO_FIGURE), known))
    images = summary.images
    figures = [
        *by_model(summary, 14),
        *by_model(summary, 16),
        *(warm(summary, image) for image in images),
        spread(summary, measured, "warm"),
        *by_model(summary, 15),
        spread(summary, measured, "cold"),
        *(cold_against_warm(summary, image) for image in images),
        *(cold_phases(summary, measured, image) for image in images),
        request_rate(summary),
        spread(summary, measured, "load"),
        *(load(summary, image) for image in images),
        *(load_over_time(summary, measured, image) for image in images),
        cost_per_million(summary, "warm"),
        cost_per_million(summary, "cold"),
        *(monthly_by_strategy(summary, image) for image in images),
        cost_against_latency(summary),
        memory_used(summary),
    ]
    apart = {Image(cell.model, cell.engine, cell.architecture) for cell in summary.swapping}
    figures += [swapping(summary, image) for image in images if image in apart]
    if any(outcome != "ok" and count for outcome, count in summary.outcomes.items()):
        figures.append(outcomes(summary))
    return figures
