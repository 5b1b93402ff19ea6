"""Compare two runs: what got slower, faster, or failed more, and how surely. No I/O.

Rules:

1. Runs that differ in where or how they were measured are refused, and the field is named (`refuse_unlike`).
2. For each variant, experiment and metric that both runs have, equality of the two samples is tested (Mann and
   Whitney), and for each variant and experiment that failures are equally frequent (Fisher's exact test).
3. Holm's step-down holds the probability of any false alarm among all these tests at 5%.
4. A rejected test counts as a change only if the medians differ by more than the threshold (3% by default): with many
   samples a difference too small to matter is significant too. Failures have no threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from scipy.stats import fisher_exact, mannwhitneyu

from analysis.estimate.cells import Measured
from analysis.estimate.estimates import Samples, compare_medians, holm, quantile, share
from analysis.summary import Estimate, Summary
from core.errors import RecordError
from core.run.place import COMPARABLE

DEFAULT_THRESHOLD: Final = 0.03
SMALLEST_N: Final = 5  # below this a rank test cannot reject
COMPARED: Final[tuple[tuple[str, str, str], ...]] = (
    ("cold", "cold", "total_ms"),
    ("warm", "warm", "client_latency_ms"),
    ("warm", "warm", "inference_ms"),
    ("load", "any", "latency_from_intended_ms"),
)
EXPERIMENTS: Final = ("cold", "warm", "load")
# Keys of the configuration that decide what an experiment's samples are; more or fewer of the same are no hindrance.
PLANNED: Final[dict[str, tuple[str, ...]]] = {
    "cold": ("experiments.cold.protocols", "lab.init_burst_vcpu"),
    "warm": ("experiments.warm.connections",),
    "load": tuple(f"experiments.load.{key}" for key in ("shape", "start_rps", "end_rps", "duration_s", "steps")),
}

Change = Literal["slower", "faster", "no change", "fails more", "fails less", "too few samples"]


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    summary: Summary
    measured: Measured


@dataclass(frozen=True)
class Comparison:
    """One metric of one variant in both runs; `b` is the newer one, differences are b - a."""

    variant: str
    experiment: str
    metric: str  # a key of METRICS, or "failures"
    a: float | None
    b: float | None
    difference: Estimate
    ratio: Estimate
    cliffs_delta: float | None
    p_value: float | None
    change: Change


def refuse_unlike(a: Summary, b: Summary) -> None:
    """Raise RecordError naming the first field in which two runs cannot be compared."""
    for name, of_a, of_b in (
        ("schema_version", a.schema_version, b.schema_version),
        *((name, getattr(a.origin, name), getattr(b.origin, name)) for name in COMPARABLE),
        ("architecture", _of_cells(a, "architecture"), _of_cells(b, "architecture")),
        ("engine", _of_cells(a, "engine"), _of_cells(b, "engine")),
        ("weights", _weights(a), _weights(b)),
    ):
        _refuse(a, b, name, of_a, of_b)
    for experiment, names in PLANNED.items():
        if all(any(cell.experiment == experiment for cell in side.cells) for side in (a, b)):
            for name in names:
                _refuse(a, b, name, _configured(a, name), _configured(b, name))
    if not set(a.variants) & set(b.variants):
        raise RecordError(
            f"runs {a.run_id} and {b.run_id} cannot be compared: they have no variant in common",
            hint="A variant is model, engine, architecture and memory size.",
        )


def _refuse(a: Summary, b: Summary, name: str, of_a: object, of_b: object) -> None:
    if of_a != of_b:
        raise RecordError(
            f"runs {a.run_id} and {b.run_id} cannot be compared: {name} is {of_a} in one and {of_b} in the other",
            hint="Compare runs that were measured at the same place, in the same way.",
        )


def _configured(summary: Summary, name: str) -> object:
    found: Any = summary.configuration
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _of_cells(summary: Summary, name: str) -> list[str]:
    return sorted({str(getattr(cell, name)) for cell in summary.cells})


def _weights(summary: Summary) -> list[str]:
    return sorted({weight for cell in summary.cells for weight in cell.weights})


@dataclass(frozen=True)
class Pair:
    """Samples of one metric in both runs, or counts of failures (`failed`, `total`) in place of them."""

    variant: str
    experiment: str
    metric: str
    a: Samples
    b: Samples


@dataclass(frozen=True)
class FailurePair:
    variant: str
    experiment: str
    a: tuple[int, int]  # failed, all
    b: tuple[int, int]


def compare(a: Side, b: Side, *, threshold: float = DEFAULT_THRESHOLD, seed: int = 0) -> list[Comparison]:
    """Every comparison of two runs, in the order of the matrix. Raises RecordError where they are unlike."""
    refuse_unlike(a.summary, b.summary)
    common = [variant for variant in a.summary.variants if variant in set(b.summary.variants)]
    pairs = []
    failures = []
    for variant in common:
        for experiment, start_type, metric in COMPARED:
            samples = [side.measured.samples(variant, experiment, start_type, metric) for side in (a, b)]
            if len(samples[0]) and len(samples[1]):
                pairs.append(Pair(variant, experiment, metric, samples[0], samples[1]))
        for experiment in EXPERIMENTS:
            counted = [_failures(side.measured, variant, experiment) for side in (a, b)]
            if counted[0][1] and counted[1][1]:
                failures.append(FailurePair(variant, experiment, counted[0], counted[1]))
    return judge(pairs, failures, threshold=threshold, random=np.random.default_rng(seed))


def _failures(measured: Measured, variant: str, experiment: str) -> tuple[int, int]:
    failed = total = 0
    for (key, kind, start_type), part in measured.parts.items():
        if key == variant and kind == experiment and start_type != "any":
            # What the load generator had no room to send says nothing of the function.
            offered = part.filter(part["outcome"] != "dropped")
            total += offered.height
            failed += int((offered["outcome"] != "ok").sum())
    return failed, total


def judge(
    pairs: Sequence[Pair], failures: Sequence[FailurePair], *, threshold: float, random: np.random.Generator
) -> list[Comparison]:
    """Test all pairs as one family and say what changed."""
    p_values = [p_of_samples(pair.a, pair.b) for pair in pairs]
    p_failures = [p_of_failures(pair.a, pair.b) for pair in failures]
    changes = decide(pairs, p_values, failures, p_failures, threshold=threshold)
    found = []
    for pair, p_value, change in zip(pairs, p_values, changes[: len(pairs)], strict=True):
        told = compare_medians(pair.b, pair.a, random)
        found.append(
            Comparison(
                variant=pair.variant,
                experiment=pair.experiment,
                metric=pair.metric,
                a=quantile(pair.a, 0.5),
                b=quantile(pair.b, 0.5),
                **vars(told),
                p_value=p_value,
                change=change,
            )
        )
    for failing, p_value, change in zip(failures, p_failures, changes[len(pairs) :], strict=True):
        share_a, share_b = share(*failing.a), share(*failing.b)
        difference = Estimate(value=(share_b.value or 0) - (share_a.value or 0), n=min(failing.a[1], failing.b[1]))
        found.append(
            Comparison(
                variant=failing.variant,
                experiment=failing.experiment,
                metric="failures",
                a=share_a.value,
                b=share_b.value,
                difference=difference,
                ratio=Estimate(value=None, n=difference.n, reason="shares are compared by their difference"),
                cliffs_delta=None,
                p_value=p_value,
                change=change,
            )
        )
    return found


def decide(
    pairs: Sequence[Pair],
    p_values: Sequence[float | None],
    failures: Sequence[FailurePair],
    p_failures: Sequence[float],
    *,
    threshold: float,
) -> list[Change]:
    """The changes, pairs first and then failures, with all p-values as one family."""
    decisions = iter(holm([p for p in p_values if p is not None] + list(p_failures)))
    found: list[Change] = [
        "too few samples" if p_value is None else _change(next(decisions), pair, threshold)
        for pair, p_value in zip(pairs, p_values, strict=True)
    ]
    for failing in failures:
        more = failing.b[0] * failing.a[1] > failing.a[0] * failing.b[1]
        found.append("no change" if not next(decisions) else "fails more" if more else "fails less")
    return found


def p_of_samples(a: Samples, b: Samples) -> float | None:
    """Two-sided p-value of Mann and Whitney's test: exact for small samples without ties, else normal with ties.

    None where a rank test could not reject whatever the samples.
    """
    if min(len(a), len(b)) < SMALLEST_N:
        return None
    if a[0] == a[-1] == b[0] == b[-1]:
        return 1.0
    return float(mannwhitneyu(a, b, alternative="two-sided").pvalue)


def p_of_failures(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Two-sided p-value of Fisher's exact test for counts of (failed, all)."""
    table = [[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]
    return float(fisher_exact(table).pvalue)


def _change(rejected: bool, pair: Pair, threshold: float) -> Change:
    if not rejected:
        return "no change"
    median_a, median_b = quantile(pair.a, 0.5), quantile(pair.b, 0.5)
    if median_b > median_a * (1 + threshold):
        return "slower"
    if median_b * (1 + threshold) < median_a:
        return "faster"
    return "no change"


def has_regression(comparisons: Sequence[Comparison]) -> bool:
    return any(comparison.change in ("slower", "fails more") for comparison in comparisons)
