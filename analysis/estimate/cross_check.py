"""CloudWatch's statistics next to our own from the logs. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from analysis.estimate.estimates import Samples, clean, quantile
from analysis.summary import MetricCheck

TOLERANCE: Final = 0.05  # of a percentile: CloudWatch interpolates between its own bins
FAILED_IN_LAMBDA: Final = ("out_of_memory", "init_timeout", "timeout", "error")

# Duration ends when the runtime asks for the next event, after the gateway has its answer: 1.3 ms later in a lab on a
# loaded machine.
_AFTER_THE_ANSWER_MS: Final = 2.0
_BOUNDS: Final = ("Throttles", "IntegrationLatency")
_UNTOLD: Final = {
    "ConcurrentExecutions": "the logs do not tell: they hold when lines were written, not when an "
    "environment was taken and freed",
    "Throttles": "no client recorded what was throttled",
    "IntegrationLatency": "not every call through the gateway is in the logs, so its percentiles have no counterpart",
}


def check_metrics(rows: pl.DataFrame, answer: Mapping[str, Any] | None) -> list[MetricCheck]:
    """Compare each statistic that GetMetricData gave with the same statistic of the rows in the logs."""
    if answer is None:
        return []
    logged = (
        rows.lazy().filter(pl.col("log_stream").is_not_null()).select("variant", "outcome", "duration_ms").collect()
    )
    by_variant = {str(key[0]): part for key, part in logged.partition_by("variant", as_dict=True).items()}
    counted = sum(
        float(value)
        for query in answer["queries"]
        if not query["variant"] and query["metric"] == "Count"
        for value in answer["values"].get(query["id"], ())
    )
    alone = counted == _own_gateway(rows, "Count", "Sum")
    checks = []
    for query in answer["queries"]:
        values = [float(value) for value in answer["values"].get(query["id"], ())]
        variant, metric, statistic = query["variant"], query["metric"], query["statistic"]
        if variant:
            part = by_variant.get(variant)
            if part is None and not values:
                continue
            part = logged.clear() if part is None else part
            ordered = clean(part["duration_ms"].to_numpy())
            own = _own_throttles(rows, variant) if metric == "Throttles" else _own(part, ordered, metric, statistic)
        else:
            own, ordered = _own_gateway(rows, metric, statistic), clean([])
        check = _compare(variant, metric, statistic, values, own, ordered)
        checks.append(_settle_bounds(check, rows, alone=alone))
    return checks


def _own(part: pl.DataFrame, durations: Samples, metric: str, statistic: str) -> float | None:
    if metric == "Invocations":
        return float(part["duration_ms"].drop_nulls().len())
    if metric == "Errors":
        return float(part.filter(pl.col("outcome").is_in(FAILED_IN_LAMBDA)).height)
    if metric != "Duration" or not len(durations):
        return None
    if statistic == "Average":
        return float(durations.mean())
    return float(durations[-1]) if statistic == "Maximum" else quantile(durations, float(statistic[1:]) / 100)


def _own_throttles(rows: pl.DataFrame, variant: str) -> float | None:
    """Throttled calls as their clients saw them; None where no client recorded.

    An asynchronous call, as a schedule makes it, is throttled and retried without any client noticing.
    """
    sent = rows.filter((pl.col("variant") == variant) & pl.col("call_id").is_not_null())
    return float((sent["outcome"] == "throttled").sum()) if sent.height else None


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
    if metric == "IntegrationLatency":
        # The gateway waits for the whole invocation, init included: what the logs hold of the same calls is the least
        # it can have waited.
        times = clean(api.filter(pl.col("log_stream").is_not_null())["duration_ms"].to_numpy())
        # A call that never reached a function counts at the gateway and pulls its percentiles down.
        if len(times) and len(times) == api.height:
            return quantile(times, float(statistic[1:]) / 100)
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
        if metric in _BOUNDS:
            pass  # _settle_bounds decides
        elif not variant and metric == "Latency":
            reason = "the client's latency includes the network"
        elif not variant:
            reason = "other callers of the API count too"
            agrees = cloudwatch >= own or None
        elif statistic == "Sum":
            agrees = cloudwatch == own
        else:
            agrees = abs(cloudwatch - own) <= max(TOLERANCE * abs(own), 1.0) or _between(cloudwatch, ordered, statistic)
    elif own is None and not reason:
        reason = _UNTOLD.get(metric, "the logs do not tell")
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


def _settle_bounds(check: MetricCheck, rows: pl.DataFrame, *, alone: bool) -> MetricCheck:
    """The verdict on what our own data bound and do not equal. `alone`: the gateway counted our calls and no others."""
    cloudwatch, own = check.cloudwatch, check.own
    if check.metric not in _BOUNDS or check.reason or cloudwatch is None or own is None:
        return check
    agrees: bool | None
    if check.metric == "Throttles":
        throttled = rows.filter((pl.col("variant") == check.variant) & (pl.col("outcome") == "throttled"))
        agrees, reason = cloudwatch == own or None, ""
        if cloudwatch > own:
            reason = "retries of asynchronous calls and other callers count too"
        elif cloudwatch < own and (throttled["trigger"] == "api").any():
            reason = "among ours may be calls that the gateway itself throttled"
        elif cloudwatch < own:
            agrees = False
    else:
        agrees = True if cloudwatch >= own - max(TOLERANCE * own, _AFTER_THE_ANSWER_MS) else False if alone else None
        reason = "ours is the function's own duration, about the least that the gateway waited"
        if agrees is None:
            reason += "; other callers of the API count too"
    return check.model_copy(update={"agrees": agrees, "reason": reason})


def _between(value: float, ordered: Samples, statistic: str) -> bool:
    """Whether a percentile is between the order statistics next to its rank, as in every definition."""
    n = len(ordered)
    if not n or not statistic.startswith("p"):
        return False
    rank = float(statistic[1:]) / 100 * n
    low, high = max(0, math.floor(rank) - 2), min(n - 1, math.ceil(rank) + 1)
    return bool(ordered[low] <= value <= ordered[high])
