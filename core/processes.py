"""Child processes that the kernel ends together with the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def ending_with_this_process(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return what a forked child calls first, so that it gets a signal when this process ends, however it ends.

    It suits `preexec_fn` and `os.register_at_fork`. Only Linux has such a request; elsewhere the child lives on. An
    environment's own child makes the request itself, in `lab.drivers.launcher`, which imports nothing of ours.
    """
    if sys.platform != "linux":
        return _nothing
    parent = os.getpid()
    # Loaded before the fork: a child of a program with threads must not wait for the loader's lock.
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)

    return in_child


def _nothing() -> None:
    pass
