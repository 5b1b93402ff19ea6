"""EventBridge Scheduler and rules: moto's backends, which refuse what AWS refuses and what the lab does not model."""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import available_timezones

from moto.core.exceptions import ServiceException
from moto.events.exceptions import ValidationException as RuleValidationException
from moto.events.models import EventsBackend, Rule, events_backends
from moto.scheduler.exceptions import ScheduleGroupNotFound, ValidationException
from moto.scheduler.models import EventBridgeSchedulerBackend, Schedule, ScheduleGroup, scheduler_backends

from core import strict_json
from lab.services.moto_backend import MotoUrls
from lab.services.scheduler.expressions import ExpressionError, parse
from lab.services.scheduler.moto_schedules import epoch_s

_log: Final = logging.getLogger(__name__)
_START_GRACE_S: Final = 300.0
# https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html
_RETRY_BOUNDS: Final = {"MaximumRetryAttempts": range(186), "MaximumEventAgeInSeconds": range(60, 86_401)}


class ScheduleGroupExistsError(ServiceException):
    """What AWS answers where a group of this name is there already."""

    code = "ConflictException"

    def __init__(self, name: str) -> None:
        super().__init__(f"Schedule group {name} already exists.")


class LabSchedulerBackend(MotoUrls, EventBridgeSchedulerBackend):
    """moto's backend; each method says what it adds."""

    def create_schedule(self, *args: Any, **kwargs: Any) -> Schedule:
        """Refuse a schedule that AWS refuses, and an unknown group, for which moto 5.2.5 raises KeyError."""
        group_name = kwargs.get("group_name") or "default"
        if group_name not in self.schedule_groups:
            raise ScheduleGroupNotFound(group_name)
        check_schedule(kwargs)
        schedule = super().create_schedule(*args, **kwargs)
        _say_ignored(schedule)
        return schedule

    def update_schedule(self, *args: Any, **kwargs: Any) -> Schedule:
        """Refuse what AWS refuses; a state that is not given is ENABLED, for which moto 5.2.5 stores None.

        "UpdateSchedule uses all values, including empty values":
        https://docs.aws.amazon.com/scheduler/latest/APIReference/API_UpdateSchedule.html
        """
        check_schedule(kwargs)
        kwargs["state"] = kwargs.get("state") or "ENABLED"
        schedule = super().update_schedule(*args, **kwargs)
        _say_ignored(schedule)
        return schedule

    def create_schedule_group(self, name: str, tags: list[dict[str, str]]) -> ScheduleGroup:
        """Refuse a name that is taken: moto 5.2.5 replaces that group and its schedules with an empty group."""
        if name in self.schedule_groups:
            raise ScheduleGroupExistsError(name)
        return super().create_schedule_group(name, tags)

    def delete_schedule_group(self, name: str | None) -> None:
        """Delete the tags as well, which moto 5.2.5 keeps for a later group of this name.

        It deletes the default group too, which AWS does not:
        https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-group.html
        """
        if name in {None, "", "default"}:
            raise ValidationException("The default schedule group cannot be deleted.")
        if name not in self.schedule_groups:
            raise ScheduleGroupNotFound(name)
        self.tagger.delete_all_tags_for_resource(self.schedule_groups[name].arn)
        super().delete_schedule_group(name)


class LabEventsBackend(MotoUrls, EventsBackend):
    """moto's backend, which calls no function."""

    def put_rule(self, *args: Any, **kwargs: Any) -> Rule:
        """Refuse a rule that would call its targets by the clock: EventBridge Scheduler's schedules do."""
        if kwargs.get("scheduled_expression"):
            raise RuleValidationException("ScheduleExpression is not modeled by the lab; use EventBridge Scheduler.")
        return super().put_rule(*args, **kwargs)

    def put_targets(self, name: str, event_bus_arn: str | None, targets: list[dict[str, Any]]) -> None:
        """Say that a function is not called."""
        super().put_targets(name, event_bus_arn, targets)
        if any(map(_is_function, targets)):
            _log.warning("rule %s: EventPattern is not modeled; no event calls a function", name)


def check_schedule(schedule: Mapping[str, Any]) -> None:
    """Check what CreateSchedule and UpdateSchedule are given, by moto's names. Raises ValidationException."""
    expression = schedule.get("schedule_expression") or ""
    try:
        parse(expression, base_s=0.0)
        start_s, end_s = epoch_s(schedule.get("start_date")), epoch_s(schedule.get("end_date"))
    except ExpressionError as error:
        raise ValidationException(f"Invalid Schedule Expression {expression}. ({error})") from None
    except (TypeError, ValueError) as error:
        raise ValidationException(f"StartDate or EndDate is not a date: {error}") from None
    if (zone := schedule.get("schedule_expression_timezone") or "UTC") not in available_timezones():
        raise ValidationException(f"Invalid ScheduleExpressionTimezone {zone}.")
    if start_s is not None and start_s < time.time() - _START_GRACE_S:
        raise ValidationException("The StartDate you specify cannot be earlier than 5 minutes ago.")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise ValidationException("The EndDate you specify must be later than its StartDate.")
    if (window := schedule.get("flexible_time_window")) != {"Mode": "OFF"}:
        raise ValidationException(f"FlexibleTimeWindow is {window}; the lab models {{'Mode': 'OFF'}} alone.")
    if schedule.get("action_after_completion") == "DELETE":
        raise ValidationException("ActionAfterCompletion DELETE is not modeled by the lab.")
    target = schedule.get("target") or {}
    retry = target.get("RetryPolicy") or {}
    for name, allowed in _RETRY_BOUNDS.items():
        if name in retry and (type(retry[name]) is not int or retry[name] not in allowed):
            raise ValidationException(
                f"RetryPolicy.{name} is {retry[name]!r}; it can be {allowed[0]} to {allowed[-1]}."
            )
    # "If you are configuring a templated Lambda [...] target, the input must be a well-formed JSON. For all other
    # target types, a JSON is not required": https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Target.html
    problem = _input_problem(target) if _is_function(target) else ""
    if problem:
        raise ValidationException(f"Target.Input is not well-formed JSON: {problem}")


def _input_problem(target: Mapping[str, Any]) -> str:
    """Return the JSON error of a target's Input, or "" if it is valid or missing."""
    if target.get("Input") is None:
        return ""
    try:
        strict_json.loads(target["Input"])
    except (AttributeError, ValueError) as error:  # AttributeError: it is not text
        return str(error)
    return ""


def _say_ignored(schedule: Schedule) -> None:
    """Log what a schedule asks for and the lab does not do, though its events reach the function as they should."""
    if schedule.target.get("DeadLetterConfig") and _is_function(schedule.target):
        said = "schedule %s: DeadLetterConfig is not modeled; an event that no retry delivers is lost"
        _log.warning(said, schedule.name)


def _is_function(target: Mapping[str, Any]) -> bool:
    return ":lambda:" in str(target.get("Arn"))


def install() -> None:
    """Put the backends into moto."""
    scheduler_backends.backend = LabSchedulerBackend
    events_backends.backend = LabEventsBackend
