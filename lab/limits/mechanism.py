"""What a mechanism of limits does for one execution environment: a few file operations a call, quick and blocking.

Both classes are the mechanism that limits nothing, by process groups and signals; the others override what they do.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

from core.run.records import LimitsInForce
from lab.limits import files


class Group:
    """The processes of one environment: here those of the process group that the first of them leads."""

    join_files: Sequence[str] = ()  # which take the first process before it becomes the function
    directories: Sequence[str] = ()  # what to remove once the group is empty, should nobody be left to call `remove`
    leader: int | None = None  # set when the process runs

    def _signal(self, number: signal.Signals) -> None:
        if self.leader is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.leader, number)

    def set_cpu(self, vcpu: float) -> None:
        del vcpu  # nothing enforces it here, and every record says so

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def out_of_memory_kills(self) -> int:
        """Processes that the kernel killed for the group's memory limit."""
        return 0

    def kill(self) -> None:
        """Send SIGKILL to every process, frozen or not."""
        self._signal(signal.SIGKILL)

    def remove(self) -> bool:
        """Take the group away; False while processes are still ending."""
        gone = [files.remove_directory(directory) for directory in self.directories]  # each is tried
        return all(gone)


class Limits:
    """A mechanism that this host offers."""

    cpu = "none"
    memory = "none"
    freezer = "signal"
    roots: Sequence[str] = ()  # directories made for all groups, to remove should nobody be left to call `close`
    notes: Sequence[str] = ()  # what is not enforced and what to do about it, a sentence each

    def cpu_ms(self) -> float | None:
        """CPU time that the processes of all groups have used since the start; None where it is not accounted."""
        return None

    def create(self, name: str, *, memory_mb: int, vcpu: float) -> Group:
        del name, memory_mb, vcpu
        return Group()

    def close(self) -> None:
        """Remove what was made for all groups."""
        for root in self.roots:
            files.remove_directory(root)

    def in_force(self, driver: str) -> LimitsInForce:
        return LimitsInForce(driver=driver, cpu=self.cpu, memory=self.memory, freezer=self.freezer)


class NoLimits(Limits):
    """Nothing is enforced: macOS, or no right to any mechanism. `notes` says why and what to do."""

    def __init__(self, reason: str) -> None:
        note = (
            f"CPU share and memory limit are not enforced: {reason} "
            "Run the lab on Linux as root or in a delegated cgroup "
            "(`systemd-run --user --scope -p Delegate=yes inference-lab lab serve`), or with the container driver."
        )
        self.notes = (note,)
