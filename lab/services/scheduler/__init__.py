"""EventBridge Scheduler's data plane: expressions, fire times, delivery to functions."""

from lab.services.scheduler.moto_schedules import MotoSchedules
from lab.services.scheduler.runner import ScheduleRunner

__all__ = ["MotoSchedules", "ScheduleRunner"]
