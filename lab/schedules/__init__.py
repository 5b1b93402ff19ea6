"""EventBridge Scheduler's data plane: expressions, fire times, delivery to functions."""

from lab.schedules.moto_schedules import MotoSchedules
from lab.schedules.runner import ScheduleRunner

__all__ = ["MotoSchedules", "ScheduleRunner"]
