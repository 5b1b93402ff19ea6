"""What must be true of a finished run before the demo calls itself done."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from core.configuration import Configuration
    from core.run.run_directory import RunDirectory


def check_run(run: RunDirectory, configuration: Configuration) -> list[str]:
    """Every variant has cold, warm and load rows, cold rows carry evidence, every call sent is a row or counted.

    Returns one sentence for each thing that is wrong; an empty list is a good run.
    """
    path = run.rows_path
    if not path.exists():
        return [f"{path} was not written"]
    invocations = pl.read_parquet(path)
    return [
        *_missing_rows(invocations, configuration),
        *_cold_without_evidence(invocations),
        *_lost_calls(invocations, run),
        *([] if run.report_path.exists() else [f"{run.report_path} was not written"]),
    ]


def _missing_rows(invocations: pl.DataFrame, configuration: Configuration) -> list[str]:
    found = set(invocations.select("variant", "experiment").unique().rows())
    wanted = itertools.product((variant.key for variant in configuration.variants), ("cold", "warm", "load"))
    return [
        f"{variant} has no {experiment} rows" for variant, experiment in wanted if (variant, experiment) not in found
    ]


def _cold_without_evidence(invocations: pl.DataFrame) -> list[str]:
    cold = invocations.filter(pl.col("start_type") == "cold")
    bare = cold.filter(pl.col("start_evidence").is_null() | (pl.col("start_evidence") == "none")).height
    problems = [f"{bare} of {cold.height} cold rows carry no evidence"] if bare else []
    return problems if cold.height else [*problems, "no row is a cold start"]


def _lost_calls(invocations: pl.DataFrame, run: RunDirectory) -> list[str]:
    sent = {record.call_id for record in run.client_records()}
    rows = invocations["call_id"].drop_nulls().to_list()
    problems = []
    if lost := sent - set(rows):
        problems.append(f"{len(lost)} of {len(sent)} calls that were sent are neither data nor counted as missing")
    if len(rows) != len(set(rows)):
        problems.append(f"{len(rows) - len(set(rows))} calls stand twice in the data")
    return problems
