"""What the parts of the lab ask of each other. Shared dataclasses and protocols; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, Self

from core.run.records import Initialization

ACCOUNT_ID: Final = "123456789012"
LATEST: Final = "$LATEST"  # the version of a function that is not published

LogFormat = Literal["Text", "JSON"]
FunctionState = Literal["Active", "Pending", "Failed"]  # of a version: its snapshot is there, to come, or not possible
InvocationType = Literal["RequestResponse", "Event", "DryRun"]


@dataclass(frozen=True)
class FunctionConfiguration:
    """A deployed function as the data plane needs it; `revision` changes with every change of configuration or code."""

    name: str
    arn: str
    region: str
    revision: str
    image_uri: str
    memory_mb: int
    timeout_s: float
    environment: Mapping[str, str]
    log_group: str
    log_format: LogFormat
    application_log_level: str  # TRACE to FATAL; only JSON format honors it
    system_log_level: str  # DEBUG, INFO or WARN; only JSON format honors it
    reserved_concurrency: int | None
    maximum_retry_attempts: int  # of asynchronous invokes, 0 to 2
    maximum_event_age_s: int
    command: Sequence[str] = ()  # ImageConfig.Command; () means the image's own
    working_directory: str = ""
    version: str = LATEST
    initialization: Initialization = "on-demand"
    provisioned: int = 0  # environments of this version that are initialized ahead of need
    state: FunctionState = "Active"

    @property
    def key(self) -> str:
        """Name of what runs: versions of a function share its name, and no execution environment."""
        return self.name if self.version == LATEST else f"{self.name}:{self.version}"


class FunctionCatalogue(Protocol):
    """The control plane's view of functions (moto's lambda backend)."""

    def get(self, name_or_arn: str, qualifier: str | None = None) -> FunctionConfiguration | None:
        """The version of a function by name or ARN and by version or alias, or None. Cheap: called for every invoke."""
        ...

    def provisioned(self) -> Iterable[FunctionConfiguration]:
        """Every version that is to have provisioned concurrency. Cheap: asked several times a second."""
        ...

    def arn(self, name: str) -> str:
        """The ARN that a function of this name or partial ARN has here, whether it exists or not."""
        ...

    def account_concurrency(self) -> int: ...


@dataclass(frozen=True)
class Image:
    """An image that an execution environment can start from.

    `root` is LAMBDA_TASK_ROOT as a directory of this host for the process driver; `reference` names the image in the
    container engine for the container driver (the same URI that was pushed).
    """

    reference: str
    root: Path | None
    command: Sequence[str]  # for example ("handler.handler",)
    environment: Mapping[str, str]  # ENV lines of the Dockerfile
    labels: Mapping[str, str] = field(default_factory=dict)


class ImageStore(Protocol):
    """What `cdk deploy` built and pushed."""

    def resolve(self, image_uri: str) -> Image | None: ...


@dataclass(frozen=True)
class LogEvent:
    timestamp_ms: int
    message: str


class LogSink(Protocol):
    """CloudWatch Logs, as the data plane writes it. Never blocks on disk; order within one stream is kept."""

    def put(self, log_group: str, log_stream: str, events: Sequence[LogEvent]) -> None: ...


class MetricSink(Protocol):
    """CloudWatch metrics, as the data plane and the gateway write them. Never blocks on disk."""

    def put(
        self,
        namespace: str,
        dimensions: Mapping[str, str],
        timestamp_s: float,
        values: Sequence[tuple[str, str, float]],
    ) -> None:
        """Values of metrics that share dimensions and time: name, unit, value."""
        ...


@dataclass(frozen=True)
class InvokeResult:
    """What Invoke answers. `status` 200 (202 for Event, 204 for DryRun), or the status of `error_code`."""

    status: int
    payload: bytes
    request_id: str
    function_error: str | None = None  # "Unhandled": the X-Amz-Function-Error header
    error_code: str | None = None  # for example TooManyRequestsException: the call did not reach a function
    executed_version: str = LATEST
    log_tail: bytes = b""  # last 4 KB when asked for, not yet base64
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def refused(cls, status: int, error_code: str, message: str, request_id: str, **extra: object) -> Self:
        """An error of the Invoke API: the function did not run."""
        kind = "User" if status < 500 else "Service"
        extra = {"message": message, "type": kind, **extra}
        return cls(status, b"", request_id, error_code=error_code, extra=extra)


class Invoker(Protocol):
    """The data plane: what the Invoke API, the gateway and the schedules call."""

    async def invoke(
        self,
        name_or_arn: str,
        payload: bytes,
        *,
        invocation_type: InvocationType = "RequestResponse",
        qualifier: str | None = None,
        log_tail: bool = False,
        trace_id: str | None = None,
        client_context: str | None = None,
    ) -> InvokeResult:
        """Run the function. Canceling the caller does not stop the function (the gateway's 29 s rely on it)."""
        ...
