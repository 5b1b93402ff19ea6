"""What the kernel says about a process, also one that ends while it is being read."""

from __future__ import annotations

import os
from pathlib import Path


def process_state(pid: int) -> str:
    """Return the letter of the process's state, such as S, T or Z; "" once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # it ended before or during the read
        return ""


def is_alive(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be reaped has ended."""
    return process_state(pid) not in ("", "Z")


def cgroups_of(*owners: str) -> list[str]:
    """Control groups of the labs that go by these names, in every hierarchy; see `lab.limits.files.owner_name`."""
    # os.walk passes over what is removed while it walks.
    return [f"{path}/{name}" for path, names, _ in os.walk("/sys/fs/cgroup") for name in names if name in owners]
