"""CPU share, memory limit and freezing of an execution environment's processes, by what this host offers."""

from lab.limits.probe import find_limits
from lab.limits.protocol import Group, Limits, in_force

__all__ = ["Group", "Limits", "find_limits", "in_force"]
