"""One invocation on its way through the data plane."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass, field, replace
from typing import Final

from lab.contracts import InvokeResult
from lab.dataplane.platform_log import Contention, Status
from lab.dataplane.rules import LOG_TAIL_BYTES

EXIT_ERROR: Final = "Runtime.ExitError"
TIMEOUT_ERROR: Final = "Sandbox.Timedout"
SHUTDOWN_ERROR: Final = "Lab.Shutdown"  # the lab's own: AWS does not stop under a caller
RESPONSE_TOO_LARGE_ERROR: Final = "Function.ResponseSizeTooLarge"


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks of a function."""

    request_id: str
    payload: bytes
    qualifier: str | None
    trace_id: str | None
    client_context: str | None
    wants_tail: bool


@dataclass(slots=True)
class Invocation:
    """What is known of an invocation while it runs.

    `answer` is what the caller waits for; it is set once, and a caller that goes away cancels it, no more.
    """

    request_id: str
    payload: bytes
    trace_id: str
    client_context: str | None
    function_arn: str  # as it was invoked, with the version or alias
    version: str
    answer: asyncio.Future[InvokeResult]
    wants_tail: bool = False
    started_at: float = 0.0  # time.monotonic() of the invoke phase
    deadline: float = 0.0
    init_ms: float | None = None
    restore_ms: float | None = None
    billed_restore_ms: int | None = None  # the part of it that hooks took, rounded up
    contended: Contention = ""
    released: bool = False  # no longer counted as concurrent
    concurrency: int = 1
    produced_bytes: int = 0
    status: Status = "success"  # the platform's: an error that the runtime itself reports is a success of the platform
    error_type: str | None = None
    result: InvokeResult | None = None
    lines: list[str] = field(default_factory=list)  # of the log, where the caller asked for its tail

    @property
    def is_function_error(self) -> bool:
        """Whether it counts as an error of the function: the platform's, or one that the runtime reported."""
        return self.status != "success" or (self.result is not None and self.result.function_error is not None)

    def settle(
        self, payload: bytes, *, status: Status = "success", error_type: str | None = None, failed: bool | None = None
    ) -> None:
        """Fix the outcome; the first one counts. `failed`: it is a function error, whatever the platform's status."""
        if self.result is not None:
            return
        self.status = status
        self.error_type = error_type
        self.produced_bytes = len(payload)
        self.result = InvokeResult(
            status=200,
            payload=payload,
            request_id=self.request_id,
            function_error="Unhandled" if failed or status != "success" else None,
            executed_version=self.version,
        )
        if not self.wants_tail:
            self.deliver()

    def refuse(self, status: int, error_code: str, message: str) -> None:
        """Answer the caller with an error of the Invoke API: the function did not run."""
        self.status = "error"
        self.result = InvokeResult.refused(status, error_code, message, self.request_id)
        if not self.answer.done():
            self.answer.set_result(self.result)

    def deliver(self) -> None:
        """Hand the result to the caller, with the log's tail if asked for."""
        if self.result is None or self.answer.done():
            return
        tail = "\n".join([*self.lines, ""]).encode()[-LOG_TAIL_BYTES:] if self.wants_tail else b""
        self.answer.set_result(replace(self.result, log_tail=tail) if tail else self.result)


def exit_reason(code: int | None, signal_number: int | None) -> str:
    """Why the runtime ended, in Lambda's words."""
    if signal_number is not None:
        # Lambda's message has a signal's name as Go prints it: as glibc does, in lower case. macOS adds ": 9".
        name = (signal.strsignal(signal_number) or f"signal {signal_number}").partition(":")[0]
        return f"Runtime exited with error: signal: {name.lower()}"
    if code:
        return f"Runtime exited with error: exit status {code}"
    return "Runtime exited without providing a reason"


def error_payload(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()


def platform_error_type(error_type: str) -> str:
    """An error type as the platform reports it: only Runtime.* and Function.*, never a name of the function's own."""
    family, dot, name = error_type.partition(".")
    if dot and family in ("Runtime", "Function", "Sandbox", "Lab") and name.isalnum() and name[:1].isupper():
        return error_type
    return "Function.Unknown" if family == "Function" and dot else "Runtime.Unknown"
