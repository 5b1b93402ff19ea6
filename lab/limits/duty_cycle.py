"""Limits for every user: the launcher stops and continues processes by signal, and kills them for their memory.

It is the parent of all environments, has its own interpreter and nothing else to do between launches. What it
does for an environment is in `lab.limits.governor`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from lab.dataplane.rules import CFS_PERIOD_US
from lab.limits.mechanism import Group, Limits
from lab.limits.processes import cpu_clock

Tell = Callable[[Mapping[str, object]], None]


class DutyCycleGroup(Group):
    """The processes of one environment, stopped and continued by the launcher alone."""

    def __init__(self, *, memory_mb: int, vcpu: float) -> None:
        self.request: Mapping[str, object] = {
            "vcpu": vcpu,
            "memory_bytes": memory_mb << 20,
            "period_us": CFS_PERIOD_US,
        }
        self.tell: Tell | None = None  # set when the process runs

    def set_cpu(self, vcpu: float) -> None:
        self._tell({"kind": "set_cpu", "vcpu": vcpu})

    def freeze(self) -> None:
        self._tell({"kind": "freeze"})

    def thaw(self) -> None:
        self._tell({"kind": "thaw"})

    def _tell(self, message: Mapping[str, object]) -> None:
        if self.tell is not None:
            self.tell(message)


class DutyCycleLimits(Limits):
    """CPU shares and memory limits without any privilege."""

    cpu = "duty-cycle"
    memory = "duty-cycle"

    def __init__(self, reason: str = "") -> None:
        """`reason`: why no cgroup is used. Raises OSError where this system does not show what a process uses."""
        cpu_clock(os.getpid())
        self.notes = (f"No cgroup is used: {reason}",) if reason else ()

    def create(self, name: str, *, memory_mb: int, vcpu: float) -> DutyCycleGroup:
        del name
        return DutyCycleGroup(memory_mb=memory_mb, vcpu=vcpu)
