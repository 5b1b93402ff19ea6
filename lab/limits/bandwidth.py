"""CPU bandwidth as the kernel's CFS grants it: when the processes of one environment may run. No I/O.

Each period grants a quota of CPU time, which busy CPUs take in slices. What nobody has taken by the end of the period
expires; the rest of a slice does not. Overuse is repaid from later periods. Periods go on while an environment is idle,
so a call starts at any point of a period, with what calls before it in that period have left of the quota.
Source: the kernel's Documentation/scheduler/sched-bwc.rst and kernel/sched/fair.c, as of Linux 5.4 and later.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# CFS notices at a timer tick that a quota is used up, so a call may finish a little beyond it; the overuse is repaid.
# CONFIG_HZ=250, as in Debian's kernels.
_TICK_NS: Final = 4_000_000
# sched_cfs_bandwidth_slice_us: up to what a CPU takes of the quota once it has none left; and min_cfs_rq_runtime: how
# much of it a CPU keeps that is idle.
_SLICE_NS: Final = 5_000_000
_KEPT_WHEN_IDLE_NS: Final = 1_000_000


class Decision(NamedTuple):
    """Whether the processes may run, and when to look again, on the clock of `now_ns`. One is made per look."""

    run: bool
    look_again_ns: int


class Bandwidth:
    """The CPU account of one environment.

    `now_ns` comes from a monotonic clock; `used_ns` is the CPU time of all processes of the environment so far.
    """

    def __init__(self, *, vcpu: float, cpus: int, period_ns: int, now_ns: int, used_ns: int = 0) -> None:
        """`cpus`: number of CPUs that the environment may use at the same time."""
        self._period_ns = period_ns
        self._cpus = cpus
        self._busy_cpus = 1.0
        self._slice_ns = 0  # what each busy CPU has of what it took; below 0 where it used more and no tick has seen it
        self._refill_at_ns = now_ns + period_ns
        self.set_share(vcpu, now_ns=now_ns, used_ns=used_ns)

    def set_share(self, vcpu: float, *, now_ns: int, used_ns: int) -> Decision:
        """Grant another share, starting with its full quota."""
        self._quota_ns = max(1, round(vcpu * self._period_ns))
        self._left_ns, self._used_ns = self._quota_ns, used_ns
        return self.resume(now_ns=now_ns, used_ns=used_ns)

    def resume(self, *, now_ns: int, used_ns: int) -> Decision:
        """Start again after an idle time, with what its periods have left and granted since."""
        self._charge(now_ns=now_ns, used_ns=used_ns)
        self._busy_cpus = 1.0
        self._slice_ns = _KEPT_WHEN_IDLE_NS  # one that had none left took another as it became idle, and gave it back
        return self._decide(now_ns)

    def look(self, *, now_ns: int, used_ns: int) -> Decision:
        """Charge what was used since the last look."""
        if now_ns > self._seen_ns:
            busy_cpus = (used_ns - self._used_ns) / (now_ns - self._seen_ns)
            self._busy_cpus = min(float(self._cpus), max(1.0, busy_cpus))
        self._charge(now_ns=now_ns, used_ns=used_ns)
        return self._decide(now_ns)

    def _charge(self, *, now_ns: int, used_ns: int) -> None:
        spent_ns = used_ns - self._used_ns
        self._used_ns, self._seen_ns = used_ns, now_ns
        self._left_ns -= spent_ns
        self._slice_ns = _rest_of_slice(self._slice_ns, round(spent_ns / self._busy_cpus), now_ns % _TICK_NS)

    def _decide(self, now_ns: int) -> Decision:
        if now_ns >= self._refill_at_ns:
            periods = (now_ns - self._refill_at_ns) // self._period_ns + 1
            self._refill_at_ns += periods * self._period_ns
            taken_ns = min(self._left_ns, round(self._slice_ns * self._busy_cpus)) if self._left_ns > 0 else 0
            self._left_ns = taken_ns + min(self._quota_ns, self._left_ns - taken_ns + periods * self._quota_ns)
        if self._quota_ns >= self._cpus * self._period_ns:
            return Decision(run=True, look_again_ns=self._refill_at_ns)
        if self._left_ns <= 0:
            periods = -self._left_ns // self._quota_ns  # until the debt is repaid and some quota is left
            return Decision(run=False, look_again_ns=self._refill_at_ns + periods * self._period_ns)
        used_up_ns = now_ns + round(self._left_ns / self._busy_cpus)
        tick_ns = (used_up_ns // _TICK_NS + 1) * _TICK_NS
        return Decision(run=True, look_again_ns=min(tick_ns, self._refill_at_ns))


def _rest_of_slice(slice_ns: int, spent_ns: int, since_tick_ns: int) -> int:
    """What a CPU has of its slice after it was busy for `spent_ns`, with its last tick `since_tick_ns` ago."""
    since_tick_ns = min(since_tick_ns, spent_ns)
    at_tick_ns = slice_ns - (spent_ns - since_tick_ns)
    if at_tick_ns <= 0 and spent_ns > since_tick_ns:
        # The first tick that found it used up filled it; one more tick leaves a rest, the tick after that fills it.
        ticks = -at_tick_ns // _TICK_NS
        at_tick_ns = _SLICE_NS - ticks % 2 * _TICK_NS
    return at_tick_ns - since_tick_ns
