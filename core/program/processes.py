"""Child processes that the kernel ends together with the process that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

from core.program.interruption import SIGNALS

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def start_child(
    command: Sequence[str], *, ends_with: signal.Signals = signal.SIGTERM, **options: Any
) -> subprocess.Popen[Any]:
    """Start a program that gets the signal `ends_with` when this process ends; `options` are those of Popen.

    Python drops what a signal's handler raises while the hooks of a fork run, so that Ctrl-C would be lost: signals
    wait until the child has started. If a handler then raises, the child is ended before the exception propagates.
    """
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    # Handlers run in the main thread alone, and can be set there alone.
    in_main = threading.current_thread() is threading.main_thread()
    callable_ones = [number for number in SIGNALS if callable(signal.getsignal(number))] if in_main else []
    handlers = {number: signal.signal(number, note) for number in callable_ones}
    try:
        process = subprocess.Popen(
            command,
            preexec_fn=ending_with_this_process(ends_with),  # noqa: PLW1509 - it only calls prctl
            **options,
        )
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        for received in dict.fromkeys(noted):
            signal.raise_signal(received)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process


def end_child(process: subprocess.Popen[Any], *, within_s: float) -> None:
    """Ask a program to end, and kill it if it still runs after `within_s`; without effect on one that has ended."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):  # it may end at this very moment
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its children end with it
        process.kill()
        process.wait()


def ending_with_this_process(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return what a forked child calls first, so that it gets a signal when this process ends, however it ends.

    It suits `os.register_at_fork`; `start_child` is for programs. Only Linux has such a request; elsewhere the child
    lives on. An environment's own child makes the request itself, in `lab.drivers.launcher`, which imports nothing of
    ours.
    """
    if sys.platform != "linux":
        return lambda: None
    parent = os.getpid()
    # Loaded before the fork: a child of a program with threads must not wait for the loader's lock.
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)

    return in_child
