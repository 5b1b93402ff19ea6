"""The seam to EventBridge Scheduler: the schedules of the cold experiment, on and off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from core.aws.cloud import Cloud, cloud_errors
from core.configuration import Configuration
from core.errors import CloudError, DeploymentError
from core.variants import Variant

# UpdateSchedule replaces the whole schedule: what is not sent again falls back to its default.
# https://docs.aws.amazon.com/scheduler/latest/APIReference/API_UpdateSchedule.html
KEPT_FIELDS: Final = (
    "ActionAfterCompletion",
    "Description",
    "FlexibleTimeWindow",
    "GroupName",
    "KmsKeyArn",
    "Name",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "Target",
)


@dataclass(frozen=True)
class ScheduleState:
    """A schedule as it stands; times are seconds since the epoch."""

    name: str
    enabled: bool
    expression: str
    start_at: float | None
    end_at: float | None

    def is_live(self, now: float) -> bool:
        """Whether it is going to call its function again."""
        return self.enabled and (self.end_at is None or self.end_at > now)


class Scheduler:
    """The schedules of one configuration."""

    def __init__(self, cloud: Cloud, configuration: Configuration) -> None:
        self._configuration = configuration
        self._client = cloud.client("scheduler")

    def state(self, variant: Variant) -> ScheduleState:
        """Raises DeploymentError where the schedule is not deployed."""
        return _state(self._get(variant))

    def enable(self, variant: Variant, *, start_at: float, end_at: float) -> None:
        """Switch a schedule on between two moments; nothing else about it changes."""
        self._update(variant, State="ENABLED", StartDate=_date(start_at), EndDate=_date(end_at))

    def disable(self, variant: Variant) -> None:
        """Switch a schedule off and take its dates away, which puts it back as it was deployed.

        Sending the dates again would be refused: a start date may be at most five minutes in the past.
        """
        self._update(variant, State="DISABLED")

    def disable_all(self, variants: Iterable[Variant]) -> list[str]:
        """Switch all off, whatever fails on the way; returns one sentence for each that stayed on."""
        problems = []
        for variant in variants:
            try:
                self.disable(variant)
            except (CloudError, DeploymentError) as error:
                problems.append(f"{self._configuration.names.schedule(variant)}: {error.message}")
        return problems

    def live(self, now: float) -> list[ScheduleState]:
        """Schedules of our group that are going to call a function again; none where the group does not exist."""
        group = self._configuration.names.schedule_group
        found = []
        with cloud_errors():
            try:
                pages = self._client.get_paginator("list_schedules").paginate(GroupName=group, State="ENABLED")
                names = [item["Name"] for page in pages for item in page["Schedules"]]
                for name in names:
                    state = _state(self._client.get_schedule(GroupName=group, Name=name))
                    if state.is_live(now):
                        found.append(state)
            except self._client.exceptions.ResourceNotFoundException:
                return found
        return found

    def _get(self, variant: Variant) -> dict[str, Any]:
        names = self._configuration.names
        with cloud_errors():
            try:
                found: dict[str, Any] = self._client.get_schedule(
                    GroupName=names.schedule_group, Name=names.schedule(variant)
                )
            except self._client.exceptions.ResourceNotFoundException:
                raise DeploymentError(
                    f"schedule {names.schedule(variant)} is not deployed", hint="Deploy it with `cdk deploy`."
                ) from None
        return found

    def _update(self, variant: Variant, **changes: Any) -> None:
        found = self._get(variant)
        kept = {name: found[name] for name in KEPT_FIELDS if found.get(name) is not None}
        with cloud_errors():
            self._client.update_schedule(**kept | changes)


def _state(found: dict[str, Any]) -> ScheduleState:
    return ScheduleState(
        name=found["Name"],
        enabled=found.get("State") == "ENABLED",
        expression=found.get("ScheduleExpression", ""),
        start_at=_seconds(found.get("StartDate")),
        end_at=_seconds(found.get("EndDate")),
    )


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _date(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, tz=UTC)
