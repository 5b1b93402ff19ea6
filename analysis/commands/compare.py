"""`inference-lab analysis compare`: differences of two runs, with intervals."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.command_line import command_parser, percent
from analysis.decide.comparison import Comparison, Side, compare, has_regression
from analysis.estimate.cells import ANALYSED_COLUMNS, Measured
from analysis.ingest.run_files import read_rows
from analysis.pipeline import read_summary
from analysis.report.text import markdown_table
from analysis.summary import METRICS, Summary
from core import strict_json
from core.errors import EXIT_CHECK_FAILED, EXIT_OK
from core.run.run_directory import RunDirectory, find_run


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "compare", "Compare two runs. Exit code 0: no regression; 2: a regression; 1: the runs cannot be compared."
    )
    parser.add_argument("before", help="name or directory of the older run")
    parser.add_argument("after", help="name or directory of the newer run (`latest` works)")
    parser.add_argument(
        "--threshold",
        type=percent,
        default=0.03,
        metavar="PERCENT",
        help="ignore changes smaller than this share of the median (default: 3%%)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print the comparison as Markdown or JSON; 2 for a regression."""
    chosen = build_parser().parse_args(arguments)
    before, after = (load_side(find_run(name, chosen.results)) for name in (chosen.before, chosen.after))
    comparisons = compare(before, after, threshold=chosen.threshold)
    if chosen.json:
        print(strict_json.dumps(facts(before.summary, after.summary, comparisons, chosen.threshold), indent=2))
    else:
        print(markdown(before.summary, after.summary, comparisons, chosen.threshold), end="")
    return EXIT_CHECK_FAILED if has_regression(comparisons) else EXIT_OK


def load_side(run: RunDirectory) -> Side:
    """Summary and samples of a collected run. Raises RecordError."""
    return Side(read_summary(run), Measured(read_rows(run, ANALYSED_COLUMNS)))


def facts(a: Summary, b: Summary, comparisons: Sequence[Comparison], threshold: float) -> dict[str, Any]:
    """The comparison for a program; shares are from 0 to 1, differences are after - before."""
    return {
        "before": a.run_id,
        "after": b.run_id,
        "measured_on": b.origin.badge,
        "threshold": threshold,
        "regression": has_regression(comparisons),
        "comparisons": [
            {
                **asdict(c),
                "difference": c.difference.model_dump(),
                "ratio": c.ratio.model_dump(),
            }
            for c in comparisons
        ],
    }


def markdown(a: Summary, b: Summary, comparisons: Sequence[Comparison], threshold: float) -> str:
    """The comparison as Markdown for a pull request."""
    changed = [c for c in comparisons if c.change not in ("no change", "too few samples")]
    regressions = [c for c in changed if c.change in ("slower", "fails more")]
    if regressions:
        verdict = f"**Regression**: {len(regressions)} of {len(comparisons)} comparisons got worse."
    elif changed:
        verdict = f"**No regression**; {len(changed)} of {len(comparisons)} comparisons got better."
    else:
        verdict = f"**No change** in {len(comparisons)} comparisons."
    head = (
        "Variant",
        "Experiment",
        "Metric",
        "Before",
        "After",
        "Difference",
        "95% interval",
        "Cliff's delta",
        "n",
        "",
    )
    right = (3, 4, 5, 7, 8)
    parts = [
        "### Benchmark comparison",
        verdict,
        f"{b.origin.badge}. Before: {_run(a)}, after: {_run(b)}.",
    ]
    if changed:
        parts.append(markdown_table(head, [_line(c) for c in changed], right=right))
    rest = [c for c in comparisons if c not in changed]
    if rest:
        table = markdown_table(head, [_line(c) for c in rest], right=right)
        parts.append(f"<details><summary>{len(rest)} comparisons without change</summary>\n\n{table}\n\n</details>")
    parts.append(
        "Medians; any false alarm among all comparisons has a probability of at most 5% (Holm), and a change below "
        f"{100 * threshold:g}% of the median counts as none."
    )
    return "\n\n".join(parts) + "\n"


def _run(summary: Summary) -> str:
    return f"`{summary.run_id}` ({summary.commit[:12] or 'no commit'})"


def _line(c: Comparison) -> tuple[str, ...]:
    if c.metric == "failures":
        numbers = [f"{100 * (value or 0):.1f}%" for value in (c.a, c.b, c.difference.value)]
        return (c.variant, c.experiment, "failed", *numbers, "", "", str(c.difference.n), c.change)
    label, unit = METRICS[c.metric]
    low, high = c.ratio.low, c.ratio.high
    interval = c.ratio.reason if low is None or high is None else f"{100 * (low - 1):+.1f} to {100 * (high - 1):+.1f}%"
    relative = "" if c.ratio.value is None else f"{100 * (c.ratio.value - 1):+.1f}%"
    return (
        c.variant,
        c.experiment,
        label,
        f"{c.a or 0:.1f} {unit}",
        f"{c.b or 0:.1f} {unit}",
        relative,
        interval,
        "" if c.cliffs_delta is None else f"{c.cliffs_delta:+.2f}",
        str(c.difference.n),
        c.change,
    )
