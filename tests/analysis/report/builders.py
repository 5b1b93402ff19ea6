"""Synthetic runs for the report's tests, summarized by the real code; `change` replaces whole fields afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import polars as pl

from analysis.estimate.run_summary import make_summary
from analysis.summary import Summary
from core.configuration import Configuration, read_configuration
from core.money.prices import read_prices
from tests.analysis.synthetic import frame, make_rows, manifest_of

TIME_SCALE = 13.0  # a lab's clock that every page has to mention


def demo_configuration(
    *,
    models: Sequence[str] = (),
    engines: Sequence[str] = (),
    architectures: Sequence[str] = (),
    memory_sizes_mb: Sequence[int] = (),
) -> Configuration:
    configuration = read_configuration(profile="")
    change: dict[str, Any] = {}
    if models:
        change["models"] = tuple(models)
    if engines:
        change["engines"] = tuple(engines)
    if architectures:
        change["architectures"] = tuple(architectures)
    if memory_sizes_mb:
        change["memory_sizes_mb"] = tuple(memory_sizes_mb)
    return configuration.model_copy(update={"matrix": configuration.matrix.model_copy(update=change)})


def summary_of(
    configuration: Configuration, rows: Sequence[dict[str, Any]], /, *, with_what_if: bool = False, **change: Any
) -> Summary:
    """The summary of these rows, with the experiments that they hold."""
    manifest = manifest_of(configuration, rows)
    endpoint = manifest.endpoint
    if endpoint.source == "lab":
        endpoint = endpoint.model_copy(update={"time_scale": TIME_SCALE})
    experiments = tuple(dict.fromkeys(row["experiment"] for row in rows))
    manifest = manifest.model_copy(update={"endpoint": endpoint, "experiments": experiments})
    summary = make_summary(frame(rows), manifest, configuration, read_prices(), with_what_if=with_what_if)
    return summary.model_copy(update=change)


def make_run(**options: Any) -> tuple[Configuration, pl.DataFrame, Summary]:
    """Configuration, invocations and summary of a synthetic run; options of `demo_configuration` and `make_rows`.

    A run of the same options is made once: a summary takes seconds, and nobody can change one.
    """
    change = options.pop("change", {})
    selected = "keep" in options or "forced" in options
    run = _run(options) if selected else _run_made_once(json.dumps(options, sort_keys=True))
    return run[0], run[1], run[2].model_copy(update=change)


@cache
def _run_made_once(options: str) -> tuple[Configuration, pl.DataFrame, Summary]:
    return _run(json.loads(options))


def _run(options: dict[str, Any]) -> tuple[Configuration, pl.DataFrame, Summary]:
    shape = {
        key: options.pop(key) for key in ("models", "engines", "architectures", "memory_sizes_mb") if key in options
    }
    keep = options.pop("keep", lambda _row: True)
    forced = options.pop("forced", None)
    with_what_if = options.pop("with_what_if", False)
    configuration = demo_configuration(**shape)
    rows = [row for row in make_rows(configuration, **options) if keep(row)]
    if forced is not None:
        rows = rows[:forced]
    return configuration, frame(rows), summary_of(configuration, rows, with_what_if=with_what_if)
