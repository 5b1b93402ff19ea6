"""What a mechanism of limits does for one execution environment: a few file operations a call, quick and blocking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.records import LimitsInForce


class Group(Protocol):
    """The processes of one environment."""

    @property
    def join_files(self) -> Sequence[str]:
        """Files to which the first process writes "0" before it becomes the function."""
        ...

    @property
    def directories(self) -> Sequence[str]:
        """What to remove when the group is empty, should nobody be left to call `remove`."""
        ...

    def set_cpu(self, vcpu: float) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def pids(self) -> list[int]:
        """Processes of the group; [] where there is no group to ask."""
        ...

    def cpu_ms(self) -> float | None:
        """CPU time used since the start."""
        ...

    def out_of_memory_kills(self) -> int:
        """Processes that the kernel killed for the group's memory limit."""
        ...

    def kill(self) -> None:
        """Send SIGKILL to every process, frozen or not."""
        ...

    def remove(self) -> bool:
        """Take the group away; False while processes are still ending."""
        ...


class Limits(Protocol):
    """A mechanism that this host offers."""

    @property
    def cpu(self) -> str: ...

    @property
    def memory(self) -> str: ...

    @property
    def freezer(self) -> str: ...

    @property
    def roots(self) -> Sequence[str]:
        """Directories made for all groups, to be removed should nobody be left to call `close`."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What is not enforced and what to do about it, a sentence each."""
        ...

    def cpu_ms(self) -> float | None:
        """CPU time that the processes of all groups have used since the start; None where it is not accounted."""
        ...

    def create(self, name: str, *, memory_mb: int, vcpu: float) -> Group: ...

    def close(self) -> None:
        """Remove what was made for all groups."""
        ...


def in_force(driver: str, limits: Limits) -> LimitsInForce:
    return LimitsInForce(driver=driver, cpu=limits.cpu, memory=limits.memory, freezer=limits.freezer)
