"""The CloudWatch dashboard."""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from core.configuration import Configuration
from core.variants import DISPLAY_NAMES, Variant

PERIOD: Final = cdk.Duration.minutes(1)
FULL_WIDTH: Final = 24
DURATION_STATISTICS: Final = ("p50", "p95", "p99")
GATEWAY_LATENCIES: Final = ("Latency", "IntegrationLatency")


class Monitoring(cdk.NestedStack):
    """One dashboard: a row of durations per model, then errors, throttles and concurrency, then the gateway."""

    def __init__(self, scope: Construct, id_: str, *, configuration: Configuration) -> None:
        super().__init__(scope, id_, description="Dashboard of the image classification functions")
        self._configuration = configuration
        dashboard = cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=configuration.names.dashboard,
            default_interval=cdk.Duration.hours(3),
        )
        for model in configuration.matrix.models:
            dashboard.add_widgets(*self._durations(model))
        dashboard.add_widgets(*self._health())
        for engine in configuration.matrix.engines:
            dashboard.add_widgets(*self._gateway(engine))

    def _durations(self, model: str) -> list[cloudwatch.IWidget]:
        variants = [variant for variant in self._configuration.variants if variant.model == model]
        # CloudWatch's Duration leaves the init phase out: a cold start shows in the logs alone.
        return [
            self._graph(
                f"{DISPLAY_NAMES.get(model, model)}: duration {statistic}, init not included",
                [self._function_metric("Duration", statistic, variant) for variant in variants],
                width=FULL_WIDTH // len(DURATION_STATISTICS),
                unit="ms",
            )
            for statistic in DURATION_STATISTICS
        ]

    def _health(self) -> list[cloudwatch.IWidget]:
        counted = (("Errors", "Sum"), ("Throttles", "Sum"), ("ConcurrentExecutions", "Maximum"))
        return [
            self._graph(
                f"{name} ({statistic.lower()} per minute)",
                [self._function_metric(name, statistic, variant) for variant in self._configuration.variants],
                width=FULL_WIDTH // len(counted),
                unit="",
            )
            for name, statistic in counted
        ]

    def _gateway(self, engine: str) -> list[cloudwatch.IWidget]:
        latencies = self._graph(
            f"Gateway, {engine}: latency and integration latency",
            [
                self._gateway_metric(engine, name, statistic)
                for name in GATEWAY_LATENCIES
                for statistic in DURATION_STATISTICS
            ],
            width=FULL_WIDTH // 2,
            unit="ms",
        )
        answers = self._graph(
            f"Gateway, {engine}: requests, 4XX and 5XX per minute",
            [self._gateway_metric(engine, name, "Sum") for name in ("Count", "4XXError", "5XXError")],
            width=FULL_WIDTH // 2,
            unit="",
        )
        return [latencies, answers]

    def _graph(self, title: str, metrics: list[cloudwatch.IMetric], *, width: int, unit: str) -> cloudwatch.GraphWidget:
        return cloudwatch.GraphWidget(
            title=title,
            left=metrics,
            width=width,
            left_y_axis=cloudwatch.YAxisProps(min=0, label=unit, show_units=False),
        )

    def _function_metric(self, name: str, statistic: str, variant: Variant) -> cloudwatch.IMetric:
        return cloudwatch.Metric(
            namespace="AWS/Lambda",
            metric_name=name,
            dimensions_map={"FunctionName": self._configuration.names.function(variant)},
            statistic=statistic,
            period=PERIOD,
            label=variant.display_name,
        )

    def _gateway_metric(self, engine: str, name: str, statistic: str) -> cloudwatch.IMetric:
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={
                "ApiName": self._configuration.names.api(engine),
                "Stage": self._configuration.gateway.stage_name,
            },
            statistic=statistic,
            period=PERIOD,
            label=f"{name} {statistic}",
        )
