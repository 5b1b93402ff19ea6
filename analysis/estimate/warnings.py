"""Warnings for readers of the figures, by subject, each with advice. No I/O.

The data contract is among them: a breach caps every verdict at provisional (`DataWarning.caps_verdicts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from analysis.estimate.cells import Measured
from analysis.estimate.estimates import SMALLEST_BOOTSTRAP_N, largest_share
from analysis.estimate.load_test import load_rows
from analysis.summary import Coverage, DataWarning, MetricCheck
from core.models import CAPPED_ENGINES, ENGINE_NAMES
from core.money.prices import Prices
from core.run.records import PROVISIONED, Manifest
from core.variants import DISPLAY_NAMES, Variant

CARRIED_BY_ONE: Final = 0.1  # of all billed time: above it a mean rests on one call
MISSING_REPORTS: Final = 0.01  # of the reports expected: above it costs are biased by what the missing calls took
MANY_LATE: Final = 0.01
# Measured on one core that has AVX-512, VNNI and AMX; docs/reference/function.md has the figures.
AVX2_COSTS: Final = "With AVX2 alone, MobileNet takes 1.9 times as long in OpenVINO and 1.3 times in TensorFlow."
KILLS: Final[tuple[tuple[str, str, str], ...]] = (
    ("out_of_memory", "ran out of memory", "The variant needs a larger memory size."),
    ("init_timeout", "failed after a timeout of the init phase", "Load less at import, or choose a larger size."),
    ("timeout", "were stopped at the function's timeout", "Raise [function] timeout_s, or choose a larger size."),
)


@dataclass(frozen=True)
class Facts:
    """The data that warnings are computed from."""

    rows: pl.DataFrame
    measured: Measured
    manifest: Manifest
    variants: Mapping[str, Variant]
    coverages: Sequence[Coverage]
    weights: Mapping[str, tuple[str, ...]]
    metric_checks: Sequence[MetricCheck]
    late_after_ms: float
    prices: Prices
    is_scaled: bool = False  # whether Application Auto Scaling changes how many environments are provisioned
    known: tuple[DataWarning, ...] = ()

    def of(self, part: pl.DataFrame) -> tuple[str, ...]:
        """The variants that have rows here, in the order of the matrix."""
        present = set(part["variant"].to_list())
        return tuple(key for key in self.variants if key in present)


def make_warnings(facts: Facts) -> tuple[DataWarning, ...]:
    """Every warning of a run, the most serious first."""
    found = [*facts.known, *(warning for subject in SUBJECTS for warning in subject(facts))]
    order = {"serious": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda warning: order[warning.severity]))


def _completeness(facts: Facts) -> Iterator[DataWarning]:
    whole = [one for one in facts.coverages if one.experiment == "all"]
    missing = [one for one in whole if one.missing]
    if missing:
        count = sum(one.missing for one in missing)
        worst = max(one.missing / one.expected for one in missing)
        yield DataWarning(
            code="incomplete_logs",
            severity="serious" if worst > MISSING_REPORTS else "warning",
            message=f"{count} of {sum(one.expected for one in whole)} calls have no report in the logs.",
            advice="Collect again: `python analysis/collect.py --refresh`; logs may arrive minutes late.",
            variants=tuple(one.variant for one in missing),
            count=count,
            caps_verdicts=worst > MISSING_REPORTS,
        )
    if facts.rows["call_id"].drop_nulls().len() == 0 and facts.rows.height:
        yield DataWarning(
            code="no_client_records",
            severity="warning",
            message="There are no client records: latency as a client saw it, and coverage, are unknown.",
            advice="Measure with `inference-lab experiments run`; it records every call as it happens.",
        )
    silent = [key for key in facts.variants if not (facts.rows["variant"] == key).any()]
    if silent:
        yield DataWarning(
            code="not_measured",
            severity="warning",
            message=f"{len(silent)} of {len(facts.variants)} variants have no invocation.",
            advice="Check that they are deployed, and measure again with `inference-lab experiments run --resume`.",
            variants=tuple(silent),
            count=len(silent),
        )
    if facts.manifest.finished_at is None:
        yield DataWarning(
            code="unfinished_run",
            severity="warning",
            message="The run is not finished; what it measured so far is shown.",
            advice=f"Run `inference-lab experiments run --resume {facts.manifest.run_id}`, then collect again.",
        )


def _impossible_times(facts: Facts) -> Iterator[DataWarning]:
    times = pl.col("duration_ms", "client_latency_ms", "latency_from_intended_ms")
    impossible = facts.rows.filter(pl.any_horizontal(times <= 0))
    if impossible.height:
        yield DataWarning(
            code="impossible_times",
            severity="serious",
            message=f"{impossible.height} calls have a duration or latency of 0 or less.",
            advice="Check the clocks of the client and the platform; these calls are in no latency.",
            variants=facts.of(impossible),
            count=impossible.height,
            caps_verdicts=True,
        )


def _kills(facts: Facts) -> Iterator[DataWarning]:
    for outcome, what, advice in KILLS:
        part = facts.rows.filter(pl.col("outcome") == outcome)
        if part.height:
            yield DataWarning(
                code=outcome,
                severity="warning",
                message=f"{part.height} calls {what}.",
                advice=advice,
                variants=facts.of(part),
                count=part.height,
            )


def _contention(facts: Facts) -> Iterator[DataWarning]:
    kept = [key for key, part in facts.measured.parts.items() if key[2] != "any" and key[1] != "load" and _kept(part)]
    if kept:
        yield DataWarning(
            code="host_contended",
            severity="serious",
            message="Many cold or warm samples were taken while the host was short of CPU; they are in the figures of "
            "every variant, and too slow.",
            advice="Use a machine with more CPUs, fewer memory sizes, or longer intervals; close other programs.",
            variants=tuple(sorted({key[0] for key in kept})),
            count=len(kept),
            caps_verdicts=True,
        )
    excluded = int((facts.measured.rows["rule"] == "host_contended").sum())
    if excluded:
        yield DataWarning(
            code="host_contended_samples",
            severity="info",
            message=f"{excluded} samples were taken while the host was short of CPU, because of its environments or of "
            "other programs.",
            advice="They are excluded from cold and warm figures where enough others remain, and counted.",
            count=excluded,
        )


def _kept(part: pl.DataFrame) -> bool:
    """Whether contended samples of this cell count because too many of its samples are contended."""
    return bool((part["rule"].is_null() & part["host_contended"].fill_null(value=False)).any())


def _restarted_loads(facts: Facts) -> Iterator[DataWarning]:
    if facts.measured.broken_off:
        yield DataWarning(
            code="broken_off_load",
            severity="info",
            message=f"{facts.measured.broken_off} calls belong to an interrupted load that was restarted.",
            advice="They are excluded from every figure of the load; the rows carry the protocol broken_off.",
            count=facts.measured.broken_off,
        )


def _shared_state(facts: Facts) -> Iterator[DataWarning]:
    """Ids that several environments answer: what init made up is in the snapshot, and so in every restore of it.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
    """
    shared = (
        facts.rows.lazy()
        .filter(pl.col("environment_id").is_not_null() & pl.col("log_stream").is_not_null())
        .group_by("variant", "environment_id")
        .agg(pl.col("log_stream").n_unique())
        .filter(pl.col("log_stream") > 1)
        .collect()
    )
    if shared.height:
        yield DataWarning(
            code="shared_random_state",
            severity="serious",
            message=f"{shared.height} environment ids were answered by several environments: random state made at init "
            "is part of the snapshot, and every environment restored from it has the same.",
            advice="Make ids, seeds, and tokens in a call or in an after-restore hook.",
            variants=facts.of(shared),
            count=shared.height,
            caps_verdicts=True,
        )


def _own_function(facts: Facts) -> Iterator[DataWarning]:
    ok = facts.rows.lazy().filter(pl.col("outcome") == "ok").select("variant", "handler_ms").collect()
    told = set(facts.of(ok.filter(pl.col("handler_ms").is_not_null())))
    silent = [key for key in facts.of(ok) if key not in told]
    if silent:
        yield DataWarning(
            code="no_handler_facts",
            severity="info",
            message="The function reports nothing of its own: inference time and the phases of a start are absent.",
            advice="Start types come from the platform alone; docs/reference/function.md lists what handlers report.",
            variants=tuple(silent),
            count=len(silent),
        )


def _random_weights(facts: Facts) -> Iterator[DataWarning]:
    models = [model for model, kinds in facts.weights.items() if "random" in kinds]
    if models:
        names = ", ".join(DISPLAY_NAMES.get(model, model) for model in models)
        yield DataWarning(
            code="random_weights",
            severity="info",
            message=f"{names} ran with seeded random weights: times are the same, predictions mean nothing.",
            advice='Build where the ImageNet weights can be downloaded, with weights = "imagenet".',
        )


def _prices(facts: Facts) -> Iterator[DataWarning]:
    endpoint, prices = facts.manifest.endpoint, facts.prices
    kept = len(prices.values) - len(prices.overrides)
    if endpoint.source == "aws" and endpoint.region != prices.region and kept:
        yield DataWarning(
            code="prices_of_another_region",
            severity="warning",
            message=f"{kept} of {len(prices.values)} prices are those of {prices.region}; the run was measured in "
            f"{endpoint.region}.",
            advice=f"Enter the prices of {endpoint.region} in [prices] of benchmark.toml, and report again.",
        )
    if prices.of_table:
        yield DataWarning(
            code="prices_not_listed",
            severity="info",
            message=f"{len(prices.of_table)} prices were not in the price list that the run read and are those of "
            f"another region: {', '.join(prices.of_table)}.",
            advice=f"Enter the prices of {prices.region} in [prices] of benchmark.toml, and report again.",
        )


def _lab(facts: Facts) -> Iterator[DataWarning]:
    endpoint = facts.manifest.endpoint
    if endpoint.source != "lab":
        return
    if endpoint.not_modelled:
        yield DataWarning(
            code="lab_not_modelled",
            severity="info",
            message=f"The lab does not model {', '.join(endpoint.not_modelled)}.",
            advice="Cold starts on AWS take longer than here; measure there before you decide on them.",
        )
    if endpoint.limits.not_enforced:
        yield DataWarning(
            code="no_limits",
            severity="serious",
            message=f"Nothing enforced {' and '.join(endpoint.limits.not_enforced)}: memory sizes are not compared.",
            advice="`inference-lab lab doctor` says which limits this machine can enforce, and how to enable the rest.",
            caps_verdicts=True,
        )
    if endpoint.time_scale != 1:
        yield DataWarning(
            code="time_scale",
            severity="info",
            message=f"Schedule intervals and idle time were shortened by {endpoint.time_scale:g}.",
            advice="Cold ratios hold for the shortened clock; use --time-scale 1 for real ones.",
        )


def _instruction_sets(facts: Facts) -> Iterator[DataWarning]:
    endpoint = facts.manifest.endpoint
    wide = [name for name in endpoint.isa if name.startswith(("avx512", "amx", "avx_vnni"))]
    engines = dict.fromkeys(variant.engine for variant in facts.variants.values())
    free = [engine for engine in engines if engine not in CAPPED_ENGINES or not endpoint.isa_cap]
    if wide and free:
        names = " and ".join(ENGINE_NAMES.get(engine, engine) for engine in free)
        sets = ", ".join(wide)
        yield DataWarning(
            code="wider_instructions",
            severity="warning",
            message=f"{names} may use instructions that Lambda's x86 hosts do not have ({sets}): forward passes can be "
            "faster here than there.",
            advice=f"Compare engines on AWS. {AVX2_COSTS}",
            variants=tuple(key for key, variant in facts.variants.items() if variant.engine in free),
            count=len(free),
        )


def _cold_starts(facts: Facts) -> Iterator[DataWarning]:
    kept = pl.col("initialization").fill_null("") == PROVISIONED
    scheduled = facts.rows.filter((pl.col("protocol") == "scheduled") & (pl.col("start_type") == "warm") & ~kept)
    if "cold" in facts.manifest.experiments and scheduled.height:
        yield DataWarning(
            code="scheduled_but_warm",
            severity="info",
            message=f"{scheduled.height} scheduled calls found a warm environment; they are not counted as cold.",
            advice="A schedule does not guarantee a cold start; the forced protocol does.",
            variants=facts.of(scheduled),
            count=scheduled.height,
        )
    ahead = facts.rows.filter((pl.col("init_status") == "ahead") & ~kept)
    if ahead.height:
        yield DataWarning(
            code="initialised_ahead",
            severity="info",
            message=f"{ahead.height} environments were initialized before they were asked for; no caller waited for "
            "their init.",
            advice="That init is in no latency, and outside the load test these calls count as neither cold nor warm. "
            "Where too few cold starts remain, use the forced protocol.",
            variants=facts.of(ahead),
            count=ahead.height,
        )


def _provisioned(facts: Facts) -> Iterator[DataWarning]:
    """How many callers found no provisioned environment, and what of the deployment no price holds."""
    variants = {key for key, variant in facts.variants.items() if variant.start == "provisioned"}
    if not variants:
        return
    told = facts.rows.filter(
        pl.col("variant").is_in(sorted(variants)) & (pl.col("experiment") == "load") & ~pl.col("warmup")
        & pl.col("initialization").is_not_null()
    )  # fmt: skip
    spilled = told.filter(pl.col("initialization") != PROVISIONED)
    if spilled.height:
        yield DataWarning(
            code="spilled_over",
            severity="info",
            message=f"{spilled.height} of {told.height} load calls with provisioned concurrency found every such "
            "environment busy and ran on demand.",
            advice="More environments ([provisioned] concurrency) keep such calls from cold starts, at a higher price.",
            variants=facts.of(spilled),
            count=spilled.height,
        )
    if facts.is_scaled:
        yield DataWarning(
            code="scaled_concurrency",
            severity="warning",
            message="Target tracking or a schedule changes how many environments are provisioned; the prices here are "
            "those of [provisioned] concurrency alone.",
            advice="`inference-lab analysis traffic` simulates target tracking.",
            variants=tuple(key for key in facts.variants if key in variants),
        )


def _means(facts: Facts) -> Iterator[DataWarning]:
    carried = [
        key
        for key in facts.variants
        for sample in (facts.measured.cold(key, "billed_ms"), facts.measured.warm(key, "billed_ms"))
        if len(sample) >= SMALLEST_BOOTSTRAP_N and largest_share(sample.values) > max(CARRIED_BY_ONE, 3 / len(sample))
    ]
    if carried:
        yield DataWarning(
            code="mean_carried_by_one_call",
            severity="warning",
            message=f"A single slow call is more than {100 * CARRIED_BY_ONE:.0f}% of all that was billed, cold or "
            "warm, to the functions named here.",
            advice="The interval of such a mean cost is too narrow: use the cost at the median, and take more samples.",
            variants=tuple(dict.fromkeys(carried)),
            count=len(carried),
        )


def _load_generator(facts: Facts) -> Iterator[DataWarning]:
    load = load_rows(facts.rows, facts.late_after_ms)
    late, dropped = int(load["late"].sum()), int((load["outcome"] == "dropped").sum())
    if load.height and (late + dropped) / load.height > MANY_LATE:
        yield DataWarning(
            code="load_generator",
            severity="warning",
            message=f"The load generator sent {late} requests late and dropped {dropped} of {load.height}.",
            advice="Latency counts from the intended time, so it stays honest; use more workers (--processes).",
            count=late + dropped,
        )


def _metrics(facts: Facts) -> Iterator[DataWarning]:
    disagreeing = [check for check in facts.metric_checks if check.agrees is False]
    if disagreeing:
        first = disagreeing[0]
        yield DataWarning(
            code="metrics_disagree",
            severity="warning",
            message=f"{len(disagreeing)} CloudWatch statistics differ from those of the logs, for example "
            f"{first.metric} {first.statistic} of {first.variant}: {first.cloudwatch:g} there, {first.own:g} here.",
            advice="Look for other callers of the functions in that time, or collect again once logs are complete.",
            variants=tuple(sorted({check.variant for check in disagreeing})),
            count=len(disagreeing),
        )


SUBJECTS: Final[tuple[Callable[[Facts], Iterator[DataWarning]], ...]] = (
    _completeness,
    _impossible_times,
    _kills,
    _contention,
    _restarted_loads,
    _shared_state,
    _own_function,
    _random_weights,
    _prices,
    _lab,
    _instruction_sets,
    _cold_starts,
    _provisioned,
    _means,
    _load_generator,
    _metrics,
)
