"""What can be set about the data plane; the command line fills it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from core.configuration import DEFAULT_RESTORE_MS

EPHEMERAL_STORAGE_MB: Final = 512  # Lambda's default; the lab models no other


@dataclass(frozen=True, kw_only=True)
class DataPlaneSettings:
    """Settings of the data plane. Times are those of AWS; `time_scale` shortens the idle time and retry delays."""

    idle_s: float = 420.0  # an idle environment is reclaimed after this; AWS does not say, 5 to 60 minutes are seen
    init_burst_vcpu: float = 2.0  # least CPU during the init phase, whatever the memory size
    init_timeout_s: float = 10.0  # of on-demand functions
    restore_ms: tuple[float, float] = DEFAULT_RESTORE_MS  # a restore takes an even draw from this range, and its hooks
    new_environments_burst: int = 1000  # per function and `burst_window_s`
    burst_window_s: float = 10.0
    time_scale: float = 1.0
    async_queue_capacity: int = 100_000  # events waiting, over all functions
    async_fates_kept: int = 10_000  # finished asynchronous invocations that can still be looked up
    variables: Mapping[str, str] = field(default_factory=dict)  # of every environment; an image's own come first
