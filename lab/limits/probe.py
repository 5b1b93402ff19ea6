"""Finds the best mechanism of limits that this host allows, by trying it."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from core.run.records import LimitsMechanism
from lab.limits import files
from lab.limits.cgroup_v1 import CgroupV1Limits
from lab.limits.cgroup_v2 import CgroupV2Limits
from lab.limits.duty_cycle import DutyCycleLimits
from lab.limits.mechanism import Limits, NoLimits

_PROC: Final = Path("/proc")
_LEAF: Final = "inference-lab"  # where the processes of a delegated group move


def mounted_hierarchies(mounts: str) -> tuple[Path | None, dict[str, Path]]:
    """From the text of /proc/mounts: where cgroup v2 is mounted, and where each v1 controller is."""
    unified: Path | None = None
    controllers: dict[str, Path] = {}
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        _, target, kind, options = fields[:4]
        if kind == "cgroup2" and unified is None:
            unified = Path(target)
        elif kind == "cgroup":
            for option in options.split(","):
                controllers.setdefault(option, Path(target))
    return unified, controllers


def own_groups(text: str) -> tuple[str, dict[str, str]]:
    """From the text of /proc/self/cgroup: this process's place in v2, and in each v1 controller's hierarchy."""
    unified = "/"
    controllers: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, _, place = rest.partition(":")
        if number == "0" and not names:
            unified = place
        for name in names.split(","):
            if name:
                controllers[name] = place
    return unified, controllers


def below(mount: Path, place: str) -> Path:
    """A process's directory under a mount; the mount itself where a container hides the rest."""
    directory = mount / place.lstrip("/")
    return directory if directory.is_dir() else mount


def find_limits(mechanism: LimitsMechanism = "auto") -> Limits:
    """Return the best mechanism here: cgroup v2, else v1, else the duty cycle, else none. A named one is tried alone.

    A cgroup has to pass a trial: a group is made, limited, frozen, thawed and removed. With "auto" it has to limit
    both CPU and memory.
    """
    if mechanism == "none":
        return NoLimits("switched off by a setting.")
    reasons: list[str] = []
    if sys.platform != "linux":
        reasons.append(f"{sys.platform} has no cgroups.")
    else:
        for name, build in (("cgroup-v2", _build_v2), ("cgroup-v1", _build_v1)):
            if mechanism not in ("auto", name):
                continue
            limits = _tried(name, build, reasons)
            if limits is not None and (mechanism == name or "none" not in (limits.cpu, limits.memory)):
                return limits
            if limits is not None:
                reasons.append(f"{name}: {' '.join(limits.notes)}")
                limits.close()
    if mechanism in ("auto", "duty-cycle"):
        try:
            return DutyCycleLimits(" ".join(reasons))
        except OSError as error:
            reasons.append(f"duty-cycle: {error.strerror or error}.")
    return NoLimits(" ".join(reasons) or "no cgroup file system is mounted.")


def _tried(name: str, build: Callable[[], Limits], reasons: list[str]) -> Limits | None:
    """A mechanism that passes its trial; otherwise the reason goes to `reasons`."""
    try:
        limits = build()
        _try_out(limits)
    except OSError as error:
        reasons.append(f"{name}: {error.strerror or error} ({error.filename or 'control file'}).")
        return None
    if limits.cpu == limits.memory == "none":
        reasons.append(f"{name}: neither cpu nor memory controller.")
        limits.close()
        return None
    return limits


def _build_v2() -> Limits:
    unified, _ = mounted_hierarchies((_PROC / "mounts").read_text())
    if unified is None:
        raise FileNotFoundError(2, "not mounted", "cgroup2")
    place, _ = own_groups((_PROC / "self/cgroup").read_text())
    own = below(unified, place)
    if own != unified and os.access(unified, os.W_OK):
        # Root may make groups at the top, where processes and controllers may live side by side: nobody has to move.
        limits = v2_limits_below(unified, is_root=True)
        if limits.cpu != "none" and limits.memory != "none":
            return limits
        limits.close()
    return v2_limits_below(own, is_root=own == unified)


def v2_limits_below(directory: Path, *, is_root: bool) -> CgroupV2Limits:
    """Limits in groups below `directory`, this process's own group.

    A group that hands controllers down may hold no process itself (the root may), so the lab moves into a leaf first.
    """
    if directory.name == _LEAF and os.access(directory.parent, os.W_OK):
        directory = directory.parent  # an earlier search has moved this process
    available = frozenset((directory / "cgroup.controllers").read_text().split())
    handed_down = frozenset((directory / "cgroup.subtree_control").read_text().split())
    wanted = (available & {"cpu", "memory"}) - handed_down
    if wanted:
        if not is_root:
            leaf = directory / _LEAF
            leaf.mkdir(exist_ok=True)
            for pid in files.processes(str(directory)):
                # Others in the group: the shell that started the lab in a new scope. They move along.
                with contextlib.suppress(ProcessLookupError):
                    files.write(f"{leaf}/cgroup.procs", str(pid))
        for name in sorted(wanted):
            with contextlib.suppress(OSError):
                files.write(f"{directory}/cgroup.subtree_control", f"+{name}")
        handed_down = frozenset((directory / "cgroup.subtree_control").read_text().split())
    return CgroupV2Limits(directory, handed_down)


def _build_v1() -> Limits:
    _, mounts = mounted_hierarchies((_PROC / "mounts").read_text())
    _, places = own_groups((_PROC / "self/cgroup").read_text())
    parents: dict[str, Path] = {}
    for controller in ("cpu", "memory", "freezer", "cpuacct"):
        if controller in mounts:
            directory = below(mounts[controller], places.get(controller, "/"))
            if os.access(directory, os.W_OK):
                parents[controller] = directory
    if parents.keys() <= {"cpuacct"}:
        raise PermissionError(13, "no v1 controller is mounted and writable", "cpu, memory, freezer")
    return CgroupV1Limits(parents)


def _try_out(limits: Limits) -> None:
    try:
        group = limits.create(f"trial-{secrets.token_hex(4)}", memory_mb=128, vcpu=1.0)
        group.freeze()
        group.thaw()
        group.remove()
    except OSError:
        limits.close()
        raise
