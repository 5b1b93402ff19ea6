"""Enters a delegated systemd scope, where an ordinary user may limit CPU and memory by cgroup v2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ENTERED: Final = "LAB_IN_SCOPE"  # set for the lab that runs in the scope, which does not enter another
_COMMAND: Final = ("--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--")
_PATIENCE_S: Final = 5.0
_UNIFIED: Final = Path("/sys/fs/cgroup/cgroup.controllers")  # is there where cgroup v2 has all controllers


def enter(arguments: Sequence[str], *, unified: Path = _UNIFIED) -> None:
    """Replace this process by the same lab command in a new scope, if systemd grants this user one.

    Returns where it is not needed or not possible. The process id, the terminal and the signals stay the same.
    """
    program = shutil.which("systemd-run")
    if program is None or ENTERED in os.environ or os.geteuid() == 0 or not unified.exists():
        return
    try:
        granted = subprocess.run(
            [program, *_COMMAND, "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    if granted.returncode != 0:
        return
    sys.stdout.flush()
    command = [program, *_COMMAND, sys.executable, "-m", "lab", *arguments]
    os.execve(program, command, {**os.environ, ENTERED: "1"})  # noqa: S606 - a program found on PATH by its name
