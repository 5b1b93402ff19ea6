"""CloudWatch metrics: moto keeps alarms and dashboards and speaks the protocols, the lab's store answers for values."""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any

from __future__ import annotations

import base64
import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from moto.cloudwatch.exceptions import InvalidParameterValue, ValidationError
from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from lab.services.metrics.metric_store import MetricStore, SeriesKey
from lab.services.metrics.statistics import StatisticError, by_period, check_statistic
from lab.services.moto_backend import MotoUrls

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
MAX_QUERIES: Final = 500
MAX_POINTS_A_PAGE: Final = 100_800
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
MAX_DATA: Final = 1_000
MAX_DIMENSIONS: Final = 30
_SHORT_PERIODS_S: Final = frozenset({1, 5, 10, 20, 30})


class LabCloudWatchBackend(MotoUrls, CloudWatchBackend):
    """moto's backend over a MetricStore.

    moto 5.2.5 keeps every value in a list that it walks for every period, knows five statistics, and leaves the
    namespace out of the comparison where dimensions are given.
    """

    store: MetricStore  # set by install(): moto makes one backend per region; there is a single store

    def put_metric_data(self, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        """Check and keep values. Raises what AWS answers."""
        if len(metric_data) > MAX_DATA:
            raise InvalidParameterValue(f"The collection MetricData must not have a size greater than {MAX_DATA}.")
        for index, metric in enumerate(metric_data, start=1):
            self._validate_parameters_put_metric_data(metric, index)
            self._check_datum(metric, index)
        for metric in metric_data:
            dimensions = {d["Name"]: d["Value"] for d in metric.get("Dimensions") or ()}
            at = metric.get("Timestamp")
            timestamp_s = _seconds(at) if at is not None else dt.datetime.now(dt.UTC).timestamp()
            value = (metric["MetricName"], metric.get("Unit") or "None", float(metric.get("Value", 0)))
            self.store.put(namespace, dimensions, timestamp_s, [value])

    def list_metrics(self, *_: Any, **__: Any) -> Any:
        """Refused: moto has none of the values."""
        raise InvalidParameterValue("ListMetrics is not modeled by the lab; use GetMetricData")

    @staticmethod
    def _check_datum(metric: Mapping[str, Any], index: int) -> None:
        if metric.get("Values") or metric.get("StatisticValues"):
            raise InvalidParameterValue(
                f"MetricData.member.{index}: Values and StatisticValues are not modeled by the lab; put each Value."
            )
        if not math.isfinite(float(metric.get("Value", 0))):
            raise InvalidParameterValue(
                f"The value of the parameter MetricData.member.{index} must be a finite number."
            )
        if len(metric.get("Dimensions") or ()) > MAX_DIMENSIONS:
            raise InvalidParameterValue(
                f"The collection MetricData.member.{index}.Dimensions must not have more than {MAX_DIMENSIONS} members."
            )


def _get_metric_data(self: CloudWatchResponse) -> ActionResult:
    """`CloudWatchResponse.get_metric_data`: moto 5.2.5 has no percentiles, no pages, and empty results for math."""
    params = self._get_params()  # moto's own accessor
    start_s, end_s = _seconds(params["StartTime"]), _seconds(params["EndTime"])
    if start_s >= end_s:
        raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
    queries = params.get("MetricDataQueries", [])
    if len(queries) > MAX_QUERIES:
        raise ValidationError(f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}.")
    most = int(params.get("MaxDatapoints") or MAX_POINTS_A_PAGE)
    if not 1 <= most <= MAX_POINTS_A_PAGE:
        raise ValidationError(f"The parameter MaxDatapoints must be from 1 to {MAX_POINTS_A_PAGE}.")
    ids = [query.get("Id") for query in queries]
    if len(set(ids)) != len(ids) or not all(re.fullmatch(r"[a-z][a-zA-Z0-9_]*", i or "") for i in ids):
        raise ValidationError("Every query needs an Id of its own that starts with a lowercase letter.")
    descending = (params.get("ScanBy") or "TimestampDescending") == "TimestampDescending"
    store: MetricStore = self.cloudwatch_backend.store
    asked = [q for q in queries if str(q.get("ReturnData", True)).lower() != "false"]
    for query in queries:
        _check_query(query)
    skip, results, left = _offset(params.get("NextToken")), [], most
    position = 0
    more = None
    for query in asked:
        points = _query(store, query, start_s, end_s)
        if descending:
            points.reverse()
        first = max(0, skip - position)
        position += len(points)
        if first and first >= len(points):
            continue  # it was answered to its end by an earlier page
        page = points[first : first + left]
        left -= len(page)
        done = first + len(page) >= len(points)
        results.append(_result(query, page, complete=done))
        if not done:
            more = _token(position - len(points) + first + len(page))
            break
    return ActionResult({"MetricDataResults": results, "NextToken": more, "Messages": []})


def _get_metric_statistics(_self: CloudWatchResponse) -> ActionResult:
    """`CloudWatchResponse.get_metric_statistics`: refused, for moto 5.2.5 passes over ExtendedStatistics."""
    raise InvalidParameterValue("GetMetricStatistics is not modeled by the lab; use GetMetricData")


def _check_query(query: Mapping[str, Any]) -> None:
    if query.get("Expression") is not None:
        raise ValidationError(
            f"Error in expression '{query.get('Id')}': metric math is not modeled by the lab; ask for each metric"
        )
    if "MetricStat" not in query:
        raise ValidationError(f"The parameter MetricDataQueries.{query.get('Id')}.MetricStat is required.")
    period_s, statistic = int(query["MetricStat"]["Period"]), query["MetricStat"]["Stat"]
    if period_s not in _SHORT_PERIODS_S and (period_s < 60 or period_s % 60):
        raise ValidationError(f"The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60; it is {period_s}.")
    try:
        check_statistic(statistic)
    except StatisticError as error:
        raise ValidationError(f"The value {statistic} for parameter Stat is not supported: {error.message}") from None


def _query(store: MetricStore, query: Mapping[str, Any], start_s: float, end_s: float) -> list[tuple[float, float]]:
    stat = query["MetricStat"]
    metric, period_s = stat["Metric"], int(stat["Period"])
    start_s = _rounded_down(start_s, period_s)
    dimensions = sorted((one["Name"], one["Value"]) for one in metric.get("Dimensions") or ())
    key = SeriesKey(metric["Namespace"], metric["MetricName"], tuple(dimensions))
    samples = store.samples(key, start_s, end_s, stat.get("Unit"))
    return by_period(samples, statistic=stat["Stat"], start_s=start_s, period_s=period_s)


def _result(query: Mapping[str, Any], points: Sequence[tuple[float, float]], *, complete: bool) -> dict[str, Any]:
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or query["MetricStat"]["Metric"]["MetricName"],
        "Timestamps": [_datetime(at) for at, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete" if complete else "PartialData",
    }


def _rounded_down(start_s: float, period_s: int) -> float:
    """A start within a minute counts from its beginning, as CloudWatch rounds it."""
    grain = min(period_s, 60)
    return math.floor(start_s / grain) * grain


def _seconds(at: Any) -> float:
    if isinstance(at, dt.datetime):
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()
    if isinstance(at, int | float):
        return float(at)
    return _seconds(dt.datetime.fromisoformat(str(at)))


def _datetime(at: float) -> dt.datetime:
    # moto's serializers take a time without a zone for UTC.
    return dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=None)


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"offset/{offset}".encode()).decode()


def _offset(token: str | None) -> int:
    if not token:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition("/")
        if word == "offset":
            return int(number)
    except ValueError:
        pass
    raise InvalidParameterValue("Request parameter NextToken is invalid")


def install(store: MetricStore) -> None:
    """Put the backend and the two answers into moto."""
    LabCloudWatchBackend.store = store
    cloudwatch_backends.backend = LabCloudWatchBackend
    CloudWatchResponse.get_metric_data = _get_metric_data
    CloudWatchResponse.get_metric_statistics = _get_metric_statistics
