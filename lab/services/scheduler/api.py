"""EventBridge Scheduler: moto's backend with AWS's answers where moto 5.2.5 fails."""

# moto has no types of its own to check a subclass against.
# mypy: allow-subclassing-any

from __future__ import annotations

from typing import Any

from moto.scheduler.exceptions import ScheduleGroupNotFound
from moto.scheduler.models import EventBridgeSchedulerBackend, Schedule, scheduler_backends

from lab.services.moto_backend import MotoUrls


class LabSchedulerBackend(MotoUrls, EventBridgeSchedulerBackend):
    """moto's backend; each method says what it mends."""

    def create_schedule(self, *args: Any, **kwargs: Any) -> Schedule:
        """An unknown group is ResourceNotFoundException; moto 5.2.5 raises KeyError, which is a 500."""
        group_name = kwargs.get("group_name") or "default"
        if group_name not in self.schedule_groups:
            raise ScheduleGroupNotFound(group_name)
        return super().create_schedule(*args, **kwargs)

    def update_schedule(self, *args: Any, **kwargs: Any) -> Schedule:
        """A state that is not given is ENABLED; moto 5.2.5 stores None.

        "UpdateSchedule uses all values, including empty values":
        https://docs.aws.amazon.com/scheduler/latest/APIReference/API_UpdateSchedule.html
        """
        kwargs["state"] = kwargs.get("state") or "ENABLED"
        return super().update_schedule(*args, **kwargs)

    def delete_schedule_group(self, name: str | None) -> None:
        """An unknown group is ResourceNotFoundException; moto 5.2.5 raises KeyError, which is a 500."""
        if (name or "default") not in self.schedule_groups:
            raise ScheduleGroupNotFound(name or "default")
        super().delete_schedule_group(name)


def install() -> None:
    """Put the backend into moto."""
    scheduler_backends.backend = LabSchedulerBackend
