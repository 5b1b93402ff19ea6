"""What the data plane asks of a driver: start one execution environment, hold it, measure it, end it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.errors import UserError
from core.run.records import LimitsInForce
from lab.contracts import Image


class LaunchError(UserError):
    """An environment could not be started: the image cannot be entered, the engine refused, no process available."""


@dataclass(frozen=True)
class LaunchSpec:
    """One execution environment to start.

    `variables` are Lambda's and the function's, complete but for `AWS_LAMBDA_RUNTIME_API`, which the driver adds: the
    address under which the environment reaches its Runtime API, which is `runtime_api_port` on the host's loopback.
    `on_output` takes what the function writes to stdout and stderr, as it comes, on the event loop's thread.
    """

    environment_id: str  # 32 hexadecimal digits, also the end of the log stream's name
    function_name: str
    image: Image
    command: Sequence[str]  # the handler: ("handler.handler",)
    working_directory: str  # "" for the image's own
    variables: Mapping[str, str]
    runtime_api_port: int
    memory_mb: int
    init_vcpu: float  # CPU during the init phase
    cpus: Sequence[int]  # CPUs of the host it may run on; as many as Lambda shows, unless the host has fewer
    on_output: Callable[[bytes], None]


@dataclass(frozen=True)
class ExitStatus:
    """How the environment's main process ended: `code` of its exit, or the number of the `signal` that ended it."""

    code: int | None
    signal: int | None = None
    out_of_memory: bool = False  # the kernel killed it, or one of its processes, for its memory limit


@dataclass(frozen=True)
class Usage:
    """What an environment has used since it was started."""

    peak_memory_mb: float | None  # highest resident memory of its processes; None where it cannot be measured
    major_page_faults: int | None


def peak_memory_kb(status: bytes) -> int:
    """Return VmHWM of /proc/<pid>/status: the highest resident memory of a process so far."""
    start = status.find(b"VmHWM:")
    return int(status[start + 6 : status.index(b"kB", start)]) if start >= 0 else 0


class RunningEnvironment(Protocol):
    """A started environment. Every method but `wait` is quick and may be called again without harm."""

    @property
    def pid(self) -> int | None:
        """Its main process as this host sees it, None where that is hidden."""
        ...

    @property
    def started_at(self) -> float:
        """When its main process was started, by `time.monotonic()`."""
        ...

    async def wait(self) -> ExitStatus:
        """Wait for the end of the main process. May be awaited by several."""
        ...

    def drain_output(self) -> None:
        """Hand what the function has written so far to `on_output`, before this returns."""
        ...

    async def set_cpu(self, vcpu: float) -> None: ...

    async def freeze(self) -> None: ...

    async def thaw(self) -> None: ...

    def usage(self) -> Usage:
        """Return its resource use. Called after every invocation, so it reads a file or two and never waits."""
        ...

    async def kill(self) -> None:
        """End every process of the environment and take away what was made for it; returns when all is gone."""
        ...


class Driver(Protocol):
    """Starts environments. `limits` says what is enforced on them; it is probed by `start`."""

    @property
    def limits(self) -> LimitsInForce: ...

    def environments_cpu_ms(self) -> float | None:
        """CPU time of all environments since the start, of ended ones too; None where nobody accounts for it."""
        ...

    async def start(self) -> None:
        """Probe what can be enforced and clear what a killed lab left behind."""
        ...

    async def launch(self, spec: LaunchSpec) -> RunningEnvironment:
        """Start an environment; returns when its main process runs. Raises LaunchError."""
        ...

    async def close(self) -> None:
        """End every environment and leave no process, cgroup or container behind."""
        ...
