"""Reading and writing the kernel's control files."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

ROOT_PREFIX: Final = "inference-lab-"  # of the directory that holds a lab's groups; the lab's process id follows


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
    """The number beside `key` in a flat keyed file such as memory.events; 0 where it is missing."""
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


def owner_is_gone(name: str) -> bool:
    """Whether the lab that made the directory `inference-lab-<pid>` no longer runs."""
    try:
        pid = int(name.removeprefix(ROOT_PREFIX))
    except ValueError:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def clear_leftovers(parent: Path) -> None:
    """Kill and remove what labs that were killed left under `parent`."""
    for root in parent.glob(f"{ROOT_PREFIX}*"):
        if not owner_is_gone(root.name):
            continue
        for group in [*root.iterdir(), root]:
            if not group.is_dir():
                continue
            with contextlib.suppress(OSError):
                write(f"{group}/cgroup.kill", "1")
            with contextlib.suppress(OSError):
                write(f"{group}/cgroup.freeze", "0")
            for pid in processes(str(group)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                write(f"{group}/freezer.state", "THAWED")
        for _attempt in range(100):
            groups = [entry for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []
            gone = [remove_directory(str(group)) for group in groups]
            if all(gone) and remove_directory(str(root)):
                break
            os.sched_yield()
