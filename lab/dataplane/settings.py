"""What can be set about the data plane; the command line fills it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from core.configuration import DEFAULT_RESTORE_MS

EPHEMERAL_STORAGE_MB: Final = 512  # Lambda's default; the lab models no other
DriverName = Literal["process", "container"]


@dataclass(frozen=True, kw_only=True)
class DataPlaneSettings:
    """Settings of the data plane. Times are those of AWS; `time_scale` shortens the idle time and retry delays."""

    driver: DriverName = "process"
    idle_s: float = 420.0  # an idle environment is reclaimed after this; AWS does not say, 5 to 60 minutes are seen
    init_burst_vcpu: float = 2.0  # least CPU during the init phase, whatever the memory size
    init_timeout_s: float = 10.0  # of on-demand functions
    restore_ms: tuple[float, float] = DEFAULT_RESTORE_MS  # a restore takes an even draw from this range, and its hooks
    snapshots_ahead: int = 1  # environments of a SnapStart version that are initialized when it is published
    account_concurrency: int = 0  # 0: what the control plane says
    new_environments_burst: int = 1000  # per function and `burst_window_s`
    burst_window_s: float = 10.0
    time_scale: float = 1.0
    freeze_after_ms: float = 5.0  # rest between the end of a call and freezing: back-to-back calls need no thaw
    settle_ms: float = 2000.0  # how long a request waits for an environment that has answered but is not idle yet
    ephemeral_storage_mb: int = EPHEMERAL_STORAGE_MB
    async_queue_capacity: int = 100_000  # events waiting, over all functions
    async_fates_kept: int = 10_000  # finished asynchronous invocations that can still be looked up
    variables: Mapping[str, str] = field(default_factory=dict)  # of every environment; an image's own come first
    state_directory: Path | None = None  # for scratch files of environments; None: a temporary directory

    def __post_init__(self) -> None:
        if self.time_scale < 1:
            raise ValueError(f"time_scale is {self.time_scale}; it shortens times, so it has to be 1 or more")
        if self.idle_s <= 0 or self.init_burst_vcpu <= 0 or self.init_timeout_s <= 0:
            raise ValueError("idle_s, init_burst_vcpu and init_timeout_s have to be above 0")
        if not 0 <= self.restore_ms[0] <= self.restore_ms[1] or self.snapshots_ahead < 1:
            raise ValueError("restore_ms has to be a range from 0 on, and snapshots_ahead at least 1")
