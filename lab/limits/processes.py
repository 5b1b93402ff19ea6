"""The processes of one environment, measured and signalled without privileges: CPU clocks, /proc, signals.

The launcher imports this module, which is why it uses the standard library's lightest parts only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import Final

# Once a period of the CPU share, look for new processes. What one used unseen is a debt, while the quota that it seemed
# to leave unused has expired.
_MEMBERS_EVERY_NS: Final = 10_000_000
_LINUX: Final = sys.platform == "linux"
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_libc: Final = ctypes.CDLL(None, use_errno=True)


def cpu_clock(pid: int) -> int:
    """Return the id of a process's CPU clock. Raises OSError if there is none."""
    if not _LINUX:
        raise OSError(f"{sys.platform} does not show the CPU time of another process as a clock")
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error), f"CPU clock of process {pid}")
    return clock.value


class Process:
    """One process. `descriptor` (a pidfd) keeps signals from reaching another one that gets its id."""

    def __init__(self, pid: int, descriptor: int | None = None) -> None:
        """Raises OSError for a process that has ended. Without `descriptor` the caller has to be its parent."""
        self.pid = pid
        self.clock = cpu_clock(pid)  # reading it raises OSError once the process is gone
        self._descriptor = descriptor

    def anonymous_bytes(self) -> int:
        """Return the resident memory that no file backs; 0 for a process that has ended."""
        fields = _read(f"/proc/{self.pid}/statm").split(maxsplit=3)
        return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES if len(fields) > 2 else 0

    def proportional_anonymous_bytes(self) -> int:
        """Return anonymous memory with pages shared after a fork counted once over all processes. Slow."""
        for line in _read(f"/proc/{self.pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss_Anon:"):
                return int(line.split()[1]) * 1024
        return self.anonymous_bytes()

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._descriptor is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self._descriptor, number)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class ProcessTree:
    """A process group with the leader's descendants, some of which may have left the group."""

    def __init__(self, leader: int) -> None:
        """`leader` is a child of this process that has not been waited for, so its id cannot be reused."""
        self._leader = Process(leader)
        self._others: dict[int, Process] = {}
        self._all: tuple[Process, ...] = (self._leader,)
        self._last_pid = b""
        self._members_read_ns = 0
        self._waited_for_ns = 0
        self._used_ns = 0

    def cpu_ns(self, now_ns: int) -> int:
        """Return the CPU time used so far, ended descendants included; never less than before."""
        if not self._last_pid or now_ns - self._members_read_ns >= _MEMBERS_EVERY_NS:
            self._find_members(now_ns)
        used_ns = self._waited_for_ns
        for process in self._all:
            try:
                used_ns += time.clock_gettime_ns(process.clock)
            except OSError:
                self._last_pid = b""  # it has ended: its time is now its parent's, which the next search reads
        self._used_ns = max(self._used_ns, used_ns)
        return self._used_ns

    def anonymous_bytes(self, limit_bytes: int) -> int:
        """Return the anonymous memory of all processes; exact only where it exceeds `limit_bytes`."""
        together = sum([process.anonymous_bytes() for process in self._all])
        if not self._others or together <= limit_bytes:
            return together  # pages shared after a fork count more than once, and it is within the limit all the same
        return sum(process.proportional_anonymous_bytes() for process in self._all)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def stop_all(self) -> None:
        """Stop also what was started since the last search, however short ago: nothing looks again before a thaw."""
        self.stop()
        self._find_members(time.monotonic_ns())
        self.stop()

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill_largest(self) -> None:
        """Kill the process with the most anonymous memory, as the kernel does."""
        max(self._all, key=Process.anonymous_bytes).send(signal.SIGKILL)

    def close(self) -> None:
        for process in self._all:
            process.close()

    def _signal(self, number: signal.Signals) -> None:
        try:  # noqa: SIM105 - suppress() is more code to touch in caches that each sleep leaves cold
            os.killpg(self._leader.pid, number)
        except (ProcessLookupError, PermissionError):
            pass
        for process in self._others.values():  # those that left the group; a second signal does the rest no harm
            process.send(number)

    def _find_members(self, now_ns: int) -> None:
        """Look for descendants if the system has started any process since the last search."""
        self._members_read_ns = now_ns
        last_pid = _read("/proc/loadavg").split()[-1]
        if last_pid == self._last_pid:
            return
        self._last_pid = last_pid
        found = set(_descendants(self._leader.pid))
        for pid in self._others.keys() - found:
            self._others.pop(pid).close()
        for pid in found - self._others.keys():
            with contextlib.suppress(OSError):  # it has ended since
                descriptor = os.pidfd_open(pid)
                try:
                    self._others[pid] = Process(pid, descriptor)
                except OSError:
                    os.close(descriptor)
        self._all = (self._leader, *self._others.values())
        self._waited_for_ns = _waited_for_ns(self._leader.pid)


def _descendants(pid: int) -> Iterable[int]:
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib is 10 ms of the start of each launcher
            for child in _read(f"/proc/{pid}/task/{thread}/children").split():
                yield int(child)
                yield from _descendants(int(child))


def _waited_for_ns(pid: int) -> int:
    """CPU time of descendants that have ended and were waited for."""
    stat = _read(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(b")") + 2 :].split()
    # proc_pid_stat(5) counts from 1 and these fields from the third: cutime is 16, cstime 17
    return (int(fields[13]) + int(fields[14])) * _TICK_NS if len(fields) > 14 else 0


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
