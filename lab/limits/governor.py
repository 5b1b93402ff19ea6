"""Enforces CPU shares and memory limits on environments by signals, in the process that is their parent.

Nothing happens for an environment that is frozen: the governor sleeps until the next look at a busy one.
"""

from __future__ import annotations

import time
from typing import Final

from lab.limits.bandwidth import Bandwidth, Decision
from lab.limits.processes import ProcessTree

# Assumed that no CPU fills memory faster: it bounds what a function can have added by the CPU time that it used.
_MOST_BYTES_PER_CPU_NS: Final = 32
# The account of CPU time stands still after an orphan's end, whose time is nobody's: memory is read all the same.
_MEMORY_EVERY_NS: Final = 100_000_000


class _Governed:
    """One environment under the governor."""

    def __init__(self, leader: int, *, vcpu: float, cpus: int, memory_bytes: int, period_us: int) -> None:
        now_ns = time.monotonic_ns()
        self._tree = ProcessTree(leader)
        self._memory_bytes = memory_bytes
        self._used_ns = 0
        self._memory_read_at_used_ns = 0  # its memory is read once it has used so much CPU time
        self._memory_read_at_ns = now_ns  # or once it is so late
        self._bandwidth = Bandwidth(vcpu=vcpu, cpus=cpus, period_ns=period_us * 1000, now_ns=now_ns)
        self._running = True
        self.look_at_ns: int | None = now_ns
        self.out_of_memory = False

    def set_cpu(self, vcpu: float) -> None:
        now_ns = time.monotonic_ns()
        self._used_ns = self._tree.cpu_ns(now_ns)
        decision = self._bandwidth.set_share(vcpu, now_ns=now_ns, used_ns=self._used_ns)
        if self.look_at_ns is not None:
            self._follow(decision)

    def freeze(self) -> None:
        self.look_at_ns = None
        self._running = False
        self._tree.stop_all()

    def thaw(self) -> None:
        now_ns = time.monotonic_ns()
        self._running = False  # whatever was sent before, it continues now
        self._used_ns = self._tree.cpu_ns(now_ns)
        self._follow(self._bandwidth.resume(now_ns=now_ns, used_ns=self._used_ns))

    def look(self, now_ns: int) -> None:
        # What is stopped uses nothing; what it used before the signal reached it is charged at the next look.
        if self._running:
            self._used_ns = self._tree.cpu_ns(now_ns)
        self._follow(self._bandwidth.look(now_ns=now_ns, used_ns=self._used_ns))
        if self._used_ns >= self._memory_read_at_used_ns or now_ns >= self._memory_read_at_ns:
            self._memory_read_at_ns = now_ns + _MEMORY_EVERY_NS
            self._read_memory()

    def _read_memory(self) -> None:
        left_bytes = self._memory_bytes - self._tree.anonymous_bytes(self._memory_bytes)
        self._memory_read_at_used_ns = self._used_ns + left_bytes // _MOST_BYTES_PER_CPU_NS
        if left_bytes < 0:
            self.out_of_memory = True
            self._tree.kill_largest()

    def close(self) -> None:
        self._tree.close()

    def _follow(self, decision: Decision) -> None:
        self.look_at_ns = decision.look_again_ns
        if decision.run != self._running:
            self._running = decision.run
            if decision.run:
                self._tree.go_on()
            else:
                self._tree.stop()


class Governor:
    """All environments of one launcher, by the process id of their leader."""

    def __init__(self) -> None:
        self._governed: dict[int, _Governed] = {}

    def add(self, leader: int, *, vcpu: float, cpus: int, memory_bytes: int, period_us: int) -> None:
        """Start to enforce limits on a process group. Raises OSError where its processes cannot be measured."""
        self._governed[leader] = _Governed(leader, vcpu=vcpu, cpus=cpus, memory_bytes=memory_bytes, period_us=period_us)

    def set_cpu(self, leader: int, vcpu: float) -> None:
        if leader in self._governed:
            self._governed[leader].set_cpu(vcpu)

    def freeze(self, leader: int) -> None:
        if leader in self._governed:
            self._governed[leader].freeze()

    def thaw(self, leader: int) -> None:
        if leader in self._governed:
            self._governed[leader].thaw()

    def remove(self, leader: int) -> bool:
        """Forget an environment whose leader has ended; returns whether the governor killed it for its memory."""
        governed = self._governed.pop(leader, None)
        if governed is None:
            return False
        governed.close()
        return governed.out_of_memory

    def look(self) -> float | None:
        """Look at every environment that is due; returns the seconds until the next is, None if none is busy."""
        next_ns: int | None = None
        for governed in self._governed.values():
            if governed.look_at_ns is None:
                continue
            now_ns = time.monotonic_ns()
            if governed.look_at_ns <= now_ns:
                governed.look(now_ns)
            if next_ns is None or governed.look_at_ns < next_ns:
                next_ns = governed.look_at_ns
        return None if next_ns is None else max(0, next_ns - time.monotonic_ns()) / 1e9
