"""Tables about the run: models, quality of its data, configuration, numbers behind claims and figures. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from analysis.report.figures.marks import Figure
from analysis.report.tables.parts import (
    Table,
    TableCell,
    TableColumn,
    TableRow,
    columns_of,
    count_cell,
    filterable,
    number_cell,
    share_cell,
    text_cell,
)
from analysis.report.wording import (
    NO_NUMBER,
    count_text,
    key_name,
    moment_text,
    number_text,
)
from analysis.summary import Claim, Summary


def table1(summary: Summary) -> Table:
    """The paper's Table 1, measured beside quoted."""
    rows = [
        TableRow(
            cells=(
                text_cell(row.display_name),
                number_cell(row.size_mb, reason=row.reason if row.size_mb is None else ""),
                number_cell(row.paper_size_mb),
                number_cell(None if row.parameters is None else row.parameters / 1e6),
                number_cell(None if row.multiply_adds is None else row.multiply_adds / 1e9),
                number_cell(None if row.paper_multiply_adds is None else row.paper_multiply_adds / 1e9),
                number_cell(row.top1_accuracy),
                number_cell(row.paper_top1_accuracy),
                number_cell(row.top5_accuracy),
                number_cell(row.paper_top5_accuracy),
                text_cell(", ".join(row.weights)),
                text_cell(row.accuracy_source),
            ),
            attributes={"model": row.model},
        )
        for row in summary.table1
    ]
    return Table(
        id="table1",
        caption="Table 1. The models as deployed, beside the paper's values",
        note="Size, parameters, multiply-adds of the deployed model. Accuracies quoted from their source, not measured",
        columns=columns_of(
            "Model",
            "Size, MB",
            "paper",
            "Parameters, M",
            "Multiply-adds, G",
            "paper",
            "Top-1",
            "paper",
            "Top-5",
            "paper",
            "Weights here",
            "Source of accuracy",
            text=(0, 10, 11),
        ),
        rows=tuple(rows),
    )


def outcomes_table(summary: Summary) -> Table:
    """How calls ended, and how many were left out by which rule."""
    cells = [cell for cell in summary.cells if cell.start_type != "any"]
    outcomes = sorted({outcome for cell in cells for outcome in cell.outcomes}, key=lambda name: (name != "ok", name))
    rules = sorted({rule for cell in cells for rule, count in cell.excluded.items() if count})
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(cell.variant)),
                text_cell(cell.experiment),
                text_cell(cell.start_type),
                count_cell(cell.n),
                *(count_cell(cell.outcomes.get(outcome, 0)) for outcome in outcomes),
                *(count_cell(cell.excluded.get(rule, 0)) for rule in rules),
            ),
            attributes=filterable(cell.variant) | {"experiment": cell.experiment},
        )
        for cell in cells
    ]
    labels = [outcome.replace("_", " ") for outcome in outcomes]
    left_out = [f"left out: {rule.replace('_', ' ')}" for rule in rules]
    return Table(
        id="outcome-counts",
        caption="Outcomes, and what was left out of the estimates by which rule",
        columns=columns_of("Function", "Experiment", "Start", "Estimated from", *labels, *left_out, text=(0, 1, 2)),
        rows=tuple(rows),
    )


def coverage_table(summary: Summary) -> Table:
    """Found in the logs, of what was sent."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(coverage.variant)),
                text_cell(coverage.experiment),
                count_cell(coverage.sent),
                count_cell(coverage.expected),
                count_cell(coverage.found),
                count_cell(coverage.missing),
                count_cell(coverage.logs_only),
                share_cell(coverage.share, reason=coverage.reason),
            ),
            attributes=filterable(coverage.variant)
            | ({} if coverage.experiment == "all" else {"experiment": coverage.experiment}),
        )
        for coverage in summary.coverage
    ]
    return Table(
        id="coverage",
        caption="Coverage: invocations found in the logs of those that must be there",
        columns=columns_of(
            "Function", "Experiment", "Sent", "Expected", "Found", "Missing", "In logs alone", "Coverage", text=(0, 1)
        ),
        rows=tuple(rows),
    )


def checks_table(summary: Summary) -> Table:
    """CloudWatch's statistics beside our own."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(check.variant)),
                text_cell(check.metric),
                text_cell(check.statistic),
                number_cell(check.cloudwatch),
                number_cell(check.own),
                number_cell(check.difference_percent, digits=2),
                text_cell("unknown" if check.agrees is None else "yes" if check.agrees else "no"),
                text_cell(check.reason),
            ),
            attributes=filterable(check.variant),
        )
        for check in summary.metric_checks
    ]
    return Table(
        id="metric-checks",
        caption="CloudWatch's statistics beside our own",
        columns=columns_of(
            "Function",
            "Metric",
            "Statistic",
            "CloudWatch",
            "Own",
            "Difference, %",
            "Agrees",
            "Remark",
            text=(0, 1, 2, 6, 7),
        ),
        rows=tuple(rows),
        folded=True,
    )


def stops_table(summary: Summary) -> Table:
    """Why sampling of each part of the plan stopped."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(stop.variant)),
                text_cell(stop.experiment),
                text_cell(stop.protocol),
                text_cell(stop.connection),
                text_cell(stop.reason.replace("_", " ")),
                count_cell(stop.samples),
                number_cell(stop.half_width_percent, digits=2),
                text_cell(stop.detail),
            ),
            attributes=filterable(stop.variant) | {"experiment": stop.experiment},
        )
        for stop in summary.stops
    ]
    return Table(
        id="stops",
        caption="Why sampling stopped",
        columns=columns_of(
            "Function",
            "Experiment",
            "Protocol",
            "Connection",
            "Reason",
            "Samples",
            "Half-width of the median's interval, %",
            "Detail",
            text=(0, 1, 2, 3, 4, 7),
        ),
        rows=tuple(rows),
        folded=True,
    )


def flat(node: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, str) else json.dumps(node, ensure_ascii=False)


def pairs_table(table_id: str, caption: str, pairs: Iterable[tuple[str, Any]], head: str = "Key") -> Table:
    return Table(
        id=table_id,
        caption=caption,
        columns=columns_of(head, "Value", text=(0, 1)),
        rows=tuple(TableRow(cells=(text_cell(key), text_cell(value))) for key, value in pairs),
    )


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
        ("Time scale", count_text(origin.time_scale)),
        ("Not modelled", ", ".join(origin.not_modelled) or "nothing named"),
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
    rows = tuple(
        TableRow(
            cells=(
                text_cell(number.label),
                number_cell(number.value),
                text_cell(
                    NO_NUMBER
                    if number.low is None or number.high is None
                    else f"{number_text(number.low)} to {number_text(number.high)}"
                ),
                text_cell(number.unit),
                count_cell(number.n),
            )
        )
        for number in claim.numbers
    )
    return Table(
        id=f"claim-{claim.id}-numbers",
        caption=f"Numbers of {claim.id}",
        columns=columns_of("What", "Value", "95 % interval", "Unit", "n", text=(0, 2, 3)),
        rows=rows,
    )


MAX_ROWS_IN_PAGE: Final = 80  # of the table behind a figure; its CSV has them all


def figure_table(figure: Figure) -> Table | None:
    if not figure.rows or len(figure.rows) > MAX_ROWS_IN_PAGE:
        return None
    rows = []
    for row in figure.rows:
        cells = []
        for column in figure.columns:
            value = row.get(column.key)
            if column.numeric:
                text = (
                    NO_NUMBER
                    if value is None
                    else f"{value:,}"
                    if isinstance(value, int)
                    else number_text(value, digits=4)
                )
                cells.append(TableCell(text=text, value=value, numeric=True))
            else:
                cells.append(text_cell("" if value is None else value))
        attributes = {
            name: str(row[key])
            for name, key in (("model", "model"), ("memory", "memory_mb"), ("experiment", "experiment"))
            if row.get(key) not in (None, "")
        }
        rows.append(TableRow(cells=tuple(cells), attributes=attributes))
    return Table(
        id=f"{figure.id}-data",
        caption=figure.heading,
        columns=tuple(TableColumn(column.label, column.numeric) for column in figure.columns),
        rows=tuple(rows),
    )
