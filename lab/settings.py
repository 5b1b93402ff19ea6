"""What a lab runs with: `[lab]` of benchmark.toml, overridden by the command line. No I/O."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from core.configuration import Configuration, InstructionSets
from core.errors import UserError
from core.paths import REPOSITORY
from core.run.records import LimitsMechanism

T = TypeVar("T")

Driver = Literal["auto", "process", "container"]
DRIVERS: Final[tuple[str, ...]] = get_args(Driver)
MECHANISMS: Final[tuple[str, ...]] = get_args(LimitsMechanism)

DEFAULT_REGION: Final = "us-east-1"
DEFAULT_STATE: Final = REPOSITORY / ".lab"
STATE_VARIABLE: Final = "LAB_STATE"


@dataclass(frozen=True)
class LabSettings:
    """Settings of one running lab. Times are the real ones: they are not yet divided by `time_scale`."""

    port: int  # 0: any free one
    state_directory: Path  # logs, metrics and images; kept over restarts
    driver: Driver
    limits: LimitsMechanism  # of the process driver
    isa: InstructionSets
    time_scale: float
    idle_s: float
    init_burst_vcpu: float
    restore_ms: tuple[float, float]
    account_concurrency: int  # 0: as many environments as this host's memory holds
    log_retention_invocations: int

    @property
    def url(self) -> str:
        return lab_url(self.port)


def lab_url(port: int) -> str:
    """Address of a lab; the name `localhost` is needed, as the control plane finds S3 buckets by it."""
    return f"http://localhost:{port}"


def stage_url(port: int, api_id: str, stage: str = "") -> str:
    """Address of a REST API's stage in a lab; names below `localhost` resolve to this machine."""
    return f"http://{api_id}.execute-api.localhost:{port}/{stage}{'/' * bool(stage)}"


def default_state_directory(port: int) -> Path:
    """LAB_STATE, or else a folder for this port below `.lab`: two labs never share one."""
    given = os.environ.get(STATE_VARIABLE)
    return Path(given) if given else DEFAULT_STATE / str(port)


def lab_settings(
    configuration: Configuration,
    *,
    port: int | None = None,
    state_directory: Path | None = None,
    driver: Driver = "auto",
    limits: LimitsMechanism | None = None,
    time_scale: float | None = None,
    idle_minutes: float | None = None,
    init_burst_vcpu: float | None = None,
    account_concurrency: int | None = None,
    log_retention_invocations: int | None = None,
) -> LabSettings:
    """Settings from the configuration; what is given here overrides it. Raises UserError for a value out of range."""
    table = configuration.lab

    def choose(given: T | None, configured: T) -> T:
        return configured if given is None else given

    settings = LabSettings(
        port=choose(port, table.port),
        state_directory=(state_directory or default_state_directory(choose(port, table.port))).resolve(),
        driver=driver,
        limits=choose(limits, table.limits),
        isa=table.isa,
        time_scale=choose(time_scale, table.time_scale),
        idle_s=60.0 * choose(idle_minutes, float(table.idle_minutes)),
        init_burst_vcpu=choose(init_burst_vcpu, table.init_burst_vcpu),
        restore_ms=table.restore_ms,
        account_concurrency=choose(account_concurrency, table.account_concurrency),
        log_retention_invocations=choose(log_retention_invocations, table.log_retention_invocations),
    )
    _check(settings)
    return settings


def _check(settings: LabSettings) -> None:
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("--port", settings.port, 0, 65_535),
        ("--time-scale", settings.time_scale, 1, 10_000),
        ("--idle-minutes", settings.idle_s / 60, 0.01, 24 * 60),
        ("--init-burst-vcpu", settings.init_burst_vcpu, 0.05, 64),
        ("--account-concurrency", settings.account_concurrency, 0, 100_000),
        ("--log-retention-invocations", settings.log_retention_invocations, 1_000, 100_000_000),
    )
    for name, value, lowest, highest in bounds:
        if not lowest <= value <= highest:
            raise UserError(f"{name} is {value:g}; expected {lowest:g} to {highest:g}", hint=f"Give another {name}.")
