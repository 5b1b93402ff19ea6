"""Summaries for the report's own tests: honest medians of synthetic rows, with every table of the model filled.

The real pipeline is proved elsewhere; here the summary is the input, so it is made directly and can be made odd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from analysis import summary as s
from core.configuration import Configuration, read_configuration
from core.records import LimitsInForce
from core.variants import DISPLAY_NAMES, Variant
from tests.analysis.synthetic import NOT_MODELLED, STARTED_AT, frame, make_rows

TOP1 = {"resnet50": 0.749, "mobilenet": 0.704, "inceptionv3": 0.779}
TOP5 = {"resnet50": 0.921, "mobilenet": 0.895, "inceptionv3": 0.937}


def estimate(values: Sequence[float], quantile: float, *, needs: int) -> s.Estimate:
    values = sorted(value for value in values if value is not None)
    n = len(values)
    if n == 0:
        return s.Estimate(value=None, n=0, reason="no sample")
    middle = float(np.quantile(values, quantile))
    if n < needs:
        if quantile > 0.5:
            return s.Estimate(value=None, n=n, reason=f"needs n >= {needs}")
        return s.Estimate(value=middle, n=n, reason=f"needs n >= {needs}")
    spread = 0.5 / np.sqrt(n)
    low = float(np.quantile(values, max(0.0, quantile - spread)))
    high = float(np.quantile(values, min(1.0, quantile + spread)))
    return s.Estimate(value=middle, low=min(low, middle), high=max(high, middle), n=n)


def distribution(metric: str, values: Sequence[float]) -> s.Distribution:
    known = [value for value in values if value is not None]
    return s.Distribution(
        metric=metric,
        unit=s.METRICS[metric][1],
        n=len(known),
        minimum=min(known) if known else None,
        maximum=max(known) if known else None,
        mean=float(np.mean(known)) if known else None,
        p50=estimate(known, 0.5, needs=6),
        p90=estimate(known, 0.9, needs=29),
        p95=estimate(known, 0.95, needs=59),
        p99=estimate(known, 0.99, needs=299),
    )


def cell(variant: Variant, experiment: str, start_type: str, rows: Sequence[dict[str, Any]]) -> s.Cell:
    samples = [row for row in rows if row["outcome"] == "ok" and not row["warmup"]]

    def values(metric: str) -> list[float]:
        if metric == "total_ms":
            return [(row["duration_ms"] or 0) + (row["init_ms"] or 0) for row in samples]
        return [row[metric] for row in samples]

    return s.Cell(
        variant=variant.key,
        model=variant.model,
        engine=variant.engine,
        architecture=variant.architecture,
        memory_mb=variant.memory_mb,
        experiment=experiment,
        start_type=start_type,
        n=len(samples),
        outcomes=dict(Counter(row["outcome"] for row in rows)),
        excluded={"warmup": sum(row["warmup"] for row in rows), "failed": len(rows) - len(samples)},
        weights=("random",),
        metrics={
            metric: distribution(metric, known)
            for metric in s.METRICS
            if (known := [value for value in values(metric) if value is not None])
        },
    )


def demo_configuration(*, models: Sequence[str] = (), memory_sizes_mb: Sequence[int] = ()) -> Configuration:
    configuration = read_configuration(profile="")
    change: dict[str, Any] = {}
    if models:
        change["models"] = tuple(models)
    if memory_sizes_mb:
        change["memory_sizes_mb"] = tuple(memory_sizes_mb)
    return configuration.model_copy(update={"matrix": configuration.matrix.model_copy(update=change)})


def make_summary(configuration: Configuration, rows: Sequence[dict[str, Any]], /, **change: Any) -> s.Summary:
    """A summary of these rows; `change` replaces whole fields of it."""
    variants = configuration.variants
    experiments = tuple(dict.fromkeys(row["experiment"] for row in rows))
    source = rows[0]["source"] if rows else "lab"
    cells = []
    for variant in variants:
        for experiment in experiments:
            for start_type in ("cold", "warm", "any") if experiment == "load" else ("cold", "warm"):
                mine = [
                    row
                    for row in rows
                    if (row["variant"], row["experiment"]) == (variant.key, experiment)
                    and start_type in ("any", row["start_type"])
                ]
                if mine:
                    cells.append(cell(variant, experiment, start_type, mine))
    by_key = {(one.variant, one.experiment, one.start_type): one for one in cells}
    costs, pareto, monthly = [], [], []
    for variant in variants:
        for start_type, experiment in (("cold", "cold"), ("warm", "warm")):
            one = by_key.get((variant.key, experiment, start_type))
            billed = one.metrics["billed_ms"].mean if one and "billed_ms" in one.metrics else None
            if billed is None:
                costs.append(
                    s.CostPerMillion(
                        variant=variant.key,
                        start_type=start_type,
                        usd=s.Estimate(value=None, n=0, reason="no ok sample"),
                        parts={},
                        billed_ms_mean=None,
                        gb_seconds=None,
                        without_gateway_usd=None,
                    )
                )
                continue
            gb_seconds = billed * variant.memory_mb / 1024 * 1000
            parts = {"compute": gb_seconds * 0.0000166667, "init": 0.0, "requests": 0.2, "gateway": 3.5, "logs": 0.4}
            total = sum(parts.values())
            costs.append(
                s.CostPerMillion(
                    variant=variant.key,
                    start_type=start_type,
                    usd=s.Estimate(value=total, low=total * 0.97, high=total * 1.04, n=one.n),
                    parts=parts,
                    billed_ms_mean=billed,
                    gb_seconds=gb_seconds,
                    without_gateway_usd=total - 3.5,
                )
            )
            if start_type == "warm":
                known = one.metrics.get("client_latency_ms") or one.metrics.get("duration_ms")
                latency = known.p50.value if known else 1.0
                pareto.append(
                    s.ParetoPoint(
                        variant=variant.key,
                        usd_per_million=total,
                        latency_ms=latency,
                        top1_accuracy=TOP1[variant.model],
                        on_front=False,
                    )
                )
                for strategy, factor in (("on_demand", 1.0), ("provisioned_concurrency", 2.4), ("warm_pings", 1.08)):
                    monthly.append(
                        s.MonthlyCost(
                            variant=variant.key,
                            strategy=strategy,
                            usd=total * factor,
                            parts={"compute": total * factor - 4.1, "requests": 0.2, "gateway": 3.5, "logs": 0.4},
                            requests=1_003_750.0,
                            expected_cold_share=0.012 if strategy == "on_demand" else 0.0,
                            environments=1.4,
                        )
                    )
    pareto = [
        point.model_copy(
            update={
                "on_front": not any(
                    other.usd_per_million < point.usd_per_million and other.latency_ms < point.latency_ms
                    for other in pareto
                )
            }
        )
        for point in pareto
    ]
    best = min(pareto, key=lambda point: point.usd_per_million, default=None)
    best_variant = next((variant for variant in variants if best and variant.key == best.variant), None)
    seconds, totals = [], []
    for variant in variants:
        load = [row for row in rows if row["variant"] == variant.key and row["experiment"] == "load"]
        if not load:
            continue
        start = min(row["intended_at"] for row in load)
        last = int(max(row["intended_at"] for row in load) - start)
        for second in range(last + 1):
            due = [row for row in load if int(row["intended_at"] - start) == second]
            answered = [row for row in load if row["answered_at"] and int(row["answered_at"] - start) == second]
            seconds.append(
                s.LoadSecond(
                    variant=variant.key,
                    second=second,
                    offered=len(due),
                    sent=sum(row["sent_at"] is not None for row in due),
                    answered=len(answered),
                    ok=sum(row["outcome"] == "ok" for row in answered),
                    dropped=sum(row["outcome"] == "dropped" for row in due),
                    late=0,
                    throttled=sum(row["outcome"] == "throttled" for row in due),
                    failed=0,
                    cold=sum(row["start_type"] == "cold" for row in due),
                )
            )
        sent = sum(row["sent_at"] is not None for row in load)
        totals.append(
            s.LoadTotals(
                variant=variant.key,
                protocol="linear",
                duration_s=last + 1,
                offered=len(load),
                sent=sent,
                answered=sent,
                ok=sum(row["outcome"] == "ok" for row in load),
                dropped=len(load) - sent,
                late=1,
                offered_rps=len(load) / (last + 1),
                achieved_rps=sent / (last + 1),
                send_lag_p99_ms=s.Estimate(value=None, n=len(load), reason="needs n >= 299"),
            )
        )
    fields: dict[str, Any] = {
        "run_id": "20261124T101500Z-0001",
        "title": "Lambda inference: resnet50, inceptionv3, mobilenet",
        "started_at": STARTED_AT,
        "finished_at": STARTED_AT + 7200,
        "stopped_because": "the plan was done",
        "commit": "0123456789abcdef",
        "profile": configuration.profile,
        "seed": configuration.experiments.seed,
        "versions": {"python": "3.11", "tensorflow": "2.21.0"},
        "configuration": configuration.model_dump(mode="json"),
        "experiments": experiments,
        "origin": s.Origin(
            source=source,
            badge="Measured in the lab on lab-host: not a cloud figure"
            if source == "lab"
            else "Measured on AWS Lambda, eu-central-1",
            region="eu-central-1",
            account_id="123456789012",
            host="lab-host" if source == "lab" else "",
            host_cpus=2.0 if source == "lab" else None,
            limits=LimitsInForce(driver="process", cpu="cgroup-v1", memory="cgroup-v1", freezer="cgroup-v1"),
            time_scale=13.0 if source == "lab" else 1.0,
            not_modelled=NOT_MODELLED if source == "lab" else (),
        ),
        "prices": s.PriceNote(
            as_of="2026-11-01",
            region="us-east-1",
            source="AWS price list",
            overrides={},
            values={"gb_second_usd": 0.0000166667, "requests_per_million_usd": 0.2},
        ),
        "variants": tuple(variant.key for variant in variants),
        "invocations": len(rows),
        "outcomes": dict(Counter(row["outcome"] for row in rows)),
        "excluded": {"warmup": sum(row["warmup"] for row in rows)},
        "cells": tuple(cells),
        "cold_ratios": (),
        "coverage": tuple(
            s.Coverage(
                variant=variant.key,
                experiment="all",
                sent=sum(row["variant"] == variant.key for row in rows),
                expected=sum(row["variant"] == variant.key for row in rows),
                found=sum(row["variant"] == variant.key for row in rows),
                share=1.0,
                missing=0,
            )
            for variant in variants
        ),
        "differences": (),
        "costs": tuple(costs),
        "monthly": tuple(monthly),
        "break_even": (
            s.BreakEven(
                variant=variants[0].key,
                cheaper_below="on_demand",
                cheaper_above="provisioned_concurrency",
                requests_per_month=18_400_000.0,
            ),
        ),
        "cost_curves": tuple(
            s.CostCurve(
                variant=month.variant,
                strategy=month.strategy,
                requests_per_day=(100.0, 10_000.0, 1_000_000.0),
                usd=(month.usd / 10, month.usd, month.usd * 90),
            )
            for month in monthly
            if month.usd is not None
        ),
        "traffic": configuration.traffic.model_dump(mode="json"),
        "recommendation": s.Recommendation(
            variant=best_variant.key if best_variant else None,
            strategy="on_demand" if best_variant else None,
            monthly_usd=best.usd_per_million if best else None,
            headline=f"Run {best_variant.display_name} on demand." if best_variant else "No variant meets the goal.",
            why=("It is the cheapest that answers in 1,000 ms at p99.", "It keeps a top-1 accuracy of 0.70."),
            how_sure="Best in 93 % of 2,000 bootstrap resamples.",
            measured_where="In the lab, on one host.",
            probability_best={best_variant.key: 0.93} if best_variant else {},
            tied=(variants[-1].key,),
            constraints=tuple(
                s.Constraint(
                    variant=variant.key,
                    name="p99_ms",
                    limit=1000.0,
                    found=s.Estimate(value=None, n=40, reason="needs n >= 299"),
                    verdict="undetermined",
                    text="p99 needs n >= 299",
                )
                for variant in variants
            ),
            goal={"p99_ms": 1000.0, "min_top1_accuracy": 0.7, "requests_per_month": 1e6, "max_cold_share": 0.05},
        ),
        "pareto": tuple(pareto),
        "knees": tuple(
            s.Knee(
                model=model,
                engine="tensorflow",
                architecture="x86_64",
                metric="client_latency_ms",
                memory_mb=1769,
                curve={1024: 90.0, 1769: 57.0},
                reason="each further step saves less than 5 %",
            )
            for model in configuration.matrix.models
        ),
        "claims": tuple(
            s.Claim(
                id=f"C{number}",
                statement="More memory, less API latency and less inference time, for every model.",
                rule="The medians fall from each memory size to the next, with intervals apart.",
                verdict=("supported", "refuted", "undetermined")[number % 3],
                numbers=(s.ClaimNumber(label="ratio", value=2.1, unit="", low=1.9, high=2.4, n=80),),
                n=80,
                why="Every interval lies apart.",
            )
            for number in range(1, 12)
        ),
        "table1": tuple(
            s.Table1Row(
                model=model,
                display_name=DISPLAY_NAMES[model],
                size_mb=98.2,
                parameters=25_600_000,
                multiply_adds=3_870_000_000,
                top1_accuracy=TOP1[model],
                top5_accuracy=TOP5[model],
                accuracy_source="Keras Applications documentation",
                weights=("random",),
                paper_size_mb=98.0,
                paper_top1_accuracy=TOP1[model],
                paper_top5_accuracy=TOP5[model],
                paper_multiply_adds=4e9,
            )
            for model in configuration.matrix.models
        ),
        "load_seconds": tuple(seconds),
        "load_totals": tuple(totals),
        "metric_checks": (),
        "warnings": (
            s.DataWarning(
                code="random_weights",
                severity="warning",
                message="The models ran with random weights: their answers mean nothing, their latency does.",
                advice="Quote the accuracy from its source, or build the images with imagenet weights.",
            ),
        ),
        "methods": (s.Method(title="Intervals", text="Exact binomial order-statistic intervals at 95 %."),),
    }
    return s.Summary(**(fields | change))


def make_run(**options: Any) -> tuple[Configuration, pl.DataFrame, s.Summary]:
    """Configuration, invocations and summary of a synthetic run; options of `demo_configuration` and `make_rows`."""
    shape = {key: options.pop(key) for key in ("models", "memory_sizes_mb") if key in options}
    change = options.pop("change", {})
    keep = options.pop("keep", lambda _row: True)
    forced = options.pop("forced", None)
    configuration = demo_configuration(**shape)
    rows = [row for row in make_rows(configuration, **options) if keep(row)]
    if forced is not None:
        rows = rows[:forced]
    return configuration, frame(rows), make_summary(configuration, rows, **change)
