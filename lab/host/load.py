"""Whether other programs take CPU that busy environments want, by the kernel's own accounting.

The ledger of shares (`rules.CpuLedger`) knows what environments are owed, not what else runs on the host: a browser, a
build, the load generator, the lab itself, or a neighbor of the virtual machine (steal). What is read here is read in
the background, a few microseconds four times a second; an invocation only compares two counters.

Why not pressure stall information or a group's cpu.stat: both count the time for which the lab itself throttles an
environment to its share, which is most of what they would show (docs/adr/0035).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.host.resources import host_cpus

PERIOD_S: Final = 0.25
_WINDOW: Final = 2  # periods that a judgment looks back on: the kernel counts in ticks of 10 ms
FULL_IDLE_SHARE: Final = 0.02  # as long as more of the CPUs is idle, nobody had to wait for one
TAKEN_SHARE: Final = 0.05  # what others may take of a full host before samples are marked
_STAT: Final = "/proc/stat"
_READ_BYTES: Final = 65_536


@dataclass(frozen=True)
class CpuReading:
    """CPU seconds since boot over the host's CPUs, and those of all environments; None where they are not accounted."""

    busy_s: float  # steal included
    idle_s: float
    steal_s: float
    environments_s: float | None


def is_taken_by_others(before: CpuReading, after: CpuReading) -> bool:
    """Whether the CPUs were full between two readings, and not with environments alone.

    Where nobody accounts for environments, what a hypervisor has taken (steal) is all that is known of others.
    """
    busy_s, idle_s = after.busy_s - before.busy_s, after.idle_s - before.idle_s
    all_s = busy_s + idle_s
    if all_s <= 0 or idle_s > FULL_IDLE_SHARE * all_s:
        return False
    others_s = after.steal_s - before.steal_s
    if before.environments_s is not None and after.environments_s is not None:
        others_s = busy_s - (after.environments_s - before.environments_s)
    return others_s >= TAKEN_SHARE * all_s


def parse_stat(text: str, cpus: Sequence[int], ticks_per_s: int, environments_s: float | None) -> CpuReading | None:
    """From the text of /proc/stat, over these CPUs; None where it shows none of them."""
    wanted = {f"cpu{cpu}" for cpu in cpus}
    busy = idle = steal = found = 0
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name in wanted:
            # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user
            fields = [int(field) for field in rest.split()[:8]]
            fields += [0] * (8 - len(fields))
            idle += fields[3] + fields[4]
            busy += sum(fields) - fields[3] - fields[4]
            steal += fields[7]
            found += 1
        elif not line.startswith("cpu"):
            break
    if not found:
        return None
    return CpuReading(busy / ticks_per_s, idle / ticks_per_s, steal / ticks_per_s, environments_s)


def read_cpus() -> CpuReading | None:
    """The host's CPUs now, without an account of environments; None where the system does not say."""
    try:
        return parse_stat(Path(_STAT).read_text(encoding="ascii"), host_cpus(), os.sysconf("SC_CLK_TCK"), None)
    except OSError:
        return None


class HostWatch:
    """Reads the accounting in the background and remembers when others took too much."""

    def __init__(self, cpus: Sequence[int], environments_cpu_ms: Callable[[], float | None]) -> None:
        self._cpus = cpus
        self._environments_cpu_ms = environments_cpu_ms
        self._readings: deque[CpuReading] = deque(maxlen=_WINDOW + 1)
        self._times = 0  # how often a reading has found others
        self._taken = False  # at the last reading
        self._task: asyncio.Task[None] | None = None
        self._descriptor = -1
        self._ticks_per_s = 100

    def start(self) -> None:
        """Begin to watch, on the running loop. Without /proc/stat nothing is ever found."""
        try:
            self._descriptor = os.open(_STAT, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            os.close(self._descriptor)

    def mark(self) -> int:
        """The beginning of a busy time, for `taken_since`."""
        return self._times

    def taken_since(self, mark: int) -> bool:
        """Whether others took CPU from environments since then, or just before: a short call fits between readings."""
        return self._taken or self._times > mark

    async def _watch(self) -> None:
        while True:
            self._read()
            await asyncio.sleep(PERIOD_S)

    def _read(self) -> None:
        used_ms = self._environments_cpu_ms()
        text = os.pread(self._descriptor, _READ_BYTES, 0).decode("ascii", "replace")
        reading = parse_stat(text, self._cpus, self._ticks_per_s, None if used_ms is None else used_ms / 1000)
        if reading is None:
            return
        self._readings.append(reading)
        self._taken = len(self._readings) > _WINDOW and is_taken_by_others(self._readings[0], reading)
        self._times += self._taken
