"""The summary as text: the one table that `collect` prints, and `summary.md`. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from analysis.decide.answer_text import CONDITION_NAMES
from analysis.report.wording import number_text, percent_text
from analysis.summary import Cell, Estimate, Summary

HEAD: Final = (
    "Model",
    "Memory MB",
    "Experiment",
    "n",
    "Median ms",
    "95% interval",
    "p95 ms",
    "Inference ms",
    "Outcomes",
    "USD per million",
)
NUMERIC_COLUMNS: Final = (1, 3, 4, 6, 7, 9)
TITLE: Final = (
    "Cold: init and duration of cold starts. Warm: API latency. Load: latency from the intended send time. "
    "Cost: mean, with gateway and logs."
)
# Experiment -> the start type and the metrics that its row shows, first one that was measured.
_ROWS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "cold": ("cold", ("total_ms",)),
    "warm": ("warm", ("client_latency_ms", "duration_ms")),
    "load": ("any", ("latency_from_intended_ms", "client_latency_ms", "duration_ms")),
}


def results_table(summary: Summary) -> tuple[list[tuple[str, ...]], list[str]]:
    """One line per model, memory size and experiment, and the footnotes of cells without a number or interval."""
    lines: list[tuple[str, ...]] = []
    footnotes: dict[str, int] = {}
    for key, variant in summary.variants.items():
        for experiment, (start_type, metrics) in _ROWS.items():
            cell = summary.cell(key, experiment, start_type)
            others = [c for c in summary.cells if c.variant == key and c.experiment == experiment]
            if cell is None and not others:
                continue
            measured = cell.metrics if cell else {}
            chosen = next((measured[name] for name in metrics if name in measured), None)
            median = chosen.p50 if chosen else None
            inference = measured.get("inference_ms")
            lines.append(
                (
                    variant.image.display_name,
                    str(variant.memory_mb),
                    experiment,
                    str(chosen.n if chosen else 0),
                    _number(median, footnotes),
                    _interval(median, footnotes),
                    _number(chosen.p95 if chosen else None, footnotes),
                    _number(inference.p50 if inference else None, footnotes),
                    _outcomes(_merged_outcomes(others, experiment)),
                    _cost(summary, key, experiment),
                )
            )
    return lines, [f"[{number}] {reason}" for reason, number in footnotes.items()]


def _merged_outcomes(cells: Sequence[Cell], experiment: str) -> dict[str, int]:
    if experiment == "load":
        # The cell of start type `any` holds all the others.
        cells = [cell for cell in cells if cell.start_type == "any"]
    total: dict[str, int] = {}
    for cell in cells:
        for outcome, count in cell.outcomes.items():
            total[outcome] = total.get(outcome, 0) + count
    return total


def _outcomes(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items())


def _cost(summary: Summary, key: str, experiment: str) -> str:
    if experiment == "load":
        return ""
    cost = summary.cost(key, experiment)
    return "" if cost is None or cost.usd.value is None else f"{cost.usd.value:.2f}"


def _number(estimate: Estimate | None, footnotes: dict[str, int]) -> str:
    if estimate is None:
        return "none"
    return _mark(estimate.reason, footnotes) if estimate.value is None else f"{estimate.value:.1f}"


def _mark(reason: str, footnotes: dict[str, int]) -> str:
    """Return `- [1]`, which `footnotes` has the reason of, or `none` without a reason."""
    return f"- [{footnotes.setdefault(reason, len(footnotes) + 1)}]" if reason else "none"


def _interval(estimate: Estimate | None, footnotes: dict[str, int]) -> str:
    if estimate is None:
        return ""
    if estimate.low is None or estimate.high is None:
        return _mark(estimate.reason, footnotes)
    return f"{estimate.low:.1f} to {estimate.high:.1f}"


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A Markdown table; columns named in `right` are aligned to the right."""
    rule = ["---:" if place in right else "---" for place in range(len(head))]
    body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *body])


def highest_rate_lines(summary: Summary) -> list[str]:
    """One sentence per variant that the load searched for its highest rate, with the simulated one."""
    return [
        f"{summary.name_of(one.variant)}: highest rate at which at most {percent_text(one.max_missed_share)} of "
        f"callers wait longer than {one.limit_ms:,.0f} ms: {_rate(one.measured_rps)} by the load test, "
        f"{_rate(one.simulated_rps)} by simulation."
        for one in summary.highest_rates
    ]


def _rate(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"not known ({estimate.reason})"
    text = f"{number_text(estimate.value)} requests/s"
    if estimate.low is None:
        return text
    note = f"; {estimate.reason}" if estimate.reason else ""
    return f"{text} ({number_text(estimate.low)} to {number_text(estimate.high)}{note})"


def not_measured(summary: Summary) -> list[str]:
    """Return what the answer assumes without a measurement of this run, one sentence each."""
    found = [
        f"{CONDITION_NAMES[one.condition].capitalize()}: {percent_text(one.weight)} of callers' calls, none measured."
        for one in summary.recommendation.conditions
        if one.n == 0 and one.weight > 0
    ]
    if left_out := [name for name in ("cold", "warm", "load") if name not in summary.experiments]:
        found.append(f"Experiments that are not part of this run: {', '.join(left_out)}.")
    called = {cell.variant for cell in summary.cells}
    if silent := sum(key not in called for key in summary.variants):
        found.append(f"{silent} of {len(summary.variants)} functions were not called.")
    if summary.origin.not_modelled:
        found.append(f"The lab does not model {', '.join(summary.origin.not_modelled)}.")
    found.append(
        "Accuracy is quoted from its source. How often callers meet a cold start follows from a traffic model."
    )
    return found


def summary_markdown(summary: Summary) -> str:
    """The summary for people who read text: the answer, the table, the claims, the warnings."""
    answer = summary.recommendation
    lines, footnotes = results_table(summary)
    parts = [
        f"# {summary.title}",
        f"**{summary.origin.badge}.** Run `{summary.run_id}`, {summary.invocations:,} invocations.",
        f"## Answer\n\n{answer.headline}\n\n" + "\n".join(f"- {line}" for line in answer.why),
        f"How sure: {answer.how_sure}",
        "Not measured:\n\n" + "\n".join(f"- {line}" for line in not_measured(summary)),
        f"## Results\n\n{TITLE}\n\n{markdown_table(HEAD, lines, right=NUMERIC_COLUMNS)}",
        *(["  \n".join(footnotes)] if footnotes else []),
        *highest_rate_lines(summary),
        "## The paper's claims\n\n"
        + markdown_table(
            ("Claim", "Statement", "Verdict", "n", "Why"),
            [(c.id, c.statement, c.verdict, str(c.n), c.why) for c in summary.claims],
            right=(3,),
        ),
    ]
    if summary.warnings:
        parts.append("## Warnings\n\n" + "\n".join(f"- {w.message} {w.advice}" for w in summary.warnings))
    overrides = f", overridden: {', '.join(summary.prices.overrides)}" if summary.prices.overrides else ""
    parts.append(f"Prices of {summary.prices.as_of}, {summary.prices.region}{overrides}.")
    return "\n\n".join(parts) + "\n"
