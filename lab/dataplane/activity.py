"""What the data plane is doing at a moment, for people who watch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lab.dataplane.platform_log import Report

INVOCATIONS_KEPT: Final = 50


@dataclass(frozen=True)
class ReportedInvocation:
    """An invocation that has ended, with its report; `ended_at_s` in seconds since the epoch."""

    ended_at_s: float
    function: str
    environment_id: str
    function_error: bool
    report: Report


@dataclass(frozen=True)
class LiveEnvironment:
    """An execution environment as it is now; `state` is `starting`, `snapshot`, `restoring`, `busy`, `idle`, `frozen`,
    or `reset`, or for a moment `gone`.
    """

    id: str
    function: str
    state: str
    invocations: int
    peak_mb: float


@dataclass(frozen=True)
class Activity:
    """Environments that live, and the last invocations, the newest first."""

    environments: Sequence[LiveEnvironment]
    invocations: Sequence[ReportedInvocation]
