"""The seam to CloudWatch: log events and metrics. Requests are built by pure functions and sent by one class.

CloudWatch Logs is eventually consistent: an event may be found minutes after it was written, so what is fetched here
may lack some, and the caller compares it with what was sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.ingest.run_files import Cursor, RawGroup
from core.aws.cloud import Cloud, cloud_errors
from core.configuration import Configuration
from core.errors import CloudError

PAGE_SIZE: Final = 10_000  # the most that filter_log_events gives
MAX_QUERIES: Final = 500  # a GetMetricData call takes no more
METRICS_COMPLETE_S: Final = 900  # after a window's end; assumed: AWS documents minutes, and no bound
DAY_S: Final = 86_400
_KEPT: Final = ("logStreamName", "timestamp", "ingestionTime", "message", "eventId")

FUNCTION_METRICS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("Invocations", ("Sum",)),
    ("Errors", ("Sum",)),
    ("Throttles", ("Sum",)),
    ("Duration", ("Average", "Maximum", "p50", "p95", "p99")),
    ("ConcurrentExecutions", ("Maximum",)),
)
GATEWAY_METRICS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("Count", ("Sum",)),
    ("4XXError", ("Sum",)),
    ("5XXError", ("Sum",)),
    ("Latency", ("p50", "p95", "p99")),
    ("IntegrationLatency", ("p50", "p95", "p99")),
)


@dataclass(frozen=True)
class MetricQuery:
    """One statistic of one metric; `variant` is "" for the gateway."""

    id: str
    variant: str
    namespace: str
    metric: str
    statistic: str
    dimensions: Mapping[str, str]

    def request(self, period_s: int) -> dict[str, Any]:
        return {
            "Id": self.id,
            "MetricStat": {
                "Metric": {
                    "Namespace": self.namespace,
                    "MetricName": self.metric,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in self.dimensions.items()],
                },
                "Period": period_s,
                "Stat": self.statistic,
            },
            "ReturnData": True,
        }


def metric_queries(configuration: Configuration) -> list[MetricQuery]:
    """Every statistic that the cross-check looks at."""
    names, queries = configuration.names, []
    for variant in configuration.variants:
        for metric, statistics in FUNCTION_METRICS:
            queries += [
                (variant.key, "AWS/Lambda", metric, statistic, {"FunctionName": names.function(variant)})
                for statistic in statistics
            ]
    for group in configuration.groups:
        gateway = {"ApiName": names.api(group), "Stage": configuration.gateway.stage_name}
        for metric, statistics in GATEWAY_METRICS:
            queries += [("", "AWS/ApiGateway", metric, statistic, gateway) for statistic in statistics]
    return [MetricQuery(f"m{number}", *query) for number, query in enumerate(queries)]


def metrics_may_have_grown(answer: Mapping[str, Any], end_s: float) -> bool:
    """Return whether metrics of a window that ended at `end_s` were fetched before all of them were sure to exist."""
    fetched_at_s = answer.get("fetched_at_s")
    return fetched_at_s is not None and fetched_at_s < end_s + METRICS_COMPLETE_S


def metric_window(start_s: float, end_s: float, now_s: float) -> tuple[int, int, int]:
    """Start, end and period in whole seconds, so that one period covers the window if it can.

    A period is a multiple of 60 s, of 300 s once the data are 15 days old, of 3600 s after 63 days, and at most a day.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
    """
    age_days = (now_s - start_s) / DAY_S
    grain = 60 if age_days < 15 else 300 if age_days < 63 else 3600
    start = math.floor(start_s / grain) * grain
    end = math.ceil(end_s / grain) * grain
    period = min(DAY_S, max(grain, math.ceil((end - start) / grain) * grain))
    return start, end, period


def filter_request(log_group: str, start_ms: int, end_ms: int, next_token: str | None) -> dict[str, Any]:
    """A page of every event of a log group in a window."""
    request: dict[str, Any] = {
        "logGroupName": log_group,
        "startTime": start_ms,
        "endTime": end_ms,
        "limit": PAGE_SIZE,
    }
    if next_token is not None:
        request["nextToken"] = next_token
    return request


_IMAGE_URI: Final = re.compile(r"[^/]+/(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]+))?")


def image_sizes(cloud: Cloud, configuration: Configuration) -> dict[str, int]:
    """Bytes that each image takes in ECR by its key, compressed as it is stored and billed.

    Those whose image cannot be looked up are left out: storage is the smallest part of a bill, and no reason to fail.
    """
    functions, registry, found = cloud.client("lambda"), cloud.client("ecr"), {}
    for variant in configuration.variants:
        if variant.image.key in found:
            continue
        try:
            with cloud_errors():
                uri = functions.get_function(FunctionName=configuration.names.function(variant))["Code"]["ImageUri"]
                image = _IMAGE_URI.fullmatch(uri)
                if image is None:
                    continue
                wanted = {"imageDigest": image["digest"]} if image["digest"] else {"imageTag": image["tag"] or "latest"}
                answer = registry.describe_images(repositoryName=image["repository"], imageIds=[wanted])
                found[variant.image.key] = int(answer["imageDetails"][0]["imageSizeInBytes"])
        except (CloudError, KeyError, IndexError):
            continue
    return found


class CloudWatch:
    """CloudWatch Logs and metrics of one account and region, or of a lab."""

    def __init__(self, cloud: Cloud) -> None:
        self._logs = cloud.client("logs")
        self._metrics = cloud.client("cloudwatch")

    def group_exists(self, log_group: str) -> bool:
        with cloud_errors():
            pages = self._logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=log_group)
            return any(group["logGroupName"] == log_group for page in pages for group in page["logGroups"])

    def has_events(self, log_group: str, start_ms: int, end_ms: int) -> bool:
        """Whether the group holds an event of this window."""
        token: str | None = None
        while True:
            with cloud_errors():
                answer = self._logs.filter_log_events(
                    **filter_request(log_group, start_ms, end_ms, token) | {"limit": 1}
                )
            if answer.get("events"):
                return True
            token = answer.get("nextToken")
            if token is None:
                return False

    def read_group(self, group: RawGroup, wanted: Cursor) -> Iterator[int]:
        """Read the window of a log group page by page onto disk; yields the number of events so far.

        Goes on where an earlier reading of the same window ended. Raises CloudError.
        """
        cursor = group.cursor
        if cursor is None or (cursor.log_group, cursor.start_ms, cursor.end_ms) != (
            wanted.log_group,
            wanted.start_ms,
            wanted.end_ms,
        ):
            group.restart(wanted)
            cursor = wanted
        events = 0
        while not cursor.done:
            try:
                answer = self._page(cursor)
            except CloudError as error:
                # A token is valid for a day; after that, the window is read from its start.
                if cursor.next_token is None or "InvalidParameter" not in error.message:
                    raise
                group.restart(wanted)
                cursor, events = wanted, 0
                continue
            page = [{key: event[key] for key in _KEPT if key in event} for event in answer.get("events", ())]
            cursor = group.add_page(cursor, page, answer.get("nextToken"))
            events += len(page)
            yield events

    def _page(self, cursor: Cursor) -> dict[str, Any]:
        request = filter_request(cursor.log_group, cursor.start_ms, cursor.end_ms, cursor.next_token)
        with cloud_errors():
            answer: dict[str, Any] = self._logs.filter_log_events(**request)
        return answer

    def metrics(self, queries: Sequence[MetricQuery], start_s: int, end_s: int, period_s: int) -> dict[str, Any]:
        """Datapoints of each query: `{"start_s", "end_s", "period_s", "queries", "values": {id: [...]}}`."""
        values: dict[str, list[float]] = {query.id: [] for query in queries}
        for first in range(0, len(queries), MAX_QUERIES):
            batch = [query.request(period_s) for query in queries[first : first + MAX_QUERIES]]
            token: str | None = None
            while True:
                more = {"NextToken": token} if token else {}
                with cloud_errors():
                    answer = self._metrics.get_metric_data(
                        MetricDataQueries=batch, StartTime=start_s, EndTime=end_s, **more
                    )
                for result in answer["MetricDataResults"]:
                    values[result["Id"]] += [float(value) for value in result["Values"]]
                token = answer.get("NextToken")
                if not token:
                    break
        return {
            "start_s": start_s,
            "end_s": end_s,
            "period_s": period_s,
            "queries": [
                {"id": query.id, "variant": query.variant, "metric": query.metric, "statistic": query.statistic}
                for query in queries
            ],
            "values": values,
        }

    def invocations_per_minute(self, function: str, now_s: float, *, days: int) -> npt.NDArray[np.int64]:
        """Return a live function's invocations per minute up to now. Raises CloudError if there are none."""
        end_s = int(now_s) // 60 * 60
        start_s = end_s - days * DAY_S
        query = MetricQuery("i", "", "AWS/Lambda", "Invocations", "Sum", {"FunctionName": function})
        counts = np.zeros(days * DAY_S // 60, dtype=np.int64)
        token: str | None = None
        while True:
            more = {"NextToken": token} if token else {}
            with cloud_errors():
                answer = self._metrics.get_metric_data(
                    MetricDataQueries=[query.request(60)], StartTime=start_s, EndTime=end_s, **more
                )
            for result in answer["MetricDataResults"]:
                for moment, value in zip(result["Timestamps"], result["Values"], strict=True):
                    place = int(moment.timestamp() - start_s) // 60
                    if 0 <= place < len(counts):
                        counts[place] += int(value)
            token = answer.get("NextToken")
            if not token:
                break
        if not counts.any():
            raise CloudError(
                f"CloudWatch has no invocation of {function} in the last {days} days",
                hint="Check the function's name and the region.",
            )
        return counts
