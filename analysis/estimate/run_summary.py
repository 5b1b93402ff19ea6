"""From rows to the summary: every estimate, price, verdict and warning of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

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
    Cell,
    CostPerMillion,
    Coverage,
    DataWarning,
    Difference,
    HighestRates,
    Knee,
    MetricCheck,
    Origin,
    ParetoPoint,
    PriceNote,
    Summary,
    SwappingCell,
)
from core.configuration import Configuration, GoalTable
from core.money.prices import Prices
from core.run.records import EndpointFacts, Manifest
from core.run.stages import RESTARTED
from core.run.stops import Stop
from core.statistics.rate_search import HighestRate
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


@dataclass(frozen=True)
class _Run:
    """What every part of the summary reads; its rows are those of the variants in the matrix."""

    rows: pl.DataFrame
    measured: Measured
    variants: dict[str, Variant]
    manifest: Manifest
    configuration: Configuration
    prices: Prices
    traffic: Traffic
    free_tier: bool
    extras: Extras
    origin: Origin
    accuracies: Mapping[str, float]
    random: np.random.Generator

    @property
    def costs(self) -> CostModel:
        environments = self.configuration.provisioned.concurrency
        return CostModel(self.prices, self.traffic, self.configuration.goal, self.free_tier, environments)

    @property
    def comparable(self) -> bool:
        return self.manifest.endpoint.limits.memory_sizes_are_comparable

    @property
    def late_after_ms(self) -> float:
        return self.configuration.experiments.load.late_after_ms

    def waits_at(self, peak_rps: float) -> dict[str, tuple[Waits, ...]]:
        """Return how long callers of each variant with calls waited, at a traffic of this peak."""
        called = set(self.measured.rows["variant"].unique().to_list())
        return {key: measured_waits(self.measured, key, peak_rps) for key in self.variants if key in called}


def make_summary(
    rows: pl.DataFrame,
    manifest: Manifest,
    configuration: Configuration,
    prices: Prices,
    extras: Extras | None = None,
    *,
    free_tier: bool = False,
    with_what_if: bool = False,
) -> Summary:
    """Return everything the report shows, from the rows of one run; the answers to other traffic take seconds."""
    run = _make_run(rows, manifest, configuration, prices, extras or Extras(), free_tier=free_tier)
    rows, measured, variants, extras = run.rows, run.measured, run.variants, run.extras
    profiles = make_profiles(measured, variants, extras.log_bytes, extras.image_gb)
    # Costs, claims, differences, and knees draw from one random sequence, in this order.
    costs = make_costs(measured, variants, run.costs, extras.log_bytes, run.random)
    cells, coverages = make_cells(measured, variants), coverage(rows, variants)
    weights = _weights(configuration, cells)
    warnings = make_warnings(_facts(run, coverages, weights))
    breaches = tuple(warning.message.rstrip(".") for warning in warnings if warning.caps_verdicts)
    grid = read_swapping(rows, variants)
    claims = judge(_context(run, grid, breaches))
    question = _question(run, breaches)
    waits, limit_ms = run.waits_at(run.traffic.peak_rps), configuration.goal.limit_ms
    candidates = make_candidates(measured, variants, profiles, run.accuracies, waits, limit_ms)
    return Summary(
        **manifest.model_dump(include=_OF_THE_MANIFEST),
        title=_title(manifest),
        origin=run.origin,
        prices=_price_note(prices),
        variants=variants,
        invocations=rows.height,
        outcomes=counts(rows["outcome"]),
        excluded=_excluded(measured),
        cells=cells,
        breakdown=make_breakdown(measured, variants),
        cold_ratios=cold_ratios(rows, variants),
        coverage=coverages,
        differences=make_differences(measured, variants, run.random),
        costs=costs,
        failed_costs=make_failed_costs(rows, variants, prices),
        monthly=tuple(month for profile in profiles.values() for month in run.costs.months(profile)),
        break_even=tuple(point for profile in profiles.values() for point in run.costs.break_evens(profile)),
        traffic=_traffic_note(run),
        recommendation=recommend(candidates, question),
        what_if=what_if(candidates, question, run.waits_at) if with_what_if else None,
        pareto=make_pareto(measured, variants, costs, run.accuracies),
        knees=make_knees(measured, variants, run.random) if run.comparable else (),
        claims=claims,
        table1=table1(configuration, extras.deployed, weights),
        touched_files=touched_files(
            configuration.container_images, {key: one.touched for key, one in extras.deployed.items()}
        ),
        load_seconds=make_load_seconds(rows, variants, run.late_after_ms),
        load_totals=make_load_totals(rows, variants, run.late_after_ms),
        highest_rates=_highest_rates(run),
        metric_checks=tuple(extras.metric_checks),
        swapping=make_swapping(grid),
        stops=tuple(extras.stops),
        warnings=warnings,
    )


_OF_THE_MANIFEST: Final = {
    *("run_id", "started_at", "finished_at", "stopped_because", "commit"),
    *("profile", "seed", "versions", "configuration", "experiments"),
}


def _make_run(
    rows: pl.DataFrame,
    manifest: Manifest,
    configuration: Configuration,
    prices: Prices,
    extras: Extras,
    *,
    free_tier: bool,
) -> _Run:
    variants = {variant.key: variant for variant in configuration.variants}
    rows = kept(rows, pl.col("variant").is_in(list(variants)))
    table = configuration.traffic
    return _Run(
        rows=rows,
        measured=Measured(rows),
        variants=variants,
        manifest=manifest,
        configuration=configuration,
        prices=prices,
        traffic=Traffic.of(table.requests_per_day, table.daily_shape, table.idle_minutes, table.burstiness),
        free_tier=free_tier,
        extras=extras,
        origin=make_origin(manifest.endpoint),
        accuracies=accuracies(configuration),
        random=np.random.default_rng(manifest.seed),
    )


def _weights(configuration: Configuration, cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """Which weights each model ran with."""
    return {
        name: tuple(sorted({weights for cell in cells if cell.model == name for weights in cell.weights}))
        for name in configuration.matrix.models
    }


def _facts(run: _Run, coverages: Sequence[Coverage], weights: Mapping[str, tuple[str, ...]]) -> Facts:
    """Return what the warnings look at."""
    return Facts(
        rows=run.rows,
        measured=run.measured,
        manifest=run.manifest,
        variants=run.variants,
        coverages=coverages,
        weights=weights,
        metric_checks=run.extras.metric_checks,
        late_after_ms=run.late_after_ms,
        prices=run.prices,
        is_scaled=run.configuration.provisioned.is_scaled,
        known=tuple(run.extras.warnings),
    )


def _context(run: _Run, grid: SwappingEvidence | None, breaches: tuple[str, ...]) -> Context:
    """Return what the paper's claims are judged by."""
    return Context(
        measured=run.measured,
        variants=tuple(variant for variant in run.variants.values() if variant.image.is_the_papers),
        prices=run.prices,
        accuracies=run.accuracies,
        load_end_rps=run.configuration.experiments.load.peak_rps,
        lab=run.origin.source == "lab",
        random=run.random,
        swapping=grid,
        comparable=run.comparable,
        breaches=breaches,
    )


def _question(run: _Run, breaches: tuple[str, ...]) -> Question:
    """Return what the recommendation answers."""
    return Question(
        goal=run.configuration.goal,
        traffic=run.traffic,
        prices=run.prices,
        measured_where=run.origin.badge,
        seed=run.manifest.seed,
        free_tier=run.free_tier,
        comparable=run.comparable,
        breaches=breaches,
        lab=run.origin.source == "lab",
        provisioned=run.configuration.provisioned.concurrency,
    )


def _highest_rates(run: _Run) -> tuple[HighestRates, ...]:
    goal = run.extras.searched_goal or run.configuration.goal
    found = run.extras.highest_rates
    return make_highest_rates(found, run.measured, run.variants, run.configuration, run.prices, goal)


def _traffic_note(run: _Run) -> dict[str, Any]:
    return {
        "requests_per_day": run.traffic.requests_per_day,
        "requests_per_month": run.traffic.requests_per_month,
        "hourly_shares": list(run.traffic.hourly_weights),
        "idle_minutes": run.traffic.idle_s / 60,
        "burstiness": run.traffic.burstiness,
        "free_tier": run.free_tier,
    }


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
                    **vars(comparison),
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
