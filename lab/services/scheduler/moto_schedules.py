"""Reads EventBridge Scheduler's schedules out of moto's backend, in this process."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

from moto.scheduler.models import scheduler_backends

from lab.contracts import ACCOUNT_ID
from lab.services.scheduler.definitions import ScheduleDefinition


class MotoSchedules:
    """The control plane's view of schedules: moto's, where each has been checked. Cheap: asked four times a second."""

    def definitions(self) -> Iterator[ScheduleDefinition]:
        for region, backend in list(scheduler_backends[ACCOUNT_ID].items()):
            for group in list(backend.schedule_groups.values()):
                for schedule in list(group.schedules.values()):
                    yield self._schedule(region, schedule)

    def _schedule(self, region: str, schedule: Any) -> ScheduleDefinition:
        target = schedule.target or {}
        retry = target.get("RetryPolicy") or {}
        modified_s = float(schedule.last_modified_date)
        return ScheduleDefinition(
            arn=schedule.arn,
            # moto changes an object in place; its date of change alone could repeat within a clock tick.
            revision=(
                modified_s,
                schedule.schedule_expression,
                schedule.state,
                str(schedule.start_date),
                str(schedule.end_date),
                json.dumps(target, sort_keys=True, default=str),
            ),
            region=region,
            expression=schedule.schedule_expression or "",
            enabled=(schedule.state or "ENABLED") == "ENABLED",
            modified_s=modified_s,
            start_s=epoch_s(schedule.start_date),
            end_s=epoch_s(schedule.end_date),
            target_arn=target.get("Arn", ""),
            input=target.get("Input"),
            maximum_retry_attempts=int(retry.get("MaximumRetryAttempts", 185)),
            maximum_event_age_s=float(retry.get("MaximumEventAgeInSeconds", 86_400)),
        )


def epoch_s(value: Any) -> float | None:
    """A date as the API sends it (seconds since the epoch) or as CloudFormation does (ISO 8601).

    Raises ValueError or TypeError for what is not a date of the calendar, such as NaN and the year 10000.
    """
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    try:
        dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OSError, OverflowError, ValueError):
        raise ValueError(f"{seconds:g} seconds since 1970 are outside the calendar") from None
    return seconds
