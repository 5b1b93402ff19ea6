"""Reads EventBridge Scheduler schedules and EventBridge rules out of moto's backends, in this process."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from moto.events.models import events_backends
from moto.scheduler.models import scheduler_backends

from lab.contracts import ACCOUNT_ID
from lab.services.scheduler.definitions import ScheduleDefinition

_log: Final = logging.getLogger(__name__)


class ScheduleSource(Protocol):
    """The control plane's view of schedules. Cheap: asked four times a second."""

    def definitions(self) -> Iterable[ScheduleDefinition]: ...

    def delete(self, definition: ScheduleDefinition) -> None:
        """Remove a schedule that asked for it (ActionAfterCompletion DELETE)."""
        ...


class MotoSchedules:
    """The ScheduleSource over moto."""

    def __init__(self, account_id: str = ACCOUNT_ID, *, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._account_id = account_id
        self._rule_seen: dict[str, tuple[Any, object, float]] = {}  # a target's rule, content and when it was seen
        self._unreadable: set[tuple[str, object]] = set()  # by ARN and date of change

    def definitions(self) -> Iterator[ScheduleDefinition]:
        yield from self._schedules()
        yield from self._rules()

    def delete(self, definition: ScheduleDefinition) -> None:
        for backend in list(scheduler_backends[self._account_id].values()):
            for group in list(backend.schedule_groups.values()):
                for name, schedule in list(group.schedules.items()):
                    if schedule.arn == definition.arn:
                        group.schedules.pop(name, None)

    def _schedules(self) -> Iterator[ScheduleDefinition]:
        for region, backend in list(scheduler_backends[self._account_id].items()):
            for group in list(backend.schedule_groups.values()):
                for schedule in list(group.schedules.values()):
                    try:
                        yield self._schedule(region, schedule)
                    except (TypeError, ValueError) as error:
                        # moto stores what it is given; what is no schedule must not stop the others.
                        revision = (schedule.arn, schedule.last_modified_date)
                        if revision not in self._unreadable:
                            self._unreadable.add(revision)
                            _log.warning("schedule %s never fires: %s", schedule.arn, error)

    def _schedule(self, region: str, schedule: Any) -> ScheduleDefinition:
        target = schedule.target or {}
        retry = target.get("RetryPolicy") or {}
        window = schedule.flexible_time_window or {}
        flexible = window.get("Mode") == "FLEXIBLE"
        modified_s = float(schedule.last_modified_date)
        return ScheduleDefinition(
            key=schedule.arn,
            # moto changes an object in place; its date of change alone could repeat within a clock tick.
            revision=(
                modified_s,
                schedule.schedule_expression,
                schedule.schedule_expression_timezone,
                schedule.state,
                str(schedule.start_date),
                str(schedule.end_date),
                json.dumps(target, sort_keys=True, default=str),
                json.dumps(window, sort_keys=True, default=str),
            ),
            source="aws.scheduler",
            arn=schedule.arn,
            account_id=self._account_id,
            region=region,
            expression=schedule.schedule_expression or "",
            zone=schedule.schedule_expression_timezone or "UTC",
            enabled=(schedule.state or "ENABLED") == "ENABLED",
            modified_s=modified_s,
            start_s=epoch_s(schedule.start_date),
            end_s=epoch_s(schedule.end_date),
            flexible_window_s=60.0 * float(window.get("MaximumWindowInMinutes") or 0) if flexible else 0.0,
            target_arn=target.get("Arn", ""),
            input=target.get("Input"),
            maximum_retry_attempts=int(retry.get("MaximumRetryAttempts", 185)),
            maximum_event_age_s=float(retry.get("MaximumEventAgeInSeconds", 86_400)),
            delete_after_completion=schedule.action_after_completion == "DELETE",
        )

    def _rules(self) -> Iterator[ScheduleDefinition]:
        for region, backend in list(events_backends[self._account_id].items()):
            for bus in list(backend.event_buses.values()):
                for rule in list(bus.rules.values()):
                    if rule.scheduled_expression:
                        yield from self._rule(region, rule)

    def _rule(self, region: str, rule: Any) -> Iterator[ScheduleDefinition]:
        for target in list(rule.targets):
            key = f"{rule.arn}#{target.get('Id')}"
            content = (rule.scheduled_expression, rule.state, json.dumps(target, sort_keys=True, default=str))
            seen = self._rule_seen.get(key)
            # moto keeps no date of a rule's change, but makes a new object at each PutRule.
            if seen is None or seen[0] is not rule or seen[1] != content:
                seen = self._rule_seen[key] = (rule, content, self._now_s())
            retry = target.get("RetryPolicy") or {}
            yield ScheduleDefinition(
                key=key,
                revision=(seen[2], *content),
                source="aws.events",
                arn=rule.arn,
                account_id=self._account_id,
                region=region,
                expression=rule.scheduled_expression,
                zone="UTC",
                enabled=(rule.state or "ENABLED") == "ENABLED",
                modified_s=seen[2],
                start_s=None,
                end_s=None,
                flexible_window_s=0.0,
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
