"""The CloudWatch dashboard.

Its body is written as AWS documents it: the construct library makes an object in another process for each metric, which
took most of the time of a large synthesis.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from core.configuration import Configuration
from core.money.prices import read_prices
from core.variants import DISPLAY_NAMES, Variant

PERIOD_S: Final = 60
FULL_WIDTH: Final = 24
HEIGHT: Final = 6
DURATION_STATISTICS: Final = ("p50", "p95", "p99")
COUNTED: Final = (("Errors", "Sum"), ("Throttles", "Sum"), ("ConcurrentExecutions", "Maximum"))
GATEWAY_LATENCIES: Final = ("Latency", "IntegrationLatency")
GATEWAY_COUNTS: Final = ("Count", "4XXError", "5XXError")
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
LOG_GROUPS_PER_QUERY: Final = 50

Row = list[dict[str, Any]]


class Monitoring(cdk.NestedStack):
    """Dashboards: durations, then cold starts and cost per model; errors, throttles, concurrency; the gateway."""

    def __init__(self, scope: Construct, id_: str, *, configuration: Configuration) -> None:
        super().__init__(scope, id_, description="Dashboard of the image classification functions")
        self._configuration = configuration
        self._prices = read_prices(configuration.prices)
        for number, (name, variants) in enumerate(configuration.dashboards.items()):
            body = {"start": "-PT3H", "widgets": list(_placed(self._rows(variants)))}
            cloudwatch.CfnDashboard(
                self,
                f"Dashboard{number or ''}",
                dashboard_name=name,
                dashboard_body=self.to_json_string(body),
            )

    def _rows(self, variants: Sequence[Variant]) -> Iterator[Row]:
        for model in dict.fromkeys(variant.model for variant in variants):
            of_model = [variant for variant in variants if variant.model == model]
            yield self._durations(model, of_model)
            for group in dict.fromkeys(variant.group for variant in of_model):
                of_group = [variant for variant in of_model if variant.group == group]
                for start in range(0, len(of_group), LOG_GROUPS_PER_QUERY):
                    yield [self._cold_and_cost(of_group[start : start + LOG_GROUPS_PER_QUERY])]
        yield [
            self._graph(
                f"{name} ({statistic.lower()} per minute)",
                [self._function_metric(name, statistic, variant) for variant in variants],
                width=FULL_WIDTH // len(COUNTED),
            )
            for name, statistic in COUNTED
        ]
        for group in dict.fromkeys(variant.group for variant in variants):
            yield self._gateway(group)

    def _durations(self, model: str, variants: Sequence[Variant]) -> Row:
        # CloudWatch's Duration leaves the init phase out: a cold start shows in the logs alone, as does what is billed.
        return [
            self._graph(
                f"{DISPLAY_NAMES.get(model, model)}: duration {statistic}, init not included",
                [self._function_metric("Duration", statistic, variant) for variant in variants],
                width=FULL_WIDTH // len(DURATION_STATISTICS),
                unit="ms",
            )
            for statistic in DURATION_STATISTICS
        ]

    def _cold_and_cost(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """Return a table of the logs of functions that differ in memory alone; a look at it scans these logs.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html
        """
        first, prices = variants[0], self._prices
        start_ms = f"record.metrics.{'restore' if first.start == 'snapstart' else 'init'}DurationMs"
        gb_second_usd = prices.gb_second_usd(first.architecture, provisioned=first.start == "provisioned")
        gb_seconds = "record.metrics.billedDurationMs * record.metrics.memorySizeMB / 1024000"
        columns = (
            f"count(*) as calls, count({start_ms}) as cold_starts, pct({start_ms}, 50) as start_p50_ms, "
            f"pct({start_ms}, 95) as start_p95_ms, pct(record.metrics.durationMs, 50) as duration_p50_ms, "
            f"sum({gb_seconds} * {gb_second_usd:.10f} + {prices.request_usd:.10f}) as usd"
        )
        query = [
            *(f"SOURCE '{self._configuration.names.log_group(variant)}'" for variant in variants),
            'filter type = "platform.report"',
            f"stats {columns} by @log",
            "sort @log",
        ]
        return {
            "type": "log",
            "width": FULL_WIDTH,
            "height": HEIGHT,
            "properties": {
                "view": "table",
                "title": f"{first.image.display_name}: cold starts; compute and requests in USD at prices of "
                f"{prices.region}, {prices.as_of}",
                "region": self.region,
                "query": " | ".join(query),
            },
        }

    def _gateway(self, group: str) -> Row:
        latencies = [
            self._gateway_metric(group, name, statistic)
            for name in GATEWAY_LATENCIES
            for statistic in DURATION_STATISTICS
        ]
        counts = [self._gateway_metric(group, name, "Sum") for name in GATEWAY_COUNTS]
        return [
            self._graph(
                f"Gateway, {group}: latency and integration latency", latencies, width=FULL_WIDTH // 2, unit="ms"
            ),
            self._graph(f"Gateway, {group}: requests, 4XX and 5XX per minute", counts, width=FULL_WIDTH // 2),
        ]

    def _graph(self, title: str, metrics: list[list[Any]], *, width: int, unit: str = "") -> dict[str, Any]:
        return {
            "type": "metric",
            "width": width,
            "height": HEIGHT,
            "properties": {
                "view": "timeSeries",
                "title": title,
                "region": self.region,
                "metrics": metrics,
                "yAxis": {"left": {"min": 0, "label": unit, "showUnits": False}},
            },
        }

    def _function_metric(self, name: str, statistic: str, variant: Variant) -> list[Any]:
        function = self._configuration.names.function(variant)
        options = {"stat": statistic, "period": PERIOD_S, "label": variant.display_name}
        return ["AWS/Lambda", name, "FunctionName", function, options]

    def _gateway_metric(self, group: str, name: str, statistic: str) -> list[Any]:
        api, stage = self._configuration.names.api(group), self._configuration.gateway.stage_name
        options = {"stat": statistic, "period": PERIOD_S, "label": f"{name} {statistic}"}
        return ["AWS/ApiGateway", name, "ApiName", api, "Stage", stage, options]


def _placed(rows: Iterator[Row]) -> Iterator[dict[str, Any]]:
    """Yield widgets with their places: from left to right in a row, row below row."""
    for number, row in enumerate(rows):
        x = 0
        for widget in row:
            yield {**widget, "x": x, "y": number * HEIGHT}
            x += widget["width"]
