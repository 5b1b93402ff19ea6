"""What this host has: CPUs and memory."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")


def host_cpus() -> tuple[int, ...]:
    """CPUs that this process may use."""
    if sys.platform == "linux":
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def raise_file_limit() -> None:
    """As many open files as this process may have: each environment takes half a dozen, each connection one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def available_memory_mb() -> float | None:
    """Memory that new processes can have without swapping, as the kernel estimates it; None where it does not say."""
    try:
        text = _MEMINFO.read_text()
    except OSError:  # another system; or no descriptor is left, which is no reason to refuse an invoke
        return None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return None
