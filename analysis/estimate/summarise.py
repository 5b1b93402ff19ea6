"""From rows to the summary: every estimate, price, verdict and warning of a run. No I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from analysis.decide.callers import Waits, measured_waits
from analysis.decide.claims import Context, SwappingEvidence, judge, read_swapping
from analysis.decide.curves import knee, pareto
from analysis.decide.recommend import Candidate, Question, recommend
from analysis.decide.what_if import what_if
from analysis.estimate.cells import Measured, cold_ratios, counts, coverage, kept, make_breakdown, make_cells
from analysis.estimate.costs import CostModel, make_costs, make_failed_costs, make_profiles
from analysis.estimate.deployed_models import DeployedModel, accuracies, table1
from analysis.estimate.environments import Sample
from analysis.estimate.estimates import compare_medians, percentile, quantile
from analysis.estimate.highest_rate import make_highest_rates
from analysis.estimate.load_test import make_load_seconds, make_load_totals
from analysis.estimate.touched_files import touched_files
from analysis.estimate.traffic import CallProfile, Traffic
from analysis.estimate.warnings import Facts, make_warnings
from analysis.summary import (
    CostPerMillion,
    DataWarning,
    Difference,
    Knee,
    MetricCheck,
    Origin,
    ParetoPoint,
    PriceNote,
    Summary,
    SwappingCell,
)
from core.configuration import Configuration, GoalTable
from core.prices import Prices
from core.rate_search import HighestRate
from core.records import EndpointFacts, Manifest
from core.stages import RESTARTED
from core.stops import Stop
from core.variants import Image, Variant


@dataclass(frozen=True)
class Extras:
    """Facts about a run besides its rows."""

    log_bytes: Mapping[str, float] = field(default_factory=dict)  # per invocation, by variant
    deployed: Mapping[str, DeployedModel] = field(default_factory=dict)  # by the key of the image
    image_gb: Mapping[Image, float] = field(default_factory=dict)
    metric_checks: Sequence[MetricCheck] = ()
    warnings: Sequence[DataWarning] = ()  # of what the rows no longer show
    stops: Sequence[Stop] = ()
    highest_rates: Mapping[str, HighestRate] = field(default_factory=dict)  # by variant
    searched_goal: GoalTable | None = None  # of these rates, where it may be another than today's


def summarise(
    rows: pl.DataFrame,
    manifest: Manifest,
    configuration: Configuration,
    prices: Prices,
    extras: Extras | None = None,
    *,
    free_tier: bool = False,
    with_what_if: bool = False,
) -> Summary:
    """Everything the report shows, from the rows of one run; the answers to other traffic take seconds."""
    extras = extras or Extras()
    variants = {variant.key: variant for variant in configuration.variants}
    rows = kept(rows, pl.col("variant").is_in(list(variants)))
    measured = Measured(rows)
    random = np.random.default_rng(manifest.seed)
    origin = make_origin(manifest.endpoint)
    traffic = Traffic.of(
        configuration.traffic.requests_per_day,
        configuration.traffic.daily_shape,
        configuration.traffic.idle_minutes,
        configuration.traffic.burstiness,
    )
    model = CostModel(prices, traffic, configuration.goal, free_tier, configuration.provisioned.concurrency)
    profiles = make_profiles(measured, variants, extras.log_bytes, extras.image_gb)
    costs = make_costs(measured, variants, model, extras.log_bytes, random)
    coverages = coverage(rows, variants)
    cells = make_cells(measured, variants)
    weights: dict[str, tuple[str, ...]] = {
        name: tuple(sorted({w for cell in cells if cell.model == name for w in cell.weights}))
        for name in configuration.matrix.models
    }
    known_accuracies = accuracies(configuration)
    comparable = manifest.endpoint.limits.memory_sizes_are_comparable
    grid = read_swapping(rows, variants)
    warnings = make_warnings(
        Facts(
            rows=rows,
            measured=measured,
            manifest=manifest,
            variants=variants,
            coverages=coverages,
            weights=weights,
            metric_checks=extras.metric_checks,
            late_after_ms=configuration.experiments.load.late_after_ms,
            prices=prices,
            is_scaled=configuration.provisioned.is_scaled,
            known=tuple(extras.warnings),
        )
    )
    breaches = tuple(warning.message.rstrip(".") for warning in warnings if warning.caps_verdicts)
    claims = judge(
        Context(
            measured=measured,
            variants=tuple(variant for variant in variants.values() if variant.image.is_the_papers),
            prices=prices,
            accuracies=known_accuracies,
            load_end_rps=configuration.experiments.load.peak_rps,
            lab=origin.source == "lab",
            random=random,
            swapping=grid,
            comparable=comparable,
            breaches=breaches,
        )
    )
    question = Question(
        goal=configuration.goal,
        traffic=traffic,
        prices=prices,
        measured_where=origin.badge,
        seed=manifest.seed,
        free_tier=free_tier,
        comparable=comparable,
        breaches=breaches,
        lab=origin.source == "lab",
        provisioned=configuration.provisioned.concurrency,
    )
    late_after_ms = configuration.experiments.load.late_after_ms
    with_calls = set(measured.rows["variant"].unique().to_list())
    called = [key for key in variants if key in with_calls]

    def waits_at(peak_rps: float) -> dict[str, tuple[Waits, ...]]:
        return {key: measured_waits(measured, key, peak_rps) for key in called}

    candidates = make_candidates(
        measured, variants, profiles, known_accuracies, waits_at(traffic.peak_rps), configuration.goal.limit_ms
    )
    return Summary(
        run_id=manifest.run_id,
        title=_title(manifest),
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        stopped_because=manifest.stopped_because,
        commit=manifest.commit,
        profile=manifest.profile,
        seed=manifest.seed,
        versions=manifest.versions,
        configuration=manifest.configuration,
        experiments=manifest.experiments,
        origin=origin,
        prices=_price_note(prices),
        variants=variants,
        invocations=rows.height,
        outcomes=counts(rows["outcome"]),
        excluded=_excluded(measured),
        cells=cells,
        breakdown=make_breakdown(measured, variants),
        cold_ratios=cold_ratios(rows, variants),
        coverage=coverages,
        differences=make_differences(measured, variants, random),
        costs=costs,
        failed_costs=make_failed_costs(rows, variants, prices),
        monthly=tuple(month for profile in profiles.values() for month in model.months(profile)),
        break_even=tuple(point for profile in profiles.values() for point in model.break_evens(profile)),
        traffic={
            "requests_per_day": traffic.requests_per_day,
            "requests_per_month": traffic.requests_per_month,
            "hourly_shares": list(traffic.hourly_weights),
            "idle_minutes": traffic.idle_s / 60,
            "burstiness": traffic.burstiness,
            "free_tier": free_tier,
        },
        recommendation=recommend(candidates, question),
        what_if=what_if(candidates, question, waits_at) if with_what_if else None,
        pareto=make_pareto(measured, variants, costs, known_accuracies),
        knees=make_knees(measured, variants, random) if comparable else (),
        claims=claims,
        table1=table1(configuration, extras.deployed, weights),
        touched_files=touched_files(
            configuration.container_images,
            {key: deployed.touched for key, deployed in extras.deployed.items()},
        ),
        load_seconds=make_load_seconds(rows, variants, late_after_ms),
        load_totals=make_load_totals(rows, variants, late_after_ms),
        highest_rates=make_highest_rates(
            extras.highest_rates, measured, variants, configuration, prices, extras.searched_goal or configuration.goal
        ),
        metric_checks=tuple(extras.metric_checks),
        swapping=make_swapping(grid),
        stops=tuple(extras.stops),
        warnings=warnings,
    )


def make_origin(endpoint: EndpointFacts) -> Origin:
    """Return where the run was measured, with the badge for every figure."""
    if endpoint.source == "aws":
        badge = f"Measured on AWS Lambda, {endpoint.region}"
    else:
        badge = f"Measured in the lab on {endpoint.host or 'this machine'}: not a cloud figure"
    return Origin(**dict(endpoint), badge=badge)


def make_swapping(grid: SwappingEvidence | None) -> tuple[SwappingCell, ...]:
    """The grid of CPU share against memory by model, memory and share; cells that only killed have no median."""
    if grid is None:
        return ()
    nothing = np.empty(0)
    return tuple(
        SwappingCell(
            model=key[0].model,
            engine=key[0].engine,
            architecture=key[0].architecture,
            memory_mb=key[1],
            vcpu=key[2],
            inference_ms=percentile(grid.cells.get(key, nothing), 0.5),
            major_page_faults=grid.faults.get(key),
            killed=grid.killed.get(key, 0),
        )
        for key in sorted(grid.killed)
    )


def _title(manifest: Manifest) -> str:
    when = time.strftime("%d %B %Y", time.gmtime(manifest.started_at)).lstrip("0")
    where = f"AWS Lambda, {manifest.endpoint.region}" if manifest.endpoint.source == "aws" else "the local lab"
    return f"Image classification on {where}, {when}"


def _excluded(measured: Measured) -> dict[str, int]:
    total: dict[str, int] = {}
    for (_variant, _experiment, start_type), part in measured.parts.items():
        if start_type != "any":
            for rule, count in counts(part["rule"]).items():
                total[rule] = total.get(rule, 0) + count
    if measured.broken_off:
        total[RESTARTED] = measured.broken_off
    return total


def make_candidates(
    measured: Measured,
    variants: Mapping[str, Variant],
    profiles: Mapping[str, CallProfile],
    known_accuracies: Mapping[str, float],
    waits: Mapping[str, Sequence[Waits]],
    limit_ms: float,
) -> list[Candidate]:
    """The variants whose callers waited at all, with what the decision looks at."""
    return [
        Candidate(
            variant=variants[key],
            profile=profiles.get(key),
            conditions=tuple(one.condition(limit_ms) for one in parts),
            warm_billed_ms=measured.warm(key, "billed_ms"),
            cold_billed_ms=measured.cold(key, "billed_ms"),
            top1_accuracy=known_accuracies.get(variants[key].model),
        )
        for key, parts in waits.items()
    ]


def make_differences(
    measured: Measured, variants: Mapping[str, Variant], random: np.random.Generator
) -> tuple[Difference, ...]:
    """Cold against warm, and load against warm, of each variant."""
    found = []
    for key in variants:
        cold, warm = measured.cold(key, "total_ms").medians, measured.warm(key, "total_ms").medians
        loaded = measured.samples(key, "load", "warm", "latency_from_intended_ms")
        single = measured.samples(key, "warm", "warm", "client_latency_ms")
        pairs = (("cold", "total_ms", cold, warm), ("load", "client_latency_ms", loaded, single))
        for a, metric, samples_a, samples_b in pairs:
            if not len(samples_a) or not len(samples_b):
                continue
            comparison = compare_medians(samples_a, samples_b, random)
            found.append(
                Difference(
                    a=a,
                    b="warm",
                    variant=key,
                    metric=metric,
                    median_a=quantile(samples_a, 0.5),
                    median_b=quantile(samples_b, 0.5),
                    difference=comparison.difference,
                    ratio=comparison.ratio,
                    cliffs_delta=comparison.cliffs_delta,
                    n_a=len(samples_a),
                    n_b=len(samples_b),
                )
            )
    return tuple(found)


def make_pareto(
    measured: Measured,
    variants: Mapping[str, Variant],
    costs: Sequence[CostPerMillion],
    known_accuracies: Mapping[str, float],
) -> tuple[ParetoPoint, ...]:
    """Variants by warm cost per million, median latency and accuracy."""
    points = []
    for cost in costs:
        latency = measured.latency(cost.variant).ordered
        if cost.start_type == "warm" and cost.usd.value is not None and len(latency):
            points.append(
                ParetoPoint(
                    variant=cost.variant,
                    usd_per_million=cost.usd.value,
                    latency_ms=quantile(latency, 0.5),
                    top1_accuracy=known_accuracies.get(variants[cost.variant].model),
                    on_front=False,
                )
            )
    return pareto(points)


def make_knees(measured: Measured, variants: Mapping[str, Variant], random: np.random.Generator) -> tuple[Knee, ...]:
    """The knee of each image's warm curve."""
    groups: dict[Image, dict[int, Sample]] = {}
    for key, variant in variants.items():
        curve = groups.setdefault(variant.image, {})
        latency = measured.latency(key)
        if len(latency):
            curve[variant.memory_mb] = latency
    return tuple(knee(image, "client_latency_ms", curve, random) for image, curve in groups.items())


def _price_note(prices: Prices) -> PriceNote:
    return PriceNote(
        as_of=prices.as_of,
        region=prices.region,
        source="; ".join(prices.sources.values()),
        overrides=dict(prices.overrides),
        values=dict(prices.values),
    )
