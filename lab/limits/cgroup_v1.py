"""Limits by cgroup v1: the cpu, memory and freezer hierarchies, each in its own place, and the CPU account of all."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from lab.dataplane.rules import CFS_PERIOD_US, cfs_quota_us
from lab.limits import files
from lab.limits.mechanism import Group, Limits


class CgroupV1Group(Group):
    """One environment's directories, by controller."""

    def __init__(self, directories: dict[str, str], account: str = "") -> None:
        """`account`: a directory that all groups share, which counts the CPU time of their processes."""
        self._directories = directories
        self.directories = tuple(directories.values())
        joined = (*directories.values(), account) if account else tuple(directories.values())
        self.join_files = tuple(f"{directory}/cgroup.procs" for directory in joined)
        self._any = next(iter(directories.values()))
        freezer = directories.get("freezer")
        self._state_file = f"{freezer}/freezer.state" if freezer else ""
        self._stopped: list[int] = []

    def set_cpu(self, vcpu: float) -> None:
        if "cpu" in self._directories:
            files.write(f"{self._directories['cpu']}/cpu.cfs_quota_us", str(cfs_quota_us(vcpu)))

    def freeze(self) -> None:
        if self._state_file:
            files.write(self._state_file, "FROZEN")
            return
        self._stopped = files.processes(self._any)
        files.signal_all(self._stopped, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._state_file:
            files.write(self._state_file, "THAWED")
            return
        files.signal_all(self._stopped, signal.SIGCONT)
        self._stopped = []

    def out_of_memory_kills(self) -> int:
        if "memory" not in self._directories:
            return 0
        return files.keyed_value(f"{self._directories['memory']}/memory.oom_control", "oom_kill")

    def kill(self) -> None:
        files.kill_group(self._directories.get("freezer", self._any))


class CgroupV1Limits(Limits):
    """Groups under the lab's own place in each hierarchy, so that limits already set on the lab hold as well."""

    def __init__(self, parents: dict[str, Path]) -> None:
        """`parents`: directory under which to make groups, of each controller that may be written."""
        roots = {name: parent / files.owner_name(os.getpid()) for name, parent in parents.items()}
        files.clear_leftovers(parents.values())
        for root in roots.values():
            root.mkdir(exist_ok=True)
        self.roots = tuple(dict.fromkeys(str(root) for root in roots.values()))
        account = roots.pop("cpuacct", None)
        self._usage_file = f"{account}/cpuacct.usage" if account else ""
        # Mounted apart from `cpu`, it is a separate hierarchy, which processes have to join, too.
        self._account = str(account) if account and account not in roots.values() else ""
        self._roots = roots
        self.cpu = "cgroup-v1" if "cpu" in parents else "none"
        self.memory = "cgroup-v1" if "memory" in parents else "none"
        self.freezer = "cgroup-v1" if "freezer" in parents else "signal"
        self.notes = tuple(
            f"cgroup v1 controller {name} cannot be written here: run the lab as root, or have it delegated to you."
            for name in ("cpu", "memory", "freezer")
            if name not in parents
        )

    def cpu_ms(self) -> float | None:
        try:
            return int(files.read(self._usage_file)) / 1e6 if self._usage_file else None
        except OSError:
            return None

    def create(self, name: str, *, memory_mb: int, vcpu: float) -> CgroupV1Group:
        directories = {controller: f"{root}/{name}" for controller, root in self._roots.items()}
        group = CgroupV1Group(directories, self._account)
        try:
            self._make(group, directories, memory_mb, vcpu)
        except OSError:
            group.remove()  # half made, it would be in the way of the next start of this environment
            raise
        return group

    @staticmethod
    def _make(group: CgroupV1Group, directories: dict[str, str], memory_mb: int, vcpu: float) -> None:
        for directory in directories.values():
            Path(directory).mkdir()
        if "cpu" in directories:
            files.write(f"{directories['cpu']}/cpu.cfs_period_us", str(CFS_PERIOD_US))
            group.set_cpu(vcpu)
        if "memory" in directories:
            limit = str(memory_mb * 1024 * 1024)
            files.write(f"{directories['memory']}/memory.limit_in_bytes", limit)
            with contextlib.suppress(OSError):  # absent where the kernel does not account for swap
                files.write(f"{directories['memory']}/memory.memsw.limit_in_bytes", limit)
