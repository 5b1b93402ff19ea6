"""The load test second by second and as a whole: offered, sent, answered, dropped, late. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from analysis.estimate.estimates import percentile
from analysis.summary import LoadSecond, LoadTotals
from core.run.stages import NUMBER_IN_STAGE, RESTARTED, SEARCH
from core.variants import Variant

# Every outcome that is a failure of the function or of the way to it, other than a throttle.
FAILURES: Final = ("gateway_timeout", "missing", "out_of_memory", "init_timeout", "timeout", "error", "connection")
# Warm-up calls come before the shape: they are no part of what it offered.
OF_SHAPE: Final = (
    pl.col("intended_at").is_not_null()
    & ~pl.col("warmup")
    & ~pl.col("protocol").is_in([RESTARTED, SEARCH]).fill_null(value=False)
)
_COUNTS: Final = (
    pl.len().alias("offered"),
    pl.col("sent_at").is_not_null().sum().alias("sent"),
    (pl.col("outcome") == "ok").sum().alias("ok"),
    (pl.col("outcome") == "dropped").sum().alias("dropped"),
    pl.col("late").sum(),
)


def load_rows(rows: pl.DataFrame, late_after_ms: float) -> pl.DataFrame:
    """Calls of the load shape, with the second they were due and answered in, and how late they were sent."""
    load = (
        rows.lazy()  # so that it copies no other columns
        .filter((pl.col("experiment") == "load") & OF_SHAPE)
        .select("call_id", "variant", "protocol", "outcome", "start_type", "intended_at", "sent_at", "answered_at")
        .collect()
    )
    stage = pl.col("call_id").str.replace(NUMBER_IN_STAGE, "")
    start = pl.col("intended_at").min().over("variant", stage)
    lag_ms = (pl.col("sent_at") - pl.col("intended_at")) * 1000
    # Repeats share one time axis.
    return load.with_columns(
        start.alias("started_at"),
        (pl.col("intended_at") - start).floor().cast(pl.Int32).alias("second"),
        (pl.col("answered_at") - start).floor().cast(pl.Int32).alias("answered_second"),
        lag_ms.alias("lag_ms"),
        (lag_ms > late_after_ms).fill_null(value=False).alias("late"),
    )


def make_load_seconds(
    rows: pl.DataFrame, variants: Mapping[str, Variant], late_after_ms: float
) -> tuple[LoadSecond, ...]:
    """Offered, sent, answered, dropped and late, second by second of each variant's load test."""
    load = load_rows(rows, late_after_ms)
    if load.height == 0:
        return ()
    offered = load.group_by("variant", "second").agg(
        *_COUNTS,
        (pl.col("outcome") == "throttled").sum().alias("throttled"),
        pl.col("outcome").is_in(FAILURES).sum().alias("failed"),
        (pl.col("start_type") == "cold").sum().alias("cold"),
    )
    answered = (
        load.filter(pl.col("answered_second").is_not_null())
        .group_by("variant", pl.col("answered_second").alias("second"))
        .agg(pl.len().alias("answered"))
    )
    seconds = offered.join(answered, on=["variant", "second"], how="full", coalesce=True).fill_null(0)
    order = pl.DataFrame({"variant": list(variants), "place": range(len(variants))})
    seconds = seconds.join(order, on="variant").sort("place", "second").drop("place")
    return tuple(LoadSecond.model_validate(line) for line in seconds.iter_rows(named=True))


def make_load_totals(
    rows: pl.DataFrame, variants: Mapping[str, Variant], late_after_ms: float
) -> tuple[LoadTotals, ...]:
    """Each variant's load test as a whole."""
    load = load_rows(rows, late_after_ms)
    found = []
    for key in variants:
        part = load.filter(pl.col("variant") == key)
        if part.height == 0:
            continue
        spans = part.group_by("started_at").agg(pl.col("intended_at").max() - pl.col("started_at").first())
        started_at, durations_s = spans.sort("started_at").get_columns()
        duration_s = max(float(durations_s.sum()), 1e-9)
        answered = int(part["answered_at"].is_not_null().sum())
        found.append(
            LoadTotals(
                variant=key,
                protocol=", ".join(sorted(part["protocol"].drop_nulls().unique().to_list())),
                started_at=tuple(started_at),
                durations_s=tuple(durations_s),
                duration_s=duration_s,
                **part.select(_COUNTS).row(0, named=True),
                answered=answered,
                offered_rps=part.height / duration_s,
                achieved_rps=answered / duration_s,
                send_lag_p99_ms=percentile(np.sort(part["lag_ms"].drop_nulls().to_numpy()), 0.99),
            )
        )
    return tuple(found)
