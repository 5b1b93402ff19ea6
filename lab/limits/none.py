"""No limits: macOS, or no right to any. Environments are still stopped between calls, by signal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence


class ProcessGroup:
    """The processes of one environment by their process group, which the first of them leads."""

    def __init__(self) -> None:
        self.join_files: Sequence[str] = ()
        self.directories: Sequence[str] = ()
        self.leader: int | None = None  # set when the process runs

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

    def pids(self) -> list[int]:
        return []

    def cpu_ms(self) -> float | None:
        return None

    def out_of_memory_kills(self) -> int:
        return 0

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def remove(self) -> bool:
        return True


class NoLimits:
    """Nothing is enforced; `notes` says why and what to do."""

    cpu = "none"
    memory = "none"
    freezer = "signal"

    def __init__(self, reason: str) -> None:
        self.roots: Sequence[str] = ()
        self.notes: Sequence[str] = (
            (
                f"CPU share and memory limit are not enforced: {reason} "
                "Run the lab on Linux as root or in a delegated cgroup "
                "(`systemd-run --user --scope -p Delegate=yes inference-lab lab serve`), or with the container driver."
            ),
        )

    def cpu_ms(self) -> float | None:
        return None

    def create(self, name: str, *, memory_mb: int, vcpu: float) -> ProcessGroup:
        del name, memory_mb, vcpu
        return ProcessGroup()

    def close(self) -> None:
        pass
