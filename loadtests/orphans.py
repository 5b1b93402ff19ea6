"""Worker processes that end with the process that forked them.

Locust's `--processes` leaves its workers running for up to a minute where the master exits early or is killed, and a
worker that goes on sending is load that nobody counts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def end_forks_with_this_process() -> None:
    """From now on each fork of this process is sent SIGTERM when this process ends. Linux only; elsewhere nothing."""
    if sys.platform != "linux":
        return
    parent = os.getpid()

    def in_child() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)

    os.register_at_fork(after_in_child=in_child)
