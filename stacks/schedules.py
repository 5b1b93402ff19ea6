"""One schedule per variant for the cold experiment, off until an experiment enables it with a start and an end date.

A rate counts from the start date, so the experiment staggers variants by the start dates it sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from constructs import Construct

from core import strict_json
from core.configuration import Configuration
from core.variants import Variant
from stacks.functions import MAX_EVENT_AGE, construct_id

FUNCTIONS_PER_ROLE: Final = 75  # a role's inline policies may have 10,240 characters, an ARN has about 100


class Schedules(cdk.NestedStack):
    """The schedules of one engine's variants."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        configuration: Configuration,
        functions: Mapping[Variant, lambda_.IFunction],
    ) -> None:
        super().__init__(scope, id_, description="Schedules of the cold start experiment, off until enabled")
        self._configuration = configuration
        # By name: a reference would be a parameter of this stack, and the group's own name is known.
        self._group = scheduler.ScheduleGroup.from_schedule_group_name(
            self, "Group", configuration.names.schedule_group
        )
        everything = list(functions.items())
        for start in range(0, len(everything), FUNCTIONS_PER_ROLE):
            members = everything[start : start + FUNCTIONS_PER_ROLE]
            role = self._build_role(start // FUNCTIONS_PER_ROLE + 1, [function for _, function in members])
            for variant, function in members:
                self._build_schedule(variant, function=function, role=role)

    def _build_role(self, number: int, functions: Sequence[lambda_.IFunction]) -> iam.IRole:
        # One role for many schedules; the target's own default would be a role per function.
        invoke = iam.PolicyStatement(
            actions=["lambda:InvokeFunction"], resources=[function.function_arn for function in functions]
        )
        role = iam.Role(
            self,
            f"SchedulerRole{number}",
            # The condition keeps a scheduler of another account from using this role (confused deputy).
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            inline_policies={"InvokeFunctions": iam.PolicyDocument(statements=[invoke])},
        )
        # The target would add the same permission again, with a second resource for versions of the function.
        return role.without_policy_updates()

    def _build_schedule(self, variant: Variant, *, function: lambda_.IFunction, role: iam.IRole) -> None:
        table = self._configuration.experiments.cold
        scheduler.Schedule(
            self,
            f"{construct_id(variant)}Cold",
            schedule_name=self._configuration.names.schedule(variant),
            description=f"Cold start experiment, {variant.display_name}",
            schedule_group=self._group,
            schedule=scheduler.ScheduleExpression.rate(cdk.Duration.minutes(table.interval_minutes)),
            time_window=scheduler.TimeWindow.off(),
            enabled=False,
            target=targets.LambdaInvoke(
                function,
                role=role,
                retry_attempts=0,
                max_event_age=MAX_EVENT_AGE,
                input=scheduler.ScheduleTargetInput.from_object(
                    {"trigger": "schedule"} | strict_json.loads(self._configuration.function.event)
                ),
            ),
        )
