"""From rows to the summary: every estimate, price, verdict and warning of a run. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from analysis.decide.claims import Context, SwappingEvidence, judge, read_swapping
from analysis.decide.recommend import Candidate, knee, pareto, recommend
from analysis.estimate.cells import Measured, cold_ratios, counts, coverage, make_breakdown, make_cells
from analysis.estimate.deployed_models import DeployedModel, accuracies, table1
from analysis.estimate.estimates import (
    SMALLEST_BOOTSTRAP_N,
    Samples,
    compare_medians,
    largest_share,
    mean,
    percentile,
    quantile,
)
from analysis.estimate.traffic import CallProfile, Traffic, break_even, cost_curve, monthly_cost
from analysis.summary import (
    BreakEven,
    CostCurve,
    CostPerMillion,
    Coverage,
    DataWarning,
    Difference,
    Estimate,
    FailedCost,
    Knee,
    LoadSecond,
    LoadTotals,
    Method,
    MetricCheck,
    Origin,
    ParetoPoint,
    PriceNote,
    Strategy,
    Summary,
    SwappingCell,
)
from core.charges import CallCost, call_cost
from core.configuration import Configuration
from core.prices import Prices, gb_seconds
from core.records import NEVER_INVOKED, EndpointFacts, Manifest
from core.stages import RESTARTED
from core.variants import DISPLAY_NAMES, Variant

# START, the handler's line and REPORT in JSON, where the logs' own volume is not known.
ASSUMED_LOG_BYTES: Final = 1200.0
CARRIED_BY_ONE: Final = 0.1  # of all billed time: above it a mean rests on one call
# Failures that are the function's own, not the caller's or the gateway's.
OWN_FAILURES: Final = ("out_of_memory", "init_timeout", "timeout", "error")
STRATEGIES: Final[tuple[Strategy, ...]] = ("on_demand", "provisioned_concurrency", "warm_pings")


@dataclass(frozen=True)
class Extras:
    """What a run knows beside its rows."""

    log_bytes: Mapping[str, float] = field(default_factory=dict)  # per invocation, by variant
    deployed: Mapping[str, DeployedModel] = field(default_factory=dict)  # by model
    image_gb: Mapping[str, float] = field(default_factory=dict)  # by model
    metric_checks: Sequence[MetricCheck] = ()
    warnings: Sequence[DataWarning] = ()


def summarise(
    rows: pl.DataFrame,
    manifest: Manifest,
    configuration: Configuration,
    prices: Prices,
    extras: Extras | None = None,
    *,
    free_tier: bool = False,
) -> Summary:
    """Everything the report shows, from the rows of one run."""
    extras = extras or Extras()
    variants = {variant.key: variant for variant in configuration.variants}
    rows = rows.filter(pl.col("variant").is_in(list(variants)))
    measured = Measured(rows)
    random = np.random.default_rng(manifest.seed)
    origin = make_origin(manifest.endpoint)
    traffic = Traffic.of(
        configuration.traffic.requests_per_day, configuration.traffic.daily_shape, configuration.traffic.idle_minutes
    )
    profiles = make_profiles(measured, variants, extras)
    costs = make_costs(measured, variants, prices, extras, random)
    coverages = coverage(rows, variants)
    cells = make_cells(measured, variants)
    weights: dict[str, tuple[str, ...]] = {
        model: tuple(sorted({w for cell in cells if cell.model == model for w in cell.weights}))
        for model in configuration.matrix.models
    }
    known_accuracies = accuracies(configuration.matrix.models)
    monthly = tuple(
        monthly_cost(
            strategy, profile, traffic, prices, max_cold_share=configuration.goal.max_cold_share, free_tier=free_tier
        )
        for profile in profiles.values()
        for strategy in STRATEGIES
    )
    grid = read_swapping(rows)
    claims = judge(
        Context(
            measured=measured,
            variants=tuple(variants.values()),
            prices=prices,
            accuracies=known_accuracies,
            load_end_rps=configuration.experiments.load.end_rps,
            lab=origin.source == "lab",
            random=random,
            swapping=grid,
        )
    )
    late_after_ms = configuration.experiments.load.late_after_ms
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
        variants=tuple(variants),
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
        monthly=monthly,
        break_even=make_break_even(profiles, traffic, prices, configuration.goal.max_cold_share, free_tier=free_tier),
        cost_curves=make_cost_curves(profiles, traffic, prices, configuration.goal.max_cold_share, free_tier=free_tier),
        traffic={
            "requests_per_day": traffic.requests_per_day,
            "requests_per_month": traffic.requests_per_month,
            "hourly_shares": list(traffic.hourly_weights),
            "idle_minutes": traffic.idle_s / 60,
            "free_tier": free_tier,
        },
        recommendation=recommend(
            make_candidates(measured, variants, profiles, known_accuracies),
            configuration.goal,
            traffic,
            prices,
            measured_where=origin.badge,
            seed=manifest.seed,
            free_tier=free_tier,
        ),
        pareto=make_pareto(measured, variants, costs, known_accuracies),
        knees=make_knees(measured, variants),
        claims=claims,
        table1=table1(configuration.matrix.models, extras.deployed, weights),
        load_seconds=make_load_seconds(rows, variants, late_after_ms),
        load_totals=make_load_totals(rows, variants, late_after_ms),
        metric_checks=tuple(extras.metric_checks),
        swapping=make_swapping(grid),
        warnings=make_warnings(rows, measured, manifest, variants, coverages, weights, extras, configuration),
        methods=METHODS,
    )


def make_origin(endpoint: EndpointFacts) -> Origin:
    """Where the run was measured, with the badge that stands on every figure."""
    if endpoint.source == "aws":
        badge = f"Measured on AWS Lambda, {endpoint.region}"
    else:
        badge = f"Measured in the lab on {endpoint.host or 'this machine'}: not a cloud figure"
    return Origin(
        source=endpoint.source,
        badge=badge,
        region=endpoint.region,
        account_id=endpoint.account_id,
        host=endpoint.host,
        host_cpus=endpoint.host_cpus,
        limits=endpoint.limits,
        time_scale=endpoint.time_scale,
        not_modelled=endpoint.not_modelled,
    )


def make_swapping(grid: SwappingEvidence | None) -> tuple[SwappingCell, ...]:
    """The grid of CPU share against memory by model, memory and share; cells that only killed have no median."""
    if grid is None:
        return ()
    nothing = np.empty(0)
    return tuple(
        SwappingCell(
            model=key[0],
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


def make_profiles(measured: Measured, variants: Mapping[str, Variant], extras: Extras) -> dict[str, CallProfile]:
    """Mean billed times of each variant that answered warm calls."""
    profiles = {}
    for key, variant in variants.items():
        warm, cold = measured.warm(key, "billed_ms"), measured.cold(key, "billed_ms")
        if len(warm):
            profiles[key] = CallProfile(
                variant=key,
                memory_mb=variant.memory_mb,
                architecture=variant.architecture,
                warm_billed_ms=float(warm.mean()),
                cold_billed_ms=float(cold.mean()) if len(cold) else None,
                log_bytes=extras.log_bytes.get(key, ASSUMED_LOG_BYTES),
                image_gb=extras.image_gb.get(variant.model, 0.0),
            )
    return profiles


def make_costs(
    measured: Measured,
    variants: Mapping[str, Variant],
    prices: Prices,
    extras: Extras,
    random: np.random.Generator,
) -> tuple[CostPerMillion, ...]:
    """USD per million predictions, cold and warm, with parts."""
    found = []
    for key, variant in variants.items():
        for start_type in ("cold", "warm"):
            of = measured.cold if start_type == "cold" else measured.warm
            billed, init = of(key, "billed_ms"), of(key, "init_ms")
            if not len(billed):
                found.append(_no_cost(key, start_type))
                continue
            estimate = mean(billed, random)
            init_mean = float(init.mean()) * len(init) / len(billed) if len(init) else 0.0

            def price(
                billed_ms: float, variant: Variant = variant, key: str = key, init_ms: float = init_mean
            ) -> CallCost:
                return call_cost(
                    variant.memory_mb,
                    variant.architecture,
                    prices,
                    billed_ms=billed_ms,
                    init_ms=init_ms,
                    log_bytes=extras.log_bytes.get(key, ASSUMED_LOG_BYTES),
                    through_gateway=True,
                )

            def priced(estimate: Estimate, price: Callable[[float], CallCost] = price) -> Estimate:
                """An estimate of billed time as one of USD per million, which is linear in it."""

                def usd(billed_ms: float | None) -> float | None:
                    return None if billed_ms is None else price(billed_ms).total * 1e6

                return estimate.model_copy(
                    update={
                        "value": usd(estimate.value),
                        "low": usd(estimate.low),
                        "high": usd(estimate.high),
                    }
                )

            cost = price(estimate.value or 0.0)
            found.append(
                CostPerMillion.model_validate(
                    {
                        "variant": key,
                        "start_type": start_type,
                        "usd": priced(estimate),
                        "median_usd": priced(percentile(billed, 0.5)),
                        "parts": {
                            "compute": cost.compute * 1e6,
                            "init": cost.init * 1e6,
                            "requests": cost.request * 1e6,
                            "gateway": cost.gateway * 1e6,
                            "logs": cost.logs * 1e6,
                        },
                        "billed_ms_mean": estimate.value,
                        "gb_seconds": gb_seconds(variant.memory_mb, estimate.value or 0.0) * 1e6,
                        "without_gateway_usd": (cost.total - cost.gateway) * 1e6,
                    }
                )
            )
    return tuple(found)


def make_failed_costs(rows: pl.DataFrame, variants: Mapping[str, Variant], prices: Prices) -> tuple[FailedCost, ...]:
    """What was billed for calls that failed, of each variant that has some; in no cost of a million predictions.

    Lambda bills a call that ends in an error or a timeout like any other, and one whose client gave up as well. Calls
    that were throttled or never sent are not billed.
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    reached = rows.filter(~pl.col("outcome").is_in(NEVER_INVOKED))
    found = []
    for key, variant in variants.items():
        part = reached.filter(pl.col("variant") == key)
        failed = part.filter(pl.col("outcome") != "ok")
        if not failed.height:
            continue
        billed = failed["billed_ms"].drop_nulls()
        billed_ms, of_all_ms = float(billed.sum()), float(part["billed_ms"].sum())
        compute = gb_seconds(variant.memory_mb, billed_ms) * prices.gb_second_usd(variant.architecture)
        found.append(
            FailedCost(
                variant=key,
                failed=failed.height,
                billed=billed.len(),
                billed_ms=billed_ms,
                usd=compute + billed.len() * prices["requests_per_million_usd"] / 1e6,
                share_of_billed=billed_ms / of_all_ms if of_all_ms else None,
            )
        )
    return tuple(found)


def _no_cost(key: str, start_type: str) -> CostPerMillion:
    return CostPerMillion.model_validate(
        {
            "variant": key,
            "start_type": start_type,
            "usd": Estimate(value=None, n=0, reason=f"no {start_type} call was billed"),
            "parts": {},
            "billed_ms_mean": None,
            "gb_seconds": None,
            "without_gateway_usd": None,
        }
    )


def make_break_even(
    profiles: Mapping[str, CallProfile], traffic: Traffic, prices: Prices, max_cold_share: float, *, free_tier: bool
) -> tuple[BreakEven, ...]:
    """From how many requests a month each way of keeping environments warm pays."""
    pairs: tuple[tuple[Strategy, Strategy], ...] = (
        ("on_demand", "provisioned_concurrency"),
        ("on_demand", "warm_pings"),
        ("warm_pings", "provisioned_concurrency"),
    )
    return tuple(
        break_even(below, above, profile, traffic, prices, max_cold_share=max_cold_share, free_tier=free_tier)
        for profile in profiles.values()
        for below, above in pairs
    )


def make_cost_curves(
    profiles: Mapping[str, CallProfile], traffic: Traffic, prices: Prices, max_cold_share: float, *, free_tier: bool
) -> tuple[CostCurve, ...]:
    """What a month costs at other volumes than the stated one, for every variant and strategy."""
    curves = (
        cost_curve(strategy, profile, traffic, prices, max_cold_share=max_cold_share, free_tier=free_tier)
        for profile in profiles.values()
        for strategy in STRATEGIES
    )
    return tuple(curve for curve in curves if curve is not None)


def make_differences(
    measured: Measured, variants: Mapping[str, Variant], random: np.random.Generator
) -> tuple[Difference, ...]:
    """Cold against warm, and load against warm, of each variant."""
    found = []
    for key in variants:
        pairs: list[tuple[str, str, str, Samples, Samples]] = [
            ("cold", "warm", "total_ms", measured.cold(key, "total_ms"), measured.warm(key, "total_ms")),
            (
                "load",
                "warm",
                "client_latency_ms",
                measured.samples(key, "load", "any", "latency_from_intended_ms"),
                measured.samples(key, "warm", "warm", "client_latency_ms"),
            ),
        ]
        for a, b, metric, samples_a, samples_b in pairs:
            if not len(samples_a) or not len(samples_b):
                continue
            comparison = compare_medians(samples_a, samples_b, random)
            found.append(
                Difference(
                    a=a,
                    b=b,
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


def make_candidates(
    measured: Measured,
    variants: Mapping[str, Variant],
    profiles: Mapping[str, CallProfile],
    known_accuracies: Mapping[str, float],
) -> list[Candidate]:
    """The variants that were measured at all, with what the decision looks at."""
    reached = measured.rows.filter(~pl.col("outcome").is_in([*NEVER_INVOKED, "missing"]))
    answered = dict(reached.group_by("variant").len().iter_rows())
    failed = dict(reached.filter(pl.col("outcome").is_in(OWN_FAILURES)).group_by("variant").len().iter_rows())
    return [
        Candidate(
            variant=variant,
            profile=profiles.get(key),
            latency_ms=measured.latency(key),
            warm_billed_ms=measured.warm(key, "billed_ms"),
            cold_billed_ms=measured.cold(key, "billed_ms"),
            failed=int(failed.get(key, 0)),
            answered=int(answered.get(key, 0)),
            top1_accuracy=known_accuracies.get(variant.model),
        )
        for key, variant in variants.items()
        if key in answered
    ]


def make_pareto(
    measured: Measured,
    variants: Mapping[str, Variant],
    costs: Sequence[CostPerMillion],
    known_accuracies: Mapping[str, float],
) -> tuple[ParetoPoint, ...]:
    """Variants by warm cost per million, median latency and accuracy."""
    points = []
    for cost in costs:
        latency = measured.latency(cost.variant)
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


def make_knees(measured: Measured, variants: Mapping[str, Variant]) -> tuple[Knee, ...]:
    """The knee of each model's warm curve."""
    groups: dict[tuple[str, str, str], dict[int, float]] = {}
    for key, variant in variants.items():
        curve = groups.setdefault((variant.model, variant.engine, variant.architecture), {})
        latency = measured.latency(key)
        if len(latency):
            curve[variant.memory_mb] = quantile(latency, 0.5)
    return tuple(knee(*group, "client_latency_ms", curve) for group, curve in groups.items())


def _load_rows(rows: pl.DataFrame, late_after_ms: float) -> pl.DataFrame:
    # Warm-up calls come before the shape: they are no part of what it offered.
    load = rows.filter(
        (pl.col("experiment") == "load")
        & pl.col("intended_at").is_not_null()
        & ~pl.col("warmup")
        & pl.col("protocol").ne_missing(RESTARTED)
    ).select("variant", "protocol", "outcome", "start_type", "intended_at", "sent_at", "answered_at")
    start = pl.col("intended_at").min().over("variant")
    lag_ms = (pl.col("sent_at") - pl.col("intended_at")) * 1000
    return load.with_columns(
        (pl.col("intended_at") - start).floor().cast(pl.Int32).alias("second"),
        (pl.col("answered_at") - start).floor().cast(pl.Int32).alias("answered_second"),
        lag_ms.alias("lag_ms"),
        (lag_ms > late_after_ms).fill_null(value=False).alias("late"),
    )


def make_load_seconds(
    rows: pl.DataFrame, variants: Mapping[str, Variant], late_after_ms: float
) -> tuple[LoadSecond, ...]:
    """Offered, sent, answered, dropped and late, second by second of each variant's load test."""
    load = _load_rows(rows, late_after_ms)
    if load.height == 0:
        return ()
    failed = pl.col("outcome").is_in(["gateway_timeout", "missing", *OWN_FAILURES, "connection"])
    offered = load.group_by("variant", "second").agg(
        pl.len().alias("offered"),
        pl.col("sent_at").is_not_null().sum().alias("sent"),
        (pl.col("outcome") == "ok").sum().alias("ok"),
        (pl.col("outcome") == "dropped").sum().alias("dropped"),
        pl.col("late").sum().alias("late"),
        (pl.col("outcome") == "throttled").sum().alias("throttled"),
        failed.sum().alias("failed"),
        (pl.col("start_type") == "cold").sum().alias("cold"),
    )
    answered = (
        load.filter(pl.col("answered_second").is_not_null())
        .group_by("variant", pl.col("answered_second").alias("second"))
        .agg(pl.len().alias("answered"))
    )
    seconds = offered.join(answered, on=["variant", "second"], how="full", coalesce=True).fill_null(0)
    order = pl.DataFrame({"variant": list(variants), "place": range(len(variants))})
    seconds = seconds.join(order, on="variant").sort("place", "second").drop("place")
    return tuple(LoadSecond.model_validate(line) for line in seconds.iter_rows(named=True))


def make_load_totals(
    rows: pl.DataFrame, variants: Mapping[str, Variant], late_after_ms: float
) -> tuple[LoadTotals, ...]:
    """Each variant's load test as a whole."""
    load = _load_rows(rows, late_after_ms)
    found = []
    for key in variants:
        part = load.filter(pl.col("variant") == key)
        if part.height == 0:
            continue
        times = part["intended_at"].to_numpy()
        duration_s = max(float(times.max() - times.min()), 1e-9)
        answered = int(part["answered_at"].is_not_null().sum())
        found.append(
            LoadTotals(
                variant=key,
                protocol=", ".join(sorted(part["protocol"].drop_nulls().unique().to_list())),
                duration_s=duration_s,
                offered=part.height,
                sent=int(part["sent_at"].is_not_null().sum()),
                answered=answered,
                ok=int((part["outcome"] == "ok").sum()),
                dropped=int((part["outcome"] == "dropped").sum()),
                late=int(part["late"].sum()),
                offered_rps=part.height / duration_s,
                achieved_rps=answered / duration_s,
                send_lag_p99_ms=percentile(np.sort(part["lag_ms"].drop_nulls().to_numpy()), 0.99),
            )
        )
    return tuple(found)


def make_warnings(
    rows: pl.DataFrame,
    measured: Measured,
    manifest: Manifest,
    variants: Mapping[str, Variant],
    coverages: Sequence[Coverage],
    weights: Mapping[str, tuple[str, ...]],
    extras: Extras,
    configuration: Configuration,
) -> tuple[DataWarning, ...]:
    """What a reader of the figures has to know, each with what to do about it."""
    found = list(extras.warnings)
    endpoint = manifest.endpoint
    missing = [c for c in coverages if c.experiment == "all" and c.missing]
    if missing:
        found.append(
            DataWarning(
                code="incomplete_logs",
                severity="warning",
                message=f"{sum(c.missing for c in missing)} calls that reached a function are not in the logs.",
                advice="Collect again: `python analysis/collect.py --refresh`; logs may arrive minutes late.",
                variants=tuple(c.variant for c in missing),
                count=sum(c.missing for c in missing),
            )
        )
    if rows["call_id"].drop_nulls().len() == 0 and rows.height:
        found.append(
            DataWarning(
                code="no_client_records",
                severity="warning",
                message="There are no client records: latency as a client saw it, and coverage, are unknown.",
                advice="Measure with `python -m experiments run`; it records every call as it happens.",
            )
        )
    silent = [key for key in variants if not (rows["variant"] == key).any()]
    if silent:
        found.append(
            DataWarning(
                code="not_measured",
                severity="warning",
                message=f"{len(silent)} of {len(variants)} variants have no invocation.",
                advice="Check that they are deployed, and measure again with `python -m experiments run --resume`.",
                variants=tuple(silent),
                count=len(silent),
            )
        )
    for outcome, name, advice in (
        ("out_of_memory", "killed for want of memory", "The variant needs a larger memory size."),
        ("init_timeout", "failed after a timeout of its init phase", "Load less at import, or choose a larger size."),
        ("timeout", "stopped at the function's timeout", "Raise [function] timeout_s, or choose a larger size."),
    ):
        part = rows.filter(pl.col("outcome") == outcome)
        if part.height:
            found.append(
                DataWarning(
                    code=outcome,
                    severity="warning",
                    message=f"{part.height} calls were {name}.",
                    advice=advice,
                    variants=_sorted_variants(part, variants),
                    count=part.height,
                )
            )
    kept = [key for key, part in measured.parts.items() if key[2] != "any" and key[1] != "load" and _kept(part)]
    if kept:
        found.append(
            DataWarning(
                code="host_contended",
                severity="serious",
                message="Most cold or warm samples of the functions named here were taken while the host was short of "
                "CPU, by its environments together or by other programs; they are in the figures, and too slow.",
                advice="Use a machine with more CPUs, fewer memory sizes, or longer intervals; close other programs.",
                variants=tuple(sorted({key[0] for key in kept})),
                count=len(kept),
            )
        )
    left_out = int((measured.rows["rule"] == "host_contended").sum())
    if left_out:
        found.append(
            DataWarning(
                code="host_contended_samples",
                severity="info",
                message=f"{left_out} samples were taken while the host was short of CPU, by its environments together "
                "or by other programs.",
                advice="They are left out of cold and warm figures where enough others remain, and counted.",
                count=left_out,
            )
        )
    if measured.broken_off:
        found.append(
            DataWarning(
                code="broken_off_load",
                severity="info",
                message=f"{measured.broken_off} calls belong to a load that was broken off and begun again.",
                advice="They are left out of every figure of the load; the rows carry the protocol broken_off.",
                count=measured.broken_off,
            )
        )
    random_weights = [model for model, kinds in weights.items() if "random" in kinds]
    if random_weights:
        names = ", ".join(DISPLAY_NAMES.get(model, model) for model in random_weights)
        found.append(
            DataWarning(
                code="random_weights",
                severity="info",
                message=f"{names} ran with seeded random weights: times are the same, predictions mean nothing.",
                advice='Build where the ImageNet weights can be downloaded, with weights = "imagenet".',
            )
        )
    if endpoint.source == "lab":
        if endpoint.not_modelled:
            found.append(
                DataWarning(
                    code="lab_not_modelled",
                    severity="info",
                    message=f"The lab does not model {', '.join(endpoint.not_modelled)}.",
                    advice="Cold starts on AWS take longer than here; measure there before you decide on them.",
                )
            )
        unlimited = [name for name in ("cpu", "memory") if getattr(endpoint.limits, name) == "none"]
        if unlimited:
            found.append(
                DataWarning(
                    code="no_limits",
                    severity="serious",
                    message=f"The lab could not limit {' and '.join(unlimited)}: memory sizes differ in name alone.",
                    advice="`python -m lab doctor` says what this machine can enforce and how to get more.",
                )
            )
        if endpoint.time_scale != 1:
            found.append(
                DataWarning(
                    code="time_scale",
                    severity="info",
                    message=f"Schedule intervals and idle time were shortened by {endpoint.time_scale:g}.",
                    advice="Cold ratios hold for the shortened clock; use --time-scale 1 for real ones.",
                )
            )
    if "cold" in manifest.experiments:
        scheduled = rows.filter((pl.col("protocol") == "scheduled") & (pl.col("start_type") == "warm"))
        if scheduled.height:
            found.append(
                DataWarning(
                    code="scheduled_but_warm",
                    severity="info",
                    message=f"{scheduled.height} scheduled calls found a warm environment; they are not counted as "
                    "cold.",
                    advice="A schedule does not guarantee a cold start; the forced protocol does.",
                    variants=_sorted_variants(scheduled, variants),
                    count=scheduled.height,
                )
            )
    ahead = rows.filter(pl.col("init_status") == "ahead")
    if ahead.height:
        found.append(
            DataWarning(
                code="initialised_ahead",
                severity="info",
                message=f"{ahead.height} environments were initialised before they were asked for; no caller waited "
                "for their init.",
                advice="That init is in no latency, and outside the load test these calls count as neither cold nor "
                "warm. Where too few cold starts are left, the forced protocol makes some that are waited for.",
                variants=_sorted_variants(ahead, variants),
                count=ahead.height,
            )
        )
    carried = [
        key
        for key in variants
        for billed in (measured.cold(key, "billed_ms"), measured.warm(key, "billed_ms"))
        if len(billed) >= SMALLEST_BOOTSTRAP_N and largest_share(billed) > max(CARRIED_BY_ONE, 3 / len(billed))
    ]
    if carried:
        found.append(
            DataWarning(
                code="mean_carried_by_one_call",
                severity="warning",
                message=f"A single slow call is more than {100 * CARRIED_BY_ONE:.0f} % of all that was billed to the "
                "functions named here, cold or warm.",
                advice="The interval of such a mean cost is too narrow: go by the cost at the median, and take more "
                "samples.",
                variants=tuple(dict.fromkeys(carried)),
                count=len(carried),
            )
        )
    load = _load_rows(rows, configuration.experiments.load.late_after_ms)
    late, dropped = int(load["late"].sum()), int((load["outcome"] == "dropped").sum())
    if load.height and (late + dropped) / load.height > 0.01:
        found.append(
            DataWarning(
                code="load_generator",
                severity="warning",
                message=f"The load generator sent {late} requests late and dropped {dropped} of {load.height}.",
                advice="Latency counts from the intended time, so it stays honest; use more workers (--processes).",
                count=late + dropped,
            )
        )
    disagreeing = [check for check in extras.metric_checks if check.agrees is False]
    if disagreeing:
        first = disagreeing[0]
        found.append(
            DataWarning(
                code="metrics_disagree",
                severity="warning",
                message=f"{len(disagreeing)} CloudWatch statistics differ from those of the logs, for example "
                f"{first.metric} "
                f"{first.statistic} of {first.variant}: {first.cloudwatch:g} there, {first.own:g} here.",
                advice="Look for other callers of the functions in that time, or collect again once logs are complete.",
                variants=tuple(sorted({check.variant for check in disagreeing})),
                count=len(disagreeing),
            )
        )
    if manifest.finished_at is None:
        found.append(
            DataWarning(
                code="unfinished_run",
                severity="warning",
                message="The run was not finished; what it measured so far is shown.",
                advice=f"Go on with `python -m experiments run --resume {manifest.run_id}`, then collect again.",
            )
        )
    order = {"serious": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda warning: order[warning.severity]))


def _kept(part: pl.DataFrame) -> bool:
    """Whether contended samples of this cell count because most of its samples are contended."""
    return bool((part["rule"].is_null() & part["host_contended"].fill_null(value=False)).any())


def _sorted_variants(part: pl.DataFrame, variants: Mapping[str, Variant]) -> tuple[str, ...]:
    present = set(part["variant"].to_list())
    return tuple(key for key in variants if key in present)


METHODS: Final = (
    Method(
        title="Samples",
        text="Every call is kept as it was measured; nothing is trimmed. Warm-up calls, failed calls, first starts "
        "of a new "
        "image and, in the lab, calls made while the host was short of CPU are set apart by rule and counted.",
    ),
    Method(
        title="Cold or warm",
        text="Decided by evidence, never assumed: the function's own call counter in its execution environment, else "
        "the "
        "Init Duration of its REPORT, else an INIT_REPORT, else its place in the log stream.",
    ),
    Method(
        title="Percentiles",
        text="Intervals are exact binomial order-statistic intervals at 95 %, which hold for any distribution. Where "
        "n is "
        "too small for one the table says what n it needs; a tail percentile is then left out altogether.",
    ),
    Method(
        title="Differences",
        text="Differences and ratios of medians carry percentile bootstrap intervals; Cliff's delta says how far two "
        "samples lie apart, from -1 to 1.",
    ),
    Method(
        title="Latency under load",
        text="Counted from the time a request was meant to be sent, so a slow answer cannot hide the requests that "
        "had to "
        "wait behind it. Offered, sent, answered, dropped and late requests stand beside it.",
    ),
    Method(
        title="Cost",
        text="Mean billed duration times memory, by the dated price table; INIT is part of the billed duration of an "
        "image "
        "function and is shown as its share. Request fee, REST API and log ingestion are added. The free tier counts "
        "on request alone. Data transfer is not counted, nor ECR storage, which is billed by the month and stands "
        "there. What was billed for calls that failed stands in a table of its own. The interval of a mean is a "
        "bootstrap-t interval and approximate: in simulations it covers 93 to 95 % for skewed times, 72 to 92 % where "
        "single slow calls carry the mean. The cost at the median, beside it, has an exact interval.",
    ),
    Method(
        title="A month's cold starts",
        text="Expected from the arrivals of each hour (a Poisson process), the service time and the idle time after "
        "which "
        "an environment is reclaimed: a call is cold when every environment alive is busy, by a first-passage "
        "argument.",
    ),
    Method(
        title="The recommendation",
        text="The cheapest variant a month that meets each demand of [goal] beyond its 95 % interval; where the data "
        "show "
        "that of none, the cheapest that fails none, marked provisional. The probability of being best is its share of "
        "bootstrap draws.",
    ),
    Method(
        title="Clocks",
        text="A function's clock is never subtracted from a client's; every duration is a difference on one clock.",
    ),
)


def _price_note(prices: Prices) -> PriceNote:
    return PriceNote(
        as_of=prices.as_of,
        region=prices.region,
        source="; ".join(prices.sources.values()),
        overrides=dict(prices.overrides),
        values=dict(prices.values),
    )
