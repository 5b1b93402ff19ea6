"""The environments of one function: the newest idle one serves next, stale ones go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.contracts import FunctionConfiguration
from lab.dataplane.environment import ExecutionEnvironment
from lab.dataplane.invocation import Invocation
from lab.dataplane.rules import StartRate


@dataclass
class Load:
    """Requests being served, over all functions: the account's concurrency."""

    running: int = 0


@dataclass
class FunctionPool:
    """Environments of one function, over all of its revisions.

    `idle` is a stack, so that surplus environments grow old and are reclaimed. `settling` have answered their caller
    and will be idle in a moment; `waiting` are requests that came just then. `end` shuts an environment down.
    """

    configuration: FunctionConfiguration
    start_rate: StartRate
    load: Load
    end: Callable[[ExecutionEnvironment], None]
    idle: list[ExecutionEnvironment] = field(default_factory=list)
    snapshots: list[ExecutionEnvironment] = field(default_factory=list)  # initialized ahead of need, to be restored
    all: set[ExecutionEnvironment] = field(default_factory=set)
    settling: set[ExecutionEnvironment] = field(default_factory=set)
    waiting: deque[asyncio.Future[ExecutionEnvironment | None]] = field(default_factory=deque)
    running: int = 0
    provisioning: bool = False  # environments are being initialized ahead
    provisioned_problem: str = ""  # why no more environments are being initialized ahead
    peak_mb: float = 0.0  # most memory that an environment of this function has used

    def update(self, configuration: FunctionConfiguration) -> None:
        """Take a new configuration; idle environments of the old one end, busy ones when they have finished."""
        stale = configuration.revision != self.configuration.revision
        if stale or configuration.provisioned != self.configuration.provisioned:
            self.provisioned_problem = ""
        self.configuration = configuration
        if stale:
            self.peak_mb = 0.0
            idle, self.idle, self.snapshots = [*self.idle, *self.snapshots], [], []
            for environment in idle:
                self.end(environment)

    def begin(self) -> None:
        self.running += 1
        self.load.running += 1

    def release(self, invocation: Invocation | None = None) -> None:
        """A request no longer counts as concurrent: it has been answered or abandoned."""
        if invocation is not None:
            if invocation.released:
                return
            invocation.released = True
        self.running -= 1
        self.load.running -= 1

    def newest_idle(self) -> ExecutionEnvironment | None:
        """Take an idle environment: a provisioned one where there is one, else the one that became idle last."""
        for place in range(len(self.idle) - 1, -1, -1):
            if self.idle[place].is_provisioned:
                return self.idle.pop(place)
        return self.idle.pop() if self.idle else None

    @property
    def provisioned(self) -> int:
        """How many provisioned environments there are, idle and busy."""
        return sum(environment.is_provisioned for environment in self.all)

    def oldest_snapshot(self) -> ExecutionEnvironment | None:
        return self.snapshots.pop(0) if self.snapshots else None

    def is_current(self, environment: ExecutionEnvironment) -> bool:
        return environment.configuration.revision == self.configuration.revision and not environment.ended

    def put_back(self, environment: ExecutionEnvironment) -> None:
        """An environment that may serve again: to the request that has waited longest, else to the idle ones."""
        if not self.is_current(environment):
            self.end(environment)
            return
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():  # it is, where its caller has just gone away
                waiter.set_result(environment)
                return
        environment.idle_since = time.monotonic()
        self.idle.append(environment)

    def give_up(self, waiter: asyncio.Future[ExecutionEnvironment | None]) -> None:
        """A request waits no longer for an environment that is about to be idle."""
        with contextlib.suppress(ValueError):  # it was served, or gave up before
            self.waiting.remove(waiter)
        if not waiter.done():
            waiter.set_result(None)

    # -- EnvironmentOwner

    def answered(self, environment: ExecutionEnvironment, invocation: Invocation) -> None:
        self.settling.add(environment)
        self.release(invocation)

    def became_idle(self, environment: ExecutionEnvironment) -> None:
        self.settling.discard(environment)
        self.put_back(environment)
        if len(self.waiting) > len(self.settling):  # a stale one went back to nobody
            self.give_up(self.waiting[0])

    def finished(self, environment: ExecutionEnvironment, invocation: Invocation) -> None:
        self.peak_mb = max(self.peak_mb, environment.peak_mb)
        self.release(invocation)
