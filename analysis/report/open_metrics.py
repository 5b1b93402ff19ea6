"""A summary as OpenMetrics text, for anything that scrapes: https://prometheus.io/docs/specs/om/open_metrics_spec/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, get_args

from analysis.summary import METRICS, Estimate, Summary, Verdict

PREFIX: Final = "inference_lab_"
QUANTILES: Final = ("p50", "p90", "p95", "p99")
# The format wants base units: the word for each of ours, and how many of them one of ours is.
BASE_UNITS: Final = {"ms": ("seconds", 1e-3), "MB": ("bytes", 1e6)}
VERDICTS: Final = get_args(Verdict)


class _Family(NamedTuple):
    """A metric family: its head, and its samples as labels and value."""

    name: str
    kind: str
    help: str
    unit: str
    samples: Iterator[tuple[dict[str, str], float | None]]


def open_metrics(summary: Summary) -> str:
    """Quantiles, counts, costs, coverage and verdicts, each with its origin."""
    common = {"run_id": summary.run_id, "source": summary.origin.source}
    lines: list[str] = []
    for family in _families(summary):
        lines.append(f"# TYPE {family.name} {family.kind}")
        if family.unit:
            lines.append(f"# UNIT {family.name} {family.unit}")
        lines.append(f"# HELP {family.name} {family.help}")
        for labels, value in family.samples:
            if value is not None:
                inside = ",".join(f'{key}="{_escape(text)}"' for key, text in (common | labels).items())
                lines.append(f"{family.name}{{{inside}}} {value!r}")
    return "\n".join([*lines, "# EOF"]) + "\n"


def _families(summary: Summary) -> Iterator[_Family]:
    for metric, (label, unit) in METRICS.items():
        if any(metric in cell.metrics for cell in summary.cells):
            word, scale = BASE_UNITS.get(unit, ("", 1.0))
            name = PREFIX + re.sub(r"_(ms|mb)$", "", metric) + (f"_{word}" if word else "")
            text = f"{label}: percentiles of the samples that count."
            yield _Family(name, "gauge", text, word, _percentiles(summary, metric, scale))
    yield _Family(PREFIX + "invocations", "gauge", "Invocations by outcome.", "", _outcomes(summary))
    text = "Cost of a million predictions in US dollars."
    costs = (({"variant": each.variant, "start_type": each.start_type}, each.usd.value) for each in summary.costs)
    yield _Family(PREFIX + "usd_per_million", "gauge", text, "", costs)
    text = "Invocations found in the logs of those expected there."
    shares = (({"variant": each.variant, "experiment": each.experiment}, each.share) for each in summary.coverage)
    yield _Family(PREFIX + "coverage_ratio", "gauge", text, "ratio", shares)
    verdicts = (
        ({"claim": claim.id, PREFIX + "claim": verdict}, int(claim.verdict == verdict))
        for claim in summary.claims
        for verdict in VERDICTS
    )
    yield _Family(PREFIX + "claim", "stateset", "Verdicts on the paper's claims.", "", verdicts)


def _percentiles(summary: Summary, metric: str, scale: float) -> Iterator[tuple[dict[str, str], float | None]]:
    for cell in summary.cells:
        for quantile in QUANTILES if metric in cell.metrics else ():
            estimate: Estimate = getattr(cell.metrics[metric], quantile)
            labels = _labels(cell.variant, cell.experiment, cell.start_type)
            labels["quantile"] = f"{int(quantile[1:]) / 100:g}"
            for bound, value in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high)):
                yield labels | {"bound": bound}, None if value is None else value * scale


def _outcomes(summary: Summary) -> Iterator[tuple[dict[str, str], float | None]]:
    for cell in summary.cells:
        if cell.start_type != "any":
            for outcome, count in cell.outcomes.items():
                yield _labels(cell.variant, cell.experiment, cell.start_type) | {"outcome": outcome}, count


def _labels(variant: str, experiment: str, start_type: str) -> dict[str, str]:
    return {"variant": variant, "experiment": experiment, "start_type": start_type}


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
