"""Limits by cgroup v2, the unified hierarchy: what a systemd host of today has."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lab.dataplane.rules import CFS_PERIOD_US, cfs_quota_us
from lab.limits import files
from lab.limits.mechanism import Group, Limits


class CgroupV2Group(Group):
    """One environment's directory. Freezing and killing need no controller; CPU and memory need theirs."""

    def __init__(self, directory: str, controllers: frozenset[str]) -> None:
        self._directory = directory
        self._controllers = controllers
        self.directories = (directory,)
        self.join_files = (f"{directory}/cgroup.procs",)

    def set_cpu(self, vcpu: float) -> None:
        if "cpu" in self._controllers:
            files.write(f"{self._directory}/cpu.max", f"{cfs_quota_us(vcpu)} {CFS_PERIOD_US}")

    def freeze(self) -> None:
        files.write(f"{self._directory}/cgroup.freeze", "1")

    def thaw(self) -> None:
        files.write(f"{self._directory}/cgroup.freeze", "0")

    def out_of_memory_kills(self) -> int:
        return files.keyed_value(f"{self._directory}/memory.events", "oom_kill")

    def kill(self) -> None:
        files.kill_group(self._directory)


class CgroupV2Limits(Limits):
    """Groups under `parent`, a directory that this user may write and whose controllers are handed down."""

    def __init__(self, parent: Path, controllers: frozenset[str]) -> None:
        files.clear_leftovers([parent])
        self._controllers = controllers & {"cpu", "memory"}
        self._root = parent / files.owner_name(os.getpid())
        self._root.mkdir(exist_ok=True)
        try:
            if self._controllers:
                wanted = " ".join(f"+{name}" for name in sorted(self._controllers))
                files.write(f"{self._root}/cgroup.subtree_control", wanted)
        except OSError:
            files.remove_directory(str(self._root))
            raise
        self.roots = (str(self._root),)
        self.cpu = "cgroup-v2" if "cpu" in controllers else "none"
        self.memory = "cgroup-v2" if "memory" in controllers else "none"
        self.freezer = "cgroup-v2"
        self.notes = tuple(
            f"cgroup v2 controller {name} is not handed down to this process: run the lab as root, or let root add "
            "`Delegate=cpu memory pids` to user@.service (docs/how-to/machine-without-root.md)."
            for name in ("cpu", "memory")
            if name not in controllers
        )

    def cpu_ms(self) -> float | None:
        # Accounted in every group, with or without the cpu controller.
        used_us = files.keyed_value(f"{self._root}/cpu.stat", "usage_usec")
        return used_us / 1000 if used_us else None

    def create(self, name: str, *, memory_mb: int, vcpu: float) -> CgroupV2Group:
        directory = f"{self._root}/{name}"
        Path(directory).mkdir()
        try:
            group = CgroupV2Group(directory, self._controllers)
            group.set_cpu(vcpu)
            if "memory" in self._controllers:
                files.write(f"{directory}/memory.max", str(memory_mb * 1024 * 1024))
                with contextlib.suppress(OSError):  # absent where the kernel has no swap
                    files.write(f"{directory}/memory.swap.max", "0")
        except OSError:
            files.remove_directory(directory)  # half made, it would be in the way of this environment's next start
            raise
        return group
