"""The CPU that one execution environment is owed while it is busy, and who took it meanwhile."""

from __future__ import annotations

from lab.dataplane.platform_log import Contention
from lab.dataplane.rules import CpuLedger
from lab.host.load import HostWatch


class BusyTime:
    """The environment's entry in the ledger of shares; `cpus` are those of the host that it may run on."""

    def __init__(self, ledger: CpuLedger, watch: HostWatch, cpus: int) -> None:
        self._ledger = ledger
        self._watch = watch
        self.cpus = ledger.place(min(cpus, len(ledger.cpus)))
        self._mark: int | None = None  # of the ledger, while busy
        self._watch_mark = 0
        self._owed = 0.0

    def begin(self, vcpu: float) -> None:
        """Begin a busy time with this share; one that has begun goes on."""
        if self._mark is None:
            self._owed = vcpu
            self._mark = self._ledger.begin(self.cpus, vcpu)
            self._watch_mark = self._watch.mark()

    def end(self) -> Contention:
        """End a busy time; returns who took CPU meanwhile that the environment was owed."""
        if self._mark is None:
            return ""
        contended = self._ledger.was_contended(self.cpus, self._mark)
        self._ledger.end(self.cpus, self._owed)
        self._mark = None
        if contended:
            return "environments"
        return "others" if self._watch.taken_since(self._watch_mark) else ""

    def leave(self) -> None:
        """Give the CPUs back: the environment has ended."""
        self.end()
        self._ledger.remove(self.cpus)
        self.cpus = ()
