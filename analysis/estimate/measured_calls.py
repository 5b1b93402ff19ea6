"""From a run's rows to the samples that the simulation draws from. No I/O."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.estimate.cells import Measured
from core.run.records import WITHOUT_LOG
from simulation.pool import Calls, Samples


def samples_of(measured: Measured, variant: str) -> Samples | None:
    """Return the calls of one variant, failed ones included; None where nothing warm was measured.

    Warm calls come from the warm experiment, or else from the load; cold ones from the cold experiment, or else from
    anywhere. A call that no client timed, as a scheduled one, took its time on the platform and the median time between
    platform and client of the warm calls. A call that met the gateway's limit has an answer; the simulation applies the
    limit of the front door that it is asked about.
    """
    parts = [part for (key, _, start), part in measured.parts.items() if key == variant and start != "any"]
    if not parts:
        return None
    # A failed call is excluded from latencies, and still what a caller meets.
    mine = pl.concat(parts).filter(
        (pl.col("rule").is_null() | (pl.col("rule") == "failed"))
        & ~pl.col("warmup").fill_null(value=False)
        & ~pl.col("outcome").is_in(WITHOUT_LOG)
    )
    restored = pl.col("restore_ms").fill_null(0.0) > 0
    warm = _first_of(mine.filter(pl.col("start_type") == "warm"), "warm")
    cold = mine.filter((pl.col("start_type") == "cold") & ~restored)
    if not warm.height:
        return None
    overhead_ms = warm.select((pl.col("client_latency_ms") - pl.col("total_ms")).median()).item() or 0.0
    return Samples(
        warm=_calls(warm, overhead_ms),
        cold=_calls(_first_of(cold, "cold"), overhead_ms),
        restored=_calls(mine.filter(restored), overhead_ms),
    )


def _first_of(rows: pl.DataFrame, experiment: str) -> pl.DataFrame:
    own = rows.filter(pl.col("experiment") == experiment)
    return own if own.height else rows


def _calls(rows: pl.DataFrame, overhead_ms: float) -> Calls:
    rows = rows.filter(pl.any_horizontal(pl.col("total_ms", "client_latency_ms").is_not_null()))
    table = rows.select(
        busy=pl.coalesce("total_ms", "client_latency_ms"),
        latency=pl.coalesce("client_latency_ms", pl.col("total_ms") + overhead_ms),
        is_correct=pl.col("outcome").is_in(["ok", "gateway_timeout"]),
        environment=pl.col("log_stream").cast(pl.String).rank("dense"),
    )
    billed = rows["billed_ms"].fill_null(table["busy"].ceil())
    environment = table["environment"]
    return Calls(
        busy_ms=table["busy"].to_numpy().astype(np.float64),
        billed_ms=billed.to_numpy().astype(np.float64),
        latency_ms=np.maximum(table["latency"].to_numpy(), table["busy"].to_numpy()),
        is_correct=table["is_correct"].to_numpy().astype(np.bool_),
        environment=None if environment.null_count() else environment.to_numpy().astype(np.int64),
    )
