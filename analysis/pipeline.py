"""From a run's raw files to its rows, summary, tables, figures and report: offline, as often as one likes."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import ValidationError

from analysis.estimate.cells import ANALYSED_COLUMNS
from analysis.estimate.cross_check import check_metrics
from analysis.estimate.deployed_models import DeployedModel
from analysis.estimate.summarise import Extras, summarise
from analysis.estimate.touched_files import parse_touched
from analysis.ingest.contract import Breaches
from analysis.ingest.joining import join_variant
from analysis.ingest.platform_logs import LogParser
from analysis.ingest.restarted_loads import label_broken_off
from analysis.ingest.run_files import (
    RawGroup,
    no_clients,
    raw_group,
    read_clients_by_variant,
    read_image_gb,
    read_metrics,
    read_rows,
    write_rows,
)
from analysis.report.text import summary_markdown
from analysis.summary import Summary
from core import strict_json
from core.charges import LOG_EVENT_OVERHEAD_BYTES
from core.configuration import Configuration, read_configuration
from core.errors import RecordError
from core.paths import BENCHMARK_TOML
from core.price_list import prices_of_run
from core.rate_search import HighestRate
from core.records import Manifest
from core.run_directory import RunDirectory, write_atomically
from core.stages import complete_stages, search_of, search_result
from core.stops import read_stops

Say = Callable[[str], None]
# The line the lab adds after REPORT; AWS would not bill it.
_LAB_LINE: Final = '"lab.conditions"'
# Two processes take a second to start; below this the parsing takes less.
WORTH_PROCESSES_BYTES: Final = 20_000_000
MAX_PROCESSES: Final = 4


@dataclass
class Gathered:
    """Facts from the raw logs besides the rows; filled while they are read."""

    log_bytes: dict[str, float] = field(default_factory=dict)
    deployed: dict[str, DeployedModel] = field(default_factory=dict)
    breaches: Breaches = field(default_factory=Breaches)


def run_configuration(manifest: Manifest) -> Configuration:
    """The configuration a run was measured with. Raises RecordError."""
    try:
        return Configuration.model_validate(_of_this_version(manifest.configuration))
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise RecordError(
            f"the manifest of {manifest.run_id} holds a configuration of another version: {where}: {detail['msg']}"
        ) from None


def _of_this_version(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Read the configuration of older runs: `p99_ms` was the goal, and all warm calls met one environment."""
    goal = dict(configuration.get("goal") or {})
    if "p99_ms" in goal:
        goal["limit_ms"] = goal.pop("p99_ms")
        goal.pop("requests_per_month", None)  # [traffic] has the one volume
    experiments = dict(configuration.get("experiments") or {})
    experiments["warm"] = {"environments": 1, **(experiments.get("warm") or {})}
    # Settings of the lab that came later change nothing that was measured.
    lab = read_configuration(BENCHMARK_TOML, profile="").lab.model_dump() | (configuration.get("lab") or {})
    return {**configuration, "goal": goal, "experiments": experiments, "lab": lab}


def make_rows(run: RunDirectory, manifest: Manifest, configuration: Configuration) -> Gathered:
    """Parse and join everything, and write `data/invocations.parquet` and `.csv`."""
    gathered = Gathered()
    write_rows(run, _parts(run, manifest, configuration, gathered))
    return gathered


def _parts(
    run: RunDirectory, manifest: Manifest, configuration: Configuration, gathered: Gathered
) -> Iterator[pl.DataFrame]:
    nothing = no_clients()
    directories = [str(raw_group(run, configuration.names.function(v)).directory) for v in configuration.variants]
    with _parsers(directories) as parsed:
        # The other processes are at work meanwhile.
        by_variant = read_clients_by_variant(run)
        without_records = not by_variant
        whole_stages = complete_stages(run)
        for variant, group in zip(configuration.variants, parsed, strict=True):
            mine = by_variant.pop(variant.key, nothing)
            if whole_stages is not None:
                mine = label_broken_off(mine, whole_stages)
            logged = group.frame()
            if logged.height:
                gathered.log_bytes[variant.key] = group.size_bytes / logged.height
            if group.model:
                gathered.deployed[variant.image.key] = _deployed(group.model)
            if logged.height or mine.height:
                joined = join_variant(
                    variant, logged, mine, manifest.endpoint, manifest.run_id, logs_alone=without_records
                )
                gathered.breaches.look_at(variant, logged, joined)
                yield joined


@dataclass(frozen=True)
class ParsedGroup:
    """One log group, parsed; the rows cross from process to process as Arrow IPC."""

    rows_ipc: bytes
    size_bytes: int  # what AWS bills as ingested
    model: dict[str, Any]

    def frame(self) -> pl.DataFrame:
        return pl.read_ipc(self.rows_ipc)


def parse_group(directory: str) -> ParsedGroup:
    """Parse every page of a log group; runs in a separate process if there is much to parse."""
    parser = LogParser()
    size = 0
    for page in RawGroup(Path(directory)).pages():
        parser.feed(page["logStreamName"].to_list(), page["timestamp"].to_list(), page["message"].to_list())
        billed = page.filter(~pl.col("message").str.contains(_LAB_LINE, literal=True))
        size += int(billed["message"].str.len_bytes().sum()) + LOG_EVENT_OVERHEAD_BYTES * billed.height
    buffer = io.BytesIO()
    parser.frame().write_ipc(buffer)
    return ParsedGroup(buffer.getvalue(), size, parser.model)


@contextmanager
def _parsers(directories: Sequence[str]) -> Iterator[Iterator[ParsedGroup]]:
    """Parse log groups in order, on several CPUs where their size is worth the processes."""
    size = sum(path.stat().st_size for directory in directories for path in Path(directory).glob("*.gz"))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if size < WORTH_PROCESSES_BYTES or cpus == 1:
        yield map(parse_group, directories)
        return
    processes = min(cpus, MAX_PROCESSES)
    # Spawned, not forked: polars has threads, which a fork would leave in an undefined state.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        # No further ahead than one for each process, so that memory does not grow with the number of groups.
        left = iter(directories)
        waiting = deque(pool.submit(parse_group, directory) for directory in islice(left, processes + 1))

        def groups() -> Iterator[ParsedGroup]:
            while waiting:
                group = waiting.popleft().result()
                waiting.extend(pool.submit(parse_group, directory) for directory in islice(left, 1))
                yield group

        try:
            yield groups()
        finally:
            for future in waiting:
                future.cancel()


def _deployed(record: Mapping[str, Any]) -> DeployedModel:
    def whole(name: str) -> int | None:
        value = record.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    touched = parse_touched(record.get("touched"))
    return DeployedModel(whole("size_bytes"), whole("parameters"), whole("multiply_adds"), touched)


def build(
    run: RunDirectory,
    *,
    goal_of: Configuration | None = None,
    free_tier: bool = False,
    with_report: bool = True,
    say: Say = lambda _text: None,
) -> Summary:
    """Write everything below a run's directory again from its raw files.

    `goal_of` replaces [goal], [traffic] and [prices] of the run's own configuration. Raises RecordError where there are
    no invocations at all.
    """
    manifest = run.read_manifest()
    configuration = run_configuration(manifest)
    if goal_of is not None:
        configuration = configuration.model_copy(
            update={"goal": goal_of.goal, "traffic": goal_of.traffic, "prices": goal_of.prices}
        )
    prices = prices_of_run(run, configuration.prices)
    say("joining logs and client records")
    gathered = make_rows(run, manifest, configuration)
    rows = read_rows(run, ANALYSED_COLUMNS)
    if rows.height == 0:
        raise RecordError(
            f"{run.root} holds neither client records nor log events",
            hint="Measure first: `inference-lab experiments run`, then collect.",
        )
    say(f"estimating from {rows.height:,} invocations")
    extras = Extras(
        log_bytes=gathered.log_bytes,
        deployed=gathered.deployed,
        image_gb=read_image_gb(run, configuration.variants),
        metric_checks=check_metrics(rows, read_metrics(run)),
        warnings=gathered.breaches.warnings(),
        stops=read_stops(run),
        highest_rates=highest_rates(run, run_configuration(manifest)),
        searched_goal=run_configuration(manifest).goal,
    )
    summary = summarise(rows, manifest, configuration, prices, extras, free_tier=free_tier, with_what_if=with_report)
    write_atomically(run.root / "summary.json", summary.model_dump_json(indent=1) + "\n")
    write_atomically(run.summary_text_path, summary_markdown(summary))
    if with_report:
        say("drawing")
        from analysis.report.page import write_report  # noqa: PLC0415 - the drawing libraries take a second to load

        write_report(run, rows, summary)
    return summary


def highest_rates(run: RunDirectory, configuration: Configuration) -> dict[str, HighestRate]:
    """Return what the load's search found, by variant; the goal is the one it was made with."""
    search = search_of(configuration.experiments.load, configuration.goal)
    found = {
        variant.key: search_result(run, variant.key, search, configuration.goal.limit_ms)
        for variant in configuration.variants
    }
    return {key: one for key, one in found.items() if one is not None}


def read_summary(run: RunDirectory) -> Summary:
    """The summary of a collected run. Raises RecordError."""
    path = run.root / "summary.json"
    try:
        return Summary.model_validate(strict_json.loads(path.read_bytes()))
    except OSError:
        raise RecordError(
            f"{run.root} holds no summary.json", hint=f"Collect it: python analysis/collect.py --run {run.run_id}"
        ) from None
    except ValueError:
        raise RecordError(
            f"{path} is not a summary of this version",
            hint=f"Write it again: inference-lab analysis report {run.run_id}",
        ) from None
