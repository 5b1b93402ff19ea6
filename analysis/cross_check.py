"""CloudWatch's statistics beside our own from the logs. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from analysis.estimates import Samples, clean, quantile
from analysis.summary import MetricCheck

TOLERANCE: Final = 0.05  # of a percentile: CloudWatch interpolates between bins of its own
FAILED_IN_LAMBDA: Final = ("out_of_memory", "init_timeout", "timeout", "error")


def check_metrics(rows: pl.DataFrame, answer: Mapping[str, Any] | None) -> list[MetricCheck]:
    """Compare each statistic that GetMetricData gave with the same of the rows that stand in the logs."""
    if answer is None:
        return []
    logged = rows.filter(pl.col("log_stream").is_not_null()).select("variant", "outcome", "duration_ms")
    by_variant = {str(key[0]): part for key, part in logged.partition_by("variant", as_dict=True).items()}
    checks = []
    for query in answer["queries"]:
        values = [float(value) for value in answer["values"].get(query["id"], ())]
        variant, metric, statistic = query["variant"], query["metric"], query["statistic"]
        if variant:
            part = by_variant.get(variant)
            if part is None and not values:
                continue
            own, ordered = _own(part if part is not None else logged.clear(), metric, statistic)
        else:
            own, ordered = _own_gateway(rows, metric, statistic), clean([])
        checks.append(_compare(variant, metric, statistic, values, own, ordered))
    return checks


def _own(part: pl.DataFrame, metric: str, statistic: str) -> tuple[float | None, Samples]:
    nothing = clean([])
    if metric == "Invocations":
        return float(part["duration_ms"].drop_nulls().len()), nothing
    if metric == "Errors":
        return float(part.filter(pl.col("outcome").is_in(FAILED_IN_LAMBDA)).height), nothing
    if metric == "Duration":
        ordered = clean(part["duration_ms"].to_numpy())
        if not len(ordered):
            return None, nothing
        if statistic == "Average":
            return float(ordered.mean()), nothing
        if statistic == "Maximum":
            return float(ordered[-1]), nothing
        return quantile(ordered, float(statistic[1:]) / 100), ordered
    return None, nothing


def _own_gateway(rows: pl.DataFrame, metric: str, statistic: str) -> float | None:
    api = rows.filter((pl.col("trigger") == "api") & pl.col("http_status").is_not_null())
    if metric == "Count":
        return float(api.height)
    if metric == "4XXError":
        return float(api.filter(pl.col("http_status").is_between(400, 499)).height)
    if metric == "5XXError":
        return float(api.filter(pl.col("http_status").is_between(500, 599)).height)
    if metric == "Latency" and api.height:
        return quantile(clean(api["client_latency_ms"].to_numpy()), float(statistic[1:]) / 100)
    return None


def _compare(
    variant: str, metric: str, statistic: str, values: list[float], own: float | None, ordered: Samples
) -> MetricCheck:
    reason = ""
    agrees: bool | None = None
    cloudwatch: float | None = None
    if not values:
        cloudwatch = 0.0 if statistic == "Sum" else None
        reason = "CloudWatch has no datapoint"
    elif statistic == "Sum":
        cloudwatch = sum(values)
    elif statistic == "Maximum":
        cloudwatch = max(values)
    elif len(values) == 1:
        cloudwatch = values[0]
    else:
        reason = "the window spans several periods, whose percentiles cannot be merged"
    if cloudwatch is not None and own is not None and not reason:
        if not variant and metric == "Latency":
            reason = "the client's latency includes the network"
        elif not variant:
            reason = "other callers of the API count too"
            agrees = cloudwatch >= own or None
        elif statistic == "Sum":
            agrees = cloudwatch == own
        else:
            agrees = abs(cloudwatch - own) <= max(TOLERANCE * abs(own), 1.0) or _between(cloudwatch, ordered, statistic)
    elif own is None and not reason:
        reason = "the logs do not tell"
    difference = None
    if cloudwatch is not None and own:
        difference = 100 * (cloudwatch - own) / own
    return MetricCheck(
        variant=variant,
        metric=metric,
        statistic=statistic,
        cloudwatch=cloudwatch,
        own=own,
        difference_percent=difference,
        agrees=agrees,
        reason=reason,
    )


def _between(value: float, ordered: Samples, statistic: str) -> bool:
    """Whether a percentile lies between the order statistics next to its rank: no definition gives more."""
    n = len(ordered)
    if not n or not statistic.startswith("p"):
        return False
    rank = float(statistic[1:]) / 100 * n
    low, high = max(0, math.floor(rank) - 2), min(n - 1, math.ceil(rank) + 1)
    return bool(ordered[low] <= value <= ordered[high])
