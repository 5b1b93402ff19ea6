"""The one stack of the app, and its parts by life cycle as nested stacks.

The CDK command line acts without an argument only where an app has exactly one stack of its own: with it, plain
`cdk deploy`, `cdk diff` and `cdk destroy` act on everything. An engine has parts of its own for each architecture, so
that each stays within the limits of `stacks/limits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from core.configuration import Configuration
from core.variants import API_OUTPUTS, KEY_OUTPUT, part
from stacks.alerts import Alerts
from stacks.endpoints import Endpoints
from stacks.functions import Functions
from stacks.load_tasks import LoadTasks
from stacks.monitoring import Monitoring
from stacks.schedules import Schedules


class InferenceLab(cdk.Stack):
    """Everything that is deployed. Outputs per group of variants: `core.variants.API_OUTPUTS`."""

    def __init__(self, scope: Construct, id_: str, *, configuration: Configuration, tags: Mapping[str, str]) -> None:
        boundary = configuration.operations.permissions_boundary
        super().__init__(
            scope,
            id_,
            stack_name=configuration.names.stack,
            description="Image classification functions for cold, warm and load measurements",
            tags=tags,
            permissions_boundary=cdk.PermissionsBoundary.from_name(boundary) if boundary else None,
        )
        self._configuration = configuration
        schedule_group = scheduler.ScheduleGroup(
            self,
            "ScheduleGroup",
            schedule_group_name=configuration.names.schedule_group,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        endpoints = {group: self._build_group(group, schedule_group) for group in configuration.groups}
        if configuration.operations.dashboard:
            Monitoring(self, "Monitoring", configuration=configuration)
        if configuration.operations.notify_email:
            Alerts(self, "Alerts", configuration=configuration)
        if configuration.operations.load_tasks:
            tasks = LoadTasks(self, "LoadTasks", configuration=configuration, endpoints=endpoints)
            for name, value in tasks.outputs.items():
                cdk.CfnOutput(self, name, value=value)

    def _build_group(self, group: str, schedule_group: scheduler.ScheduleGroup) -> Endpoints:
        functions = Functions(self, part("Functions", group), configuration=self._configuration, group=group)
        endpoints = Endpoints(
            self,
            part("Endpoints", group),
            configuration=self._configuration,
            group=group,
            functions=functions.by_variant,
        )
        schedules = Schedules(
            self, part("Schedules", group), configuration=self._configuration, functions=functions.by_variant
        )
        # A schedule names its group by a text, which makes no edge in the template.
        schedules.node.add_dependency(schedule_group)
        values = (
            endpoints.api.rest_api_id,
            endpoints.api.url,
            str(self._configuration.gateway_rate_rps),
        )
        for role, value in zip(API_OUTPUTS, values, strict=True):
            cdk.CfnOutput(self, part(role, group), value=value)
        if endpoints.key is not None:
            cdk.CfnOutput(self, part(KEY_OUTPUT, group), value=endpoints.key.key_id)
        return endpoints
