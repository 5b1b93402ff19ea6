"""Tables about the run: models, quality of its data, configuration, numbers behind claims and figures. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from analysis.report.figures.marks import Figure, Row
from analysis.report.tables.parts import (
    Table,
    Value,
    count_cell,
    filters,
    make_table,
    number_cell,
    share_cell,
)
from analysis.report.wording import NO_NUMBER, count_text, moment_text, number_text
from analysis.summary import Cell, Claim, Summary, Table1Row, TouchedFiles
from core import strict_json
from core.variants import Image

TOUCHED_NOTE: Final = (
    "Until the first answer, measured at build, without AWS's base image. Pages of mapped files, other files whole. "
    "Lambda fetches an image in chunks of 512 KiB"
)


def table1(summary: Summary) -> Table:
    """The paper's Table 1, measured next to quoted."""

    def times(value: float | None, unit: float) -> float | None:
        return None if value is None else value / unit

    return make_table(
        "table1",
        "Table 1. The models as deployed, next to the paper's values",
        summary.table1,
        (
            ("Model", lambda row: row.display_name),
            ("Size, MB", lambda row: number_cell(row.size_mb, reason=row.reason if row.size_mb is None else "")),
            ("paper", lambda row: row.paper_size_mb),
            ("Parameters, M", lambda row: times(row.parameters, 1e6)),
            ("Multiply-adds, G", lambda row: times(row.multiply_adds, 1e9)),
            ("paper", lambda row: times(row.paper_multiply_adds, 1e9)),
            ("Top-1", lambda row: row.top1_accuracy),
            ("paper", lambda row: row.paper_top1_accuracy),
            ("Top-5", lambda row: row.top5_accuracy),
            ("paper", lambda row: row.paper_top5_accuracy),
            ("Weights here", lambda row: ", ".join(row.weights)),
            ("Source of accuracy", lambda row: row.accuracy_source),
        ),
        attributes=lambda row: _of_image(summary, row),
        note="Size, parameters, multiply-adds of the deployed model. Accuracies quoted from their source, not measured",
    )


def touched_files_table(summary: Summary) -> Table:
    """How much of its image a start reads."""
    return make_table(
        "touched-files",
        "What a start reads of its image",
        summary.touched_files,
        (
            ("Model", lambda row: row.display_name),
            ("Files", lambda row: count_cell(row.files, reason=row.reason)),
            ("MB", lambda row: number_cell(row.mb, reason=row.reason)),
            ("Chunks of 512 KiB", lambda row: count_cell(row.chunks, reason=row.reason)),
        ),
        attributes=lambda row: _of_image(summary, row),
        note=TOUCHED_NOTE,
    )


def largest_files_table(summary: Summary) -> Table:
    """The largest files that a start reads, and what to do about them."""
    return make_table(
        "largest-files",
        "The largest files that a start reads",
        ((row, one) for row in summary.touched_files for one in row.largest),
        (
            ("Model", lambda pair: pair[0].display_name),
            ("File", lambda pair: pair[1].file),
            ("MB", lambda pair: number_cell(pair[1].mb)),
            ("To read less", lambda pair: pair[1].advice),
        ),
        attributes=lambda pair: _of_image(summary, pair[0]),
        note=TOUCHED_NOTE,
    )


def _of_image(summary: Summary, row: TouchedFiles | Table1Row) -> dict[str, str]:
    """Return the filter columns of a row about a container image, which start modes share."""
    image = Image(row.model, row.engine, row.architecture)
    return {"model": row.model} | ({"engine": image.group} if image in summary.images else {})


def outcomes_table(summary: Summary) -> Table:
    """How calls ended, and how many were left out by which rule."""
    cells = [cell for cell in summary.cells if cell.start_type != "any"]
    outcomes = sorted({outcome for cell in cells for outcome in cell.outcomes}, key=lambda name: (name != "ok", name))
    rules = sorted({rule for cell in cells for rule, count in cell.excluded.items() if count})

    def ended(outcome: str) -> tuple[str, Callable[[Cell], int]]:
        return outcome.replace("_", " "), lambda cell: cell.outcomes.get(outcome, 0)

    def left_out(rule: str) -> tuple[str, Callable[[Cell], int]]:
        return f"left out: {rule.replace('_', ' ')}", lambda cell: cell.excluded.get(rule, 0)

    return make_table(
        "outcome-counts",
        "Outcomes, and what was left out of the estimates by which rule",
        cells,
        (
            ("Function", lambda cell: summary.name_of(cell.variant)),
            ("Experiment", lambda cell: cell.experiment),
            ("Start", lambda cell: cell.start_type),
            ("Estimated from", lambda cell: cell.n),
            *(ended(outcome) for outcome in outcomes),
            *(left_out(rule) for rule in rules),
        ),
        attributes=lambda cell: filters(summary, cell.variant, cell.experiment),
    )


def coverage_table(summary: Summary) -> Table:
    """Found in the logs, of what was sent."""
    return make_table(
        "coverage",
        "Coverage: invocations found in the logs of those that must be there",
        summary.coverage,
        (
            ("Function", lambda one: summary.name_of(one.variant)),
            ("Experiment", lambda one: one.experiment),
            ("Sent", lambda one: one.sent),
            ("Expected", lambda one: one.expected),
            ("Found", lambda one: one.found),
            ("Missing", lambda one: one.missing),
            ("In logs alone", lambda one: one.logs_only),
            ("Coverage", lambda one: share_cell(one.share, reason=one.reason)),
        ),
        attributes=lambda one: filters(summary, one.variant, "" if one.experiment == "all" else one.experiment),
    )


def checks_table(summary: Summary) -> Table:
    """CloudWatch's statistics next to our own."""
    agrees = {None: "unknown", True: "yes", False: "no"}
    return make_table(
        "metric-checks",
        "CloudWatch's statistics next to our own",
        summary.metric_checks,
        (
            ("Function", lambda check: summary.name_of(check.variant)),
            ("Metric", lambda check: check.metric),
            ("Statistic", lambda check: check.statistic),
            ("CloudWatch", lambda check: check.cloudwatch),
            ("Own", lambda check: check.own),
            ("Difference, %", lambda check: number_cell(check.difference_percent, digits=2)),
            ("Agrees", lambda check: agrees[check.agrees]),
            ("Remark", lambda check: check.reason),
        ),
        attributes=lambda check: filters(summary, check.variant),
    )


def stops_table(summary: Summary) -> Table:
    """Why sampling of each part of the plan stopped."""
    return make_table(
        "stops",
        "Why sampling stopped",
        summary.stops,
        (
            ("Function", lambda stop: summary.name_of(stop.variant)),
            ("Experiment", lambda stop: stop.experiment),
            ("Protocol", lambda stop: stop.protocol),
            ("Connection", lambda stop: stop.connection),
            ("Reason", lambda stop: stop.reason.replace("_", " ")),
            ("Samples", lambda stop: stop.samples),
            ("Half-width of the median's interval, %", lambda stop: number_cell(stop.half_width_percent, digits=2)),
            ("Detail", lambda stop: stop.detail),
        ),
        attributes=lambda stop: filters(summary, stop.variant, stop.experiment),
    )


def flat(node: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, str) else strict_json.dumps(node, ensure_ascii=False)


def pairs_table(table_id: str, caption: str, pairs: Iterable[tuple[str, Any]], head: str = "Key") -> Table:
    """Two columns of text."""
    return make_table(table_id, caption, pairs, ((head, lambda pair: pair[0]), ("Value", lambda pair: str(pair[1]))))


def run_pairs(summary: Summary) -> list[tuple[str, str]]:
    origin = summary.origin
    return [
        ("Run", summary.run_id),
        ("Started", moment_text(summary.started_at)),
        ("Finished", moment_text(summary.finished_at)),
        ("Ended because", summary.stopped_because or "unknown"),
        ("Source", origin.source),
        ("Region", origin.region),
        ("Account", origin.account_id),
        ("Host", origin.host or NO_NUMBER),
        ("Host CPUs", count_text(origin.host_cpus)),
        (
            "Limits",
            ", ".join(f"{name} {value}" for name, value in origin.limits.model_dump().items()),
        ),
        ("Instruction sets", ", ".join(origin.isa) or "unknown"),
        ("Engines capped at", origin.isa_cap or "nothing"),
        ("Time scale", count_text(origin.time_scale)),
        ("Not modeled", ", ".join(origin.not_modelled) or "nothing named"),
        ("Commit", summary.commit or "unknown"),
        ("Profile", summary.profile or "none"),
        ("Seed", str(summary.seed)),
        ("Invocations", f"{summary.invocations:,}"),
        *((f"Version of {name}", version) for name, version in sorted(summary.versions.items())),
    ]


def price_pairs(summary: Summary) -> list[tuple[str, str]]:
    prices = summary.prices
    return [
        ("As of", prices.as_of),
        ("Region", prices.region),
        ("Source", prices.source),
        *((key, f"{value:.12g}") for key, value in sorted(prices.values.items())),
        *((f"{key} (overridden)", f"{value:.12g}") for key, value in sorted(prices.overrides.items())),
    ]


def claim_table(claim: Claim) -> Table:
    """The numbers a verdict rests on."""
    return make_table(
        f"claim-{claim.id}-numbers",
        f"Numbers of {claim.id}",
        claim.numbers,
        (
            ("What", lambda number: number.label),
            ("Value", lambda number: number_cell(number.value)),
            (
                "95% interval",
                lambda number: (
                    NO_NUMBER
                    if number.low is None or number.high is None
                    else f"{number_text(number.low)} to {number_text(number.high)}"
                ),
            ),
            ("Unit", lambda number: number.unit),
            ("n", lambda number: count_cell(number.n)),
        ),
    )


MAX_ROWS_IN_PAGE: Final = 80  # of the table behind a figure; its CSV has them all


def figure_table(figure: Figure) -> Table | None:
    """The numbers behind a figure, where they are few enough to read."""
    if not figure.rows or len(figure.rows) > MAX_ROWS_IN_PAGE:
        return None

    def attributes(row: Row) -> dict[str, str]:
        names = (("model", "model"), ("engine", "engine"), ("memory", "memory_mb"), ("experiment", "experiment"))
        return {name: str(row[key]) for name, key in names if row.get(key) not in (None, "")}

    return make_table(
        f"{figure.id}-data",
        figure.heading,
        figure.rows,
        [(label, _figure_cell(key)) for key, label in figure.columns.items()],
        attributes=attributes,
    )


def _figure_cell(key: str) -> Callable[[Row], Value]:
    def cell(row: Row) -> Value:
        value = row.get(key)
        return value if isinstance(value, str | int) else number_cell(value, digits=4)

    return cell
