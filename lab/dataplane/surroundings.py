"""What all execution environments share, and whom each of them tells what becomes of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lab.contracts import LogSink, MetricSink
from lab.dataplane.activity import INVOCATIONS_KEPT, ReportedInvocation
from lab.dataplane.invocation import Invocation
from lab.dataplane.rules import CpuLedger
from lab.dataplane.runtime_api import RuntimeApi
from lab.dataplane.settings import DataPlaneSettings
from lab.drivers.protocol import Driver
from lab.host.load import HostWatch

if TYPE_CHECKING:
    from lab.dataplane.environment import ExecutionEnvironment


@dataclass(frozen=True)
class Surroundings:
    """What all environments share."""

    settings: DataPlaneSettings
    driver: Driver
    runtime_api: RuntimeApi
    logs: LogSink
    metrics: MetricSink
    ledger: CpuLedger
    watch: HostWatch
    reported: deque[ReportedInvocation] = field(default_factory=lambda: deque(maxlen=INVOCATIONS_KEPT))


class EnvironmentOwner(Protocol):
    """Who keeps the environments: told what becomes of them."""

    def became_idle(self, environment: ExecutionEnvironment) -> None: ...

    def answered(self, environment: ExecutionEnvironment, invocation: Invocation) -> None:
        """The caller has its answer; the environment will be idle in a moment."""
        ...

    def finished(self, environment: ExecutionEnvironment, invocation: Invocation) -> None:
        """The invocation is over and logged."""
        ...
