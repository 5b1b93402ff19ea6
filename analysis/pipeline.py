"""From a run's raw files to its rows, summary, tables, figures and report: offline, as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from analysis.estimate.cells import ANALYSED_COLUMNS
from analysis.estimate.cross_check import check_metrics
from analysis.estimate.deployed_models import DeployedModel
from analysis.estimate.run_summary import Extras, make_summary
from analysis.estimate.touched_files import parse_touched
from analysis.ingest.gathering import make_rows
from analysis.ingest.run_files import read_image_gb, read_metrics, read_rows, rewrite_hint
from analysis.report.text import summary_markdown
from analysis.summary import Summary
from core import strict_json
from core.configuration import Configuration
from core.errors import RecordError
from core.money.price_list import prices_of_run
from core.run.records import Manifest
from core.run.run_directory import RunDirectory, write_atomically
from core.run.stages import search_of, search_result
from core.run.stops import read_stops
from core.statistics.rate_search import HighestRate

Say = Callable[[str], None]


def run_configuration(manifest: Manifest) -> Configuration:
    """The configuration a run was measured with. Raises RecordError."""
    try:
        return Configuration.model_validate(manifest.configuration)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise RecordError(
            f"the manifest of {manifest.run_id} holds a configuration of another version: {where}: {detail['msg']}"
        ) from None


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
        deployed={key: _deployed(record) for key, record in gathered.models.items()},
        image_gb=read_image_gb(run, configuration.variants),
        metric_checks=check_metrics(rows, read_metrics(run)),
        warnings=gathered.breaches.warnings(),
        stops=read_stops(run),
        highest_rates=highest_rates(run, run_configuration(manifest)),
        searched_goal=run_configuration(manifest).goal,
    )
    summary = make_summary(rows, manifest, configuration, prices, extras, free_tier=free_tier, with_what_if=with_report)
    write_atomically(run.summary_path, summary.model_dump_json(indent=1) + "\n")
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
    path = run.summary_path
    try:
        return Summary.model_validate(strict_json.loads(path.read_bytes()))
    except OSError:
        raise RecordError(
            f"{run.root} holds no {path.name}", hint=f"Collect it: python analysis/collect.py --run {run.run_id}"
        ) from None
    except ValueError:
        raise RecordError(
            f"{path} is not a summary of this version",
            hint=rewrite_hint(run),
        ) from None
