"""Reading and writing the kernel's control files."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT_PREFIX: Final = "inference-lab-"  # of a directory that belongs to a lab; `owner_name` says what follows
_REMOVAL_PATIENCE_S: Final = 10.0


def write(path: str, value: str) -> None:
    """Write a control file in one call, as the kernel wants it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 65_536).decode()
    finally:
        os.close(descriptor)


def keyed_value(path: str, key: str) -> int:
    """The number after `key` in a flat keyed file such as memory.events; 0 where it is missing."""
    with contextlib.suppress(OSError, ValueError):
        for line in read(path).splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def processes(directory: str) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in read(f"{directory}/cgroup.procs").split()]
    return []


def remove_directory(directory: str) -> bool:
    """Remove a group's directory; False while the kernel says it is busy."""
    try:
        Path(directory).rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def owner_name(pid: int) -> str:
    """Name a directory after the lab with this process id: `inference-lab-<pid>-<start>`.

    The start, in clock ticks since the host's, tells the lab from a later process that got its id.
    """
    return f"{ROOT_PREFIX}{pid}-{_start_of(pid)}"


def owner_is_gone(name: str) -> bool:
    """Whether the lab that named a directory by `owner_name` no longer runs."""
    try:
        pid, start = (int(part) for part in name.removeprefix(ROOT_PREFIX).split("-"))
    except ValueError:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process, which may have got the id later
    return _start_of(pid) not in (start, 0)


def _start_of(pid: int) -> int:
    """When a process started, in clock ticks since the host's start; 0 where /proc does not show it."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    return 0


def clear_leftovers(parents: Iterable[Path]) -> None:
    """Kill and remove what killed labs left under the directories in `parents`, one for each hierarchy.

    A frozen process dies only when its freezer's hierarchy thaws it, so each round treats all hierarchies before any
    group is removed. A process that the kernel holds longer than `_REMOVAL_PATIENCE_S` is left to the next lab.
    """
    found = (root for parent in parents for root in parent.glob(f"{ROOT_PREFIX}*"))
    roots = [root for root in found if owner_is_gone(root.name) and os.access(root, os.W_OK)]
    give_up_at = time.monotonic() + _REMOVAL_PATIENCE_S
    while True:
        groups = [group for root in roots for group in (*_directories(root), root)]
        for group in groups:
            kill_group(str(group))
        # Each is tried, whatever the others say; inner groups come before their root.
        gone = [remove_directory(str(group)) for group in groups]
        if all(gone) or time.monotonic() > give_up_at:
            return
        time.sleep(0.005)


def _directories(root: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [entry for entry in root.iterdir() if entry.is_dir()]
    return []


def kill_group(group: str) -> None:
    """Send SIGKILL to every process of a group of either version, frozen or not."""
    with contextlib.suppress(OSError):
        write(f"{group}/cgroup.kill", "1")  # Linux 5.14; reaches frozen processes too
        return
    # Frozen first, so that a process that forks cannot outrun the signals; they are delivered on thawing.
    _write_where_it_is(group, {"cgroup.freeze": "1", "freezer.state": "FROZEN"})
    signal_all(processes(group), signal.SIGKILL)
    _write_where_it_is(group, {"cgroup.freeze": "0", "freezer.state": "THAWED"})


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _write_where_it_is(group: str, values: dict[str, str]) -> None:
    for control, value in values.items():
        with contextlib.suppress(OSError):
            write(f"{group}/{control}", value)
