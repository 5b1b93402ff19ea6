"""The summary of a load test as text. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from core.run.records import OUTCOMES
from core.run.stages import LoadStage
from loadtests.account import Percentile, StageSummary


def summary_text(run_id: str, stages: Sequence[tuple[LoadStage, StageSummary]]) -> str:
    """One block a stage: rates, latencies from the intended send time, how well the sender kept to its times."""
    if not stages:
        return f"run {run_id}: nothing was sent"
    return "\n".join([f"run {run_id}", *(line for stage in stages for line in _stage_lines(*stage))])


def _stage_lines(report: LoadStage, summary: StageSummary) -> list[str]:
    missing = summary.offered - summary.recorded
    outcomes = ", ".join(f"{name} {summary.outcomes[name]}" for name in OUTCOMES if name in summary.outcomes)
    lines = [
        f"{report.name}, {report.protocol}, {report.duration_s:g} s, {report.workers} worker(s)",
        (
            f"  offered {summary.offered} ({summary.offered_rps:.2f}/s)  sent {summary.sent} ({summary.sent_rps:.2f}/s)"
            f"  answered {summary.answered}  dropped {summary.dropped}"
            f"  late {summary.late} (over {report.late_after_ms:g} ms)"
        ),
        f"  outcomes: {outcomes}",
        f"  latency of ok calls from the intended time: {_percentiles(summary.latency_ms)}",
        f"  send lag: {_percentiles(summary.send_lag_ms)}",
    ]
    if report.stopped_because:
        lines.append(f"  ended early: {report.stopped_because}")
    if missing:
        lost = f", worker(s) {', '.join(map(str, report.lost_workers))} left" if report.lost_workers else ""
        lines.append(f"  {missing} arrivals have no record{lost}")
    return lines


def _percentiles(values: Sequence[Percentile]) -> str:
    if not values:
        return "no samples"
    return "  ".join(
        f"p{value.quantile * 100:g} {value.value:.1f} ms"
        + (f" [{value.interval.lower:.1f}, {value.interval.upper:.1f}]" if value.interval else "")
        for value in values
    )
