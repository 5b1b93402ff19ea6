"""One schedule a variant for the cold experiment, off until an experiment enables it with a start and an end date.

A rate counts from the start date, so the experiment staggers variants by the start dates it sets.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from constructs import Construct

from core.configuration import Configuration
from core.variants import Variant
from stacks.functions import MAX_EVENT_AGE
from stacks.named import function_arn, named_function


class SchedulesStack(cdk.Stack):
    """The schedules, in a group of their own: destroying this stack ends every scheduled call."""

    def __init__(self, scope: Construct, id_: str, *, configuration: Configuration) -> None:
        super().__init__(scope, id_, description="Schedules of the cold start experiment, off until asked for")
        self._configuration = configuration
        group = scheduler.ScheduleGroup(
            self,
            "Group",
            schedule_group_name=configuration.names.schedule_group,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        role = self._build_role()
        for variant in configuration.variants:
            self._build_schedule(variant, group=group, role=role)

    def _build_role(self) -> iam.IRole:
        # One role and one policy for all schedules; the target's own default would be one of each a function.
        invoke = iam.PolicyStatement(
            actions=["lambda:InvokeFunction"],
            resources=[function_arn(self, self._configuration, variant) for variant in self._configuration.variants],
        )
        role = iam.Role(
            self,
            "SchedulerRole",
            # The condition keeps a scheduler of another account from using this role (confused deputy).
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            inline_policies={"InvokeFunctions": iam.PolicyDocument(statements=[invoke])},
        )
        # The target would add the same permission once more, with a second resource for versions of the function.
        return role.without_policy_updates()

    def _build_schedule(self, variant: Variant, *, group: scheduler.ScheduleGroup, role: iam.IRole) -> None:
        table = self._configuration.experiments.cold
        scheduler.Schedule(
            self,
            f"{variant.model.capitalize()}{variant.engine.capitalize()}{variant.memory_mb}Cold",
            schedule_name=self._configuration.names.schedule(variant),
            description=f"Cold start experiment, {variant.display_name}",
            schedule_group=group,
            schedule=scheduler.ScheduleExpression.rate(cdk.Duration.minutes(table.interval_minutes)),
            time_window=scheduler.TimeWindow.off(),
            enabled=False,
            target=targets.LambdaInvoke(
                named_function(self, self._configuration, variant),
                role=role,
                retry_attempts=0,
                max_event_age=MAX_EVENT_AGE,
                input=scheduler.ScheduleTargetInput.from_object({"trigger": "schedule"}),
            ),
        )
