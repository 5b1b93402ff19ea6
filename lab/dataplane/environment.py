"""One execution environment: init, invoke, frozen between calls, reset after a crash, ended.

`State` names where it is, `_MOVES` the ways from one state to another.

Sources of the phases: "Understanding the Lambda execution environment lifecycle", and for SnapStart "Implementing
SnapStart hooks for container images". No process is copied here: an environment is initialized ahead of need, up to
where Lambda takes its snapshot, and its first request restores it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import secrets
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

from core import strict_json
from lab.contracts import FunctionConfiguration, Image, LogSink, MetricSink
from lab.dataplane.activity import INVOCATIONS_KEPT, ReportedInvocation
from lab.dataplane.environment_log import EnvironmentLog, Measured
from lab.dataplane.invocation import (
    EXIT_ERROR,
    RESPONSE_TOO_LARGE_ERROR,
    SHUTDOWN_ERROR,
    TIMEOUT_ERROR,
    Invocation,
    error_payload,
    exit_reason,
    platform_error_type,
)
from lab.dataplane.platform_log import (
    Contention,
    Phase,
    Status,
)
from lab.dataplane.rules import (
    LEAST_INIT_AHEAD_S,
    MAX_RESPONSE_BYTES,
    MAX_SYNCHRONOUS_PAYLOAD_BYTES,
    RESTORE_TIMEOUT_S,
    SNAPSTART_LABEL,
    CpuLedger,
    init_vcpu,
    owed_vcpu,
    visible_cpus,
)
from lab.dataplane.runtime_api import Reply, RuntimeApi, StreamError
from lab.dataplane.settings import DataPlaneSettings
from lab.dataplane.variables import function_variables
from lab.drivers.protocol import Driver, ExitStatus, LaunchError, LaunchSpec, RunningEnvironment
from lab.host.load import HostWatch

_LOG: Final = logging.getLogger(__name__)
_LAST_REPORT_S: Final = 1.0
_REST_S: Final = 0.001  # how long a report may wait for the next request to overlap with


class State(Enum):
    """Where an environment is in its life."""

    NEW = auto()  # no process yet; the init phase comes with the first invoke
    INITIALIZING = auto()  # a process runs and has not asked for an event yet
    SNAPSHOT = auto()  # initialized ahead of need, and waits to be restored; gets no CPU
    RESTORING = auto()  # has a request, and runs its after-restore hooks
    IDLE = auto()  # the runtime waits for the next event
    FROZEN = auto()  # as IDLE, and gets no CPU
    BUSY = auto()  # the runtime has an event
    SETTLING = auto()  # it has answered and not asked for the next event yet
    RESET = auto()  # no process; the next invoke initializes another one
    ENDED = auto()


_MOVES: Final = {
    State.NEW: frozenset({State.INITIALIZING}),
    State.INITIALIZING: frozenset({State.IDLE, State.SNAPSHOT, State.RESET}),
    State.SNAPSHOT: frozenset({State.RESTORING, State.RESET}),
    State.RESTORING: frozenset({State.IDLE, State.RESET}),
    State.IDLE: frozenset({State.BUSY, State.FROZEN, State.RESET}),
    State.FROZEN: frozenset({State.IDLE, State.RESET}),
    State.BUSY: frozenset({State.SETTLING, State.RESET}),
    State.SETTLING: frozenset({State.IDLE, State.RESET}),
    State.RESET: frozenset({State.INITIALIZING}),
    State.ENDED: frozenset(),
}


class ImpossibleMoveError(Exception):
    """An environment was to change between two states that do not follow each other: a fault of the lab's."""


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


@dataclass(frozen=True)
class InitFailure:
    """Why an init phase did not end in a first `next`."""

    status: Status
    error_type: str | None
    message: str
    payload: bytes | None = None  # what the runtime sent to /init/error

    @property
    def reason(self) -> str:
        """The failure in one line, with the runtime's own message where it sent one."""
        message = self.message
        with contextlib.suppress(ValueError):
            sent = strict_json.loads(self.payload or b"null")
            message = str(sent.get("errorMessage") or message) if isinstance(sent, dict) else message
        return ": ".join(part for part in (self.error_type, message) if part)


class ExecutionEnvironment:
    """A place where one function runs, one request at a time."""

    def __init__(
        self, around: Surroundings, owner: EnvironmentOwner, configuration: FunctionConfiguration, image: Image
    ) -> None:
        self.configuration = configuration
        self.id = secrets.token_hex(16)
        self.idle_since = 0.0
        self._state = State.NEW
        self.served = 0  # invocations so far
        self._around = around
        self._owner = owner
        self._image = image
        self._loop = asyncio.get_running_loop()
        self._vcpu = owed_vcpu(configuration.memory_mb, configuration.environment)
        wanted = visible_cpus(configuration.memory_mb)
        self._cpus = around.ledger.place(min(wanted, len(around.ledger.cpus)))
        self._log = EnvironmentLog(self.id, configuration, around.logs, around.metrics)
        self._running: RunningEnvironment | None = None
        self._port = 0  # of the Runtime API; another one for each process
        self._parked: Reply | None = None  # the runtime waits in `next`, or in `restore/next`
        self._restores = configuration.initialization == "snap-start"
        self._restores_by_hooks = False  # it waits in the latter
        self._initialized: asyncio.Future[InitFailure | None] | None = None  # init, or the restore
        self._current: Invocation | None = None
        self._mark: int | None = None  # of the CPU ledger, while busy
        self._owed = 0.0
        self._watch_mark = 0
        self._timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._unreported: tuple[Invocation, float] | None = None
        self._power = asyncio.Lock()
        self._faults_before = 0
        self.peak_mb = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_done = asyncio.Event()  # no invocation in progress

    # -- its state

    def _move(self, to: State) -> None:
        """Change the state. One that has ended stays so, whatever was still in progress. Raises ImpossibleMoveError."""
        if self._state is to or self._state is State.ENDED:
            return
        if to is not State.ENDED and to not in _MOVES[self._state]:
            raise ImpossibleMoveError(f"{self.configuration.name}: from {self._state.name} to {to.name}")
        self._state = to

    @property
    def state(self) -> State:
        return self._state

    @property
    def ended(self) -> bool:
        return self._state is State.ENDED

    @property
    def is_frozen(self) -> bool:
        return self._state is State.FROZEN

    @property
    def is_provisioned(self) -> bool:
        """Whether it is one of those that provisioned concurrency keeps."""
        return self.configuration.initialization == "provisioned-concurrency"

    @property
    def is_snapshot(self) -> bool:
        """Whether it is initialized ahead of need and waits to be restored."""
        return self._state is State.SNAPSHOT

    def retire(self) -> None:
        """From now on it serves nothing; `end` shuts it down."""
        self._move(State.ENDED)

    # -- what the owner does with it

    @property
    def is_ready(self) -> bool:
        """Whether a request can be handed over at once, without thawing or a new init."""
        return self._state is State.IDLE and self._parked is not None and self._parked.alive

    def serve(self, invocation: Invocation) -> None:
        """Give it a request; the environment has to be new or idle. Returns at once."""
        self._current = invocation
        self._all_done.clear()
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        if self.is_ready:
            self._begin_invoke(invocation)
            self._dispatch(invocation)
        else:
            self._spawn(self._serve_cold_or_frozen(invocation))

    async def end(self) -> None:
        """Shut it down: no process and no group is left."""
        self.retire()
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        invocation = self._current
        if invocation is not None and invocation.result is not None:
            # Answered, and on its way back for the next event: its report is not to be lost.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_REPORT_S):
                    await self._all_done.wait()
        invocation = self._current
        if invocation is not None:
            if invocation.started_at == 0.0:
                self._begin_invoke(invocation)
            self._fail(invocation, "failure", SHUTDOWN_ERROR, error_payload(SHUTDOWN_ERROR, "The lab was shut down."))
            await self._finish_without_process(invocation)
        await self._stop_process()
        if self._initialized is not None and not self._initialized.done():
            self._initialized.set_result(InitFailure("error", SHUTDOWN_ERROR, "the lab was shut down"))
        self._not_busy()
        self._around.ledger.remove(self._cpus)
        self._cpus = ()

    async def prepare(self) -> InitFailure | None:
        """Initialize ahead of need, up to where Lambda takes a snapshot or has a request to hand over.

        Returns why that failed, if it did. Provisioned environments get no more CPU than their share:
        https://github.com/DataDog/datadog-lambda-extension/issues/700
        """
        vcpu = self._vcpu
        if self._restores:
            # A new stream: on Lambda, a restored environment does not share the stream of the snapshot's init.
            around = self._around
            self._log = EnvironmentLog(secrets.token_hex(16), self.configuration, around.logs, around.metrics)
            vcpu = init_vcpu(vcpu, around.settings.init_burst_vcpu)
        self._busy(vcpu)
        limit_s = max(LEAST_INIT_AHEAD_S, self.configuration.timeout_s)
        try:
            started, failure = await self._initialize("init", vcpu, limit_s)
        finally:
            self._not_busy()
        if failure is not None or self._running is None or not (self.is_snapshot or self.is_ready):
            failure = failure or InitFailure("error", EXIT_ERROR, "the environment ended right after its init")
            self._drain()
            await self._init_failed("init", started, failure)
            return failure
        self._drain()
        self._log.init_ended("init", (time.monotonic() - started) * 1000, "success", None, None)
        await self._running.set_cpu(self._vcpu)
        if self._restores:
            async with self._power:
                await self._running.freeze()
        else:
            await self._freeze()
        return None

    # -- init

    async def _serve_cold_or_frozen(self, invocation: Invocation) -> None:
        try:
            if self.is_frozen and self._running is not None:
                async with self._power:
                    await self._running.thaw()
                    self._move(State.IDLE)
                if self.is_ready:
                    self._begin_invoke(invocation)
                    self._dispatch(invocation)
                    return
            if self._state in (State.IDLE, State.FROZEN):  # its runtime has gone, perhaps while it was frozen
                await self._reset_idle()
            await self._init_and_dispatch(invocation)
        except Exception as error:  # noqa: BLE001 - of the system, too: whatever it is, the caller is not left waiting
            if self.ended:
                return
            if not isinstance(error, LaunchError | OSError):
                _LOG.exception("an environment of %s could not be started", self.configuration.name)
            self._log.write([str(error)], invocation)
            self._begin_invoke(invocation)
            self._fail(invocation, "error", "Runtime.LaunchError", error_payload("Runtime.LaunchError", str(error)))
            await self._finish_without_process(invocation)

    async def _reset_idle(self) -> None:
        """Stop a process that can take no event; the next init starts another one."""
        await self._stop_process()
        self._move(State.RESET)

    async def _init_and_dispatch(self, invocation: Invocation) -> None:
        if self.ended:
            return
        if self._restores:
            await self._restore_and_dispatch(invocation)
            return
        if self._state is State.NEW:
            # The first init of this environment has its own time limit and is not part of the invoke.
            burst = init_vcpu(self._vcpu, self._around.settings.init_burst_vcpu)
            self._busy(burst)
            started, failure = await self._initialize("init", burst, self._around.settings.init_timeout_s)
            invocation.contended = self._not_busy()
            if self.ended:  # meanwhile; its caller has been answered
                await self._stop_process()
                return
            if failure is None and self._running is not None:
                invocation.init_ms = (time.monotonic() - started) * 1000
                await self._running.set_cpu(self._vcpu)
                self._log.init_ended("init", invocation.init_ms, "success", None, invocation)
                if self.is_ready:
                    self._begin_invoke(invocation)
                    self._dispatch(invocation)
                    return
                await self._reset_idle()  # its process exited between the end of init and the event
            else:
                await self._init_failed("init", started, failure)
            if self.ended:
                return
        # Init inside the invoke: under the function's timeout, its time part of Duration, and with no more CPU.
        self._begin_invoke(invocation)
        started, failure = await self._initialize("invoke", self._vcpu, self.configuration.timeout_s)
        if self.ended:
            await self._stop_process()
            return
        if self._current is not invocation:  # its process exited right after init, which ended the invocation
            return
        if failure is None:
            duration_ms = (time.monotonic() - started) * 1000
            self._log.init_ended("invoke", duration_ms, "success", None, invocation)
            self._dispatch(invocation)
            return
        await self._init_failed("invoke", started, failure)
        await self._fail_for_init(invocation, failure)

    async def _fail_for_init(self, invocation: Invocation, failure: InitFailure) -> None:
        self._log.started(invocation)
        if failure.status == "timeout":
            self._time_out(invocation)
        else:
            error_type = failure.error_type or EXIT_ERROR
            if failure.payload is None:
                self._log.exited(invocation, failure.message)
                payload = error_payload(error_type, f"RequestId: {invocation.request_id} Error: {failure.message}")
            else:
                payload = failure.payload
            self._fail(invocation, "error", error_type, payload)
        await self._finish_without_process(invocation)

    # -- restore

    async def _restore_and_dispatch(self, invocation: Invocation) -> None:
        """Restore from the snapshot and hand the request over."""
        contended: Contention = ""
        if not self.is_snapshot:
            # None was left that is initialized ahead. On Lambda no caller waits for this, so the call counts as one
            # that the host had no CPU for.
            failure = await self.prepare()
            contended = "environments"
            if failure is not None:
                if not self.ended:
                    self._begin_invoke(invocation)
                    await self._fail_for_init(invocation, failure)
                return
        started = time.monotonic()
        failure, hooks_ms = await self._restore(invocation)
        if self.ended:
            await self._stop_process()
            return
        invocation.contended = self._not_busy() or contended
        duration_ms = (time.monotonic() - started) * 1000
        self._drain()
        if failure is None and not self.is_ready:
            failure = InitFailure("error", EXIT_ERROR, "the process exited during its restore")
        if failure is not None:
            await self._restore_failed(invocation, duration_ms, failure)
            return
        self._log.restore_ended(duration_ms, "success", None, invocation)
        invocation.restore_ms, invocation.billed_restore_ms = duration_ms, math.ceil(hooks_ms)
        self._begin_invoke(invocation)
        self._dispatch(invocation)

    async def _restore(self, invocation: Invocation) -> tuple[InitFailure | None, float]:
        """Wait as long as a restore is assumed to take, then run the hooks; returns a failure and the hooks' ms."""
        assert self._running is not None  # a snapshot has a process
        self._move(State.RESTORING)
        self._log = EnvironmentLog(self.id, self.configuration, self._around.logs, self._around.metrics)
        self._log.restore_started(invocation)
        self._busy(self._vcpu)
        assumed_s = random.uniform(*self._around.settings.restore_ms) / 1000  # noqa: S311 - a duration, no secret
        await asyncio.sleep(min(assumed_s, RESTORE_TIMEOUT_S))
        async with self._power:
            await self._running.thaw()
        hooks_started = time.monotonic()
        parked = self._parked
        if parked is None or not parked.alive:
            return InitFailure("error", EXIT_ERROR, "the process exited before its restore"), 0.0
        if not self._restores_by_hooks:
            self._move(State.IDLE)
            return None, 0.0
        self._initialized = self._loop.create_future()
        self._parked = None
        parked.restored()
        done, _ = await asyncio.wait([self._initialized], timeout=max(0.0, RESTORE_TIMEOUT_S - assumed_s))
        hooks_ms = (time.monotonic() - hooks_started) * 1000
        if done:
            return self._initialized.result(), hooks_ms
        return InitFailure("timeout", None, "the restore took too long"), hooks_ms

    async def _restore_failed(self, invocation: Invocation, duration_ms: float, failure: InitFailure) -> None:
        """Refuse the request as the Invoke API does, and end the process.

        https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
        """
        error_type = platform_error_type(failure.error_type) if failure.error_type else None
        self._log.restore_ended(duration_ms, failure.status, error_type, invocation)
        self._current = None
        await self._stop_process()
        self._move(State.RESET)
        if failure.status == "timeout":
            message = f"Lambda couldn't restore the snapshot within the timeout limit of {RESTORE_TIMEOUT_S:g} seconds."
            invocation.refuse(408, "SnapStartTimeoutException", message)
        else:
            message = "The afterRestore() runtime hook encountered an error; the function's log has it."
            invocation.refuse(400, "SnapStartException", message)
        self._owner.finished(self, invocation)
        self._all_done.set()
        self._owner.became_idle(self)

    async def _initialize(self, phase: Phase, vcpu: float, limit_s: float) -> tuple[float, InitFailure | None]:
        """Start the process and wait for its first `next`; returns when it was started and why it failed, if it did."""
        configuration, around = self.configuration, self._around
        self._initialized = self._loop.create_future()
        self._port = await around.runtime_api.open(self)
        self._move(State.INITIALIZING)
        self._log.init_started(phase, self._current)
        running = await around.driver.launch(
            LaunchSpec(
                environment_id=self.id,
                function_name=configuration.name,
                image=self._image,
                command=tuple(configuration.command or self._image.command),
                working_directory=configuration.working_directory,
                variables=function_variables(configuration, self._image, self._log.stream, around.settings.variables),
                runtime_api_port=self._port,
                memory_mb=configuration.memory_mb,
                init_vcpu=vcpu,
                cpus=self._cpus,
                ephemeral_storage_mb=around.settings.ephemeral_storage_mb,
                on_output=self._on_output,
            )
        )
        self._running = running
        self._faults_before = 0
        self._spawn(self._watch(running))
        left_s = limit_s - (time.monotonic() - running.started_at)
        done, _ = await asyncio.wait([self._initialized], timeout=max(0.0, left_s))
        if done:
            return running.started_at, self._initialized.result()
        return running.started_at, InitFailure("timeout", None, "init took too long")

    async def _init_failed(self, phase: Phase, started: float, failure: InitFailure | None) -> None:
        duration_ms = (time.monotonic() - started) * 1000
        await self._stop_process()
        self._move(State.RESET)
        if failure is not None:
            error_type = platform_error_type(failure.error_type) if failure.error_type else None
            self._log.init_ended(phase, duration_ms, failure.status, error_type, self._current)

    async def _watch(self, running: RunningEnvironment) -> None:
        status = await running.wait()
        if self._running is running:
            self._on_exit(status)

    # -- invoke

    def _begin_invoke(self, invocation: Invocation) -> None:
        invocation.started_at = time.monotonic()
        invocation.deadline = invocation.started_at + self.configuration.timeout_s
        self._busy(self._vcpu)

    def _dispatch(self, invocation: Invocation) -> None:
        parked, self._parked = self._parked, None
        if parked is None:
            return
        self._move(State.BUSY)
        now_s = time.time()
        left_s = invocation.deadline - time.monotonic()
        deadline_ms = int((now_s + left_s) * 1000)  # never later than the timeout
        context = f"Lambda-Runtime-Client-Context: {invocation.client_context}\r\n" if invocation.client_context else ""
        parked.event(
            f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {invocation.function_arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {invocation.trace_id}\r\n{context}",
            invocation.payload,
        )
        self._timer = self._loop.call_later(max(0.0, left_s), self._on_timeout, invocation)
        self._report_pending()  # of the call before; while the function works there is time for it
        self._log.started(invocation)

    def _fail(self, invocation: Invocation, status: Status, error_type: str, payload: bytes) -> None:
        self._owner.answered(self, invocation)  # first: a caller who calls again at once waits for this environment
        invocation.settle(payload, status=status, error_type=platform_error_type(error_type))

    def _time_out(self, invocation: Invocation) -> None:
        timeout_s = self.configuration.timeout_s
        self._log.timed_out(invocation)
        message = f"RequestId: {invocation.request_id} Error: Task timed out after {timeout_s:.2f} seconds"
        self._fail(invocation, "timeout", TIMEOUT_ERROR, error_payload(TIMEOUT_ERROR, message))

    def _on_timeout(self, invocation: Invocation) -> None:
        if self._current is invocation:
            self._timer = None
            self._drain()
            answered = invocation.result is not None
            if answered:
                # The answer was sent in time, but the runtime never came back for the next event.
                invocation.status, invocation.error_type = "timeout", TIMEOUT_ERROR
                self._log.timed_out(invocation)
            else:
                self._time_out(invocation)
            self._spawn(self._finish_without_process(invocation))

    def _on_exit(self, status: ExitStatus) -> None:
        """The process ended by itself, or was killed by somebody else than the lab."""
        self._parked = None
        if self._initialized is not None and not self._initialized.done():
            self._initialized.set_result(InitFailure("error", EXIT_ERROR, exit_reason(status.code, status.signal)))
            if status.out_of_memory:
                self.peak_mb = float(self.configuration.memory_mb)
            return
        if status.out_of_memory:
            self.peak_mb = float(self.configuration.memory_mb)
        invocation = self._current
        if invocation is None:
            self._move(State.RESET)  # while idle; the next invoke initializes another process
            self._spawn(self._stop_process())
            return
        if invocation.started_at == 0.0:
            return  # about to get its event: who would hand it over finds that the environment is not ready
        self._drain()
        reason = exit_reason(status.code, status.signal)
        self._log.exited(invocation, reason)
        if invocation.result is not None:
            invocation.status, invocation.error_type = "error", EXIT_ERROR
        message = f"RequestId: {invocation.request_id} Error: {reason}"
        self._fail(invocation, "error", EXIT_ERROR, error_payload(EXIT_ERROR, message))
        self._spawn(self._finish_without_process(invocation))

    async def _finish_without_process(self, invocation: Invocation) -> None:
        """End an invocation whose process is to go: time is up, it exited, it never started."""
        if self._current is not invocation:
            return
        self._drain()
        self._current = None
        ended_at = time.monotonic()
        self._forget_timer()
        faults = self._measure()
        await self._stop_process()
        if (
            self._state is not State.NEW
        ):  # there was no port for a first process: the next invoke starts as this one did
            self._move(State.RESET)
        invocation.contended = self._not_busy() or invocation.contended
        self._report(invocation, Measured(ended_at, self.peak_mb, faults))
        self._all_done.set()
        self._owner.became_idle(self)

    def _finish(self, invocation: Invocation) -> None:
        """End an invocation whose runtime waits for the next event."""
        ended_at = time.monotonic()
        self._drain()
        self._current = None
        self._forget_timer()
        invocation.contended = self._not_busy() or invocation.contended
        self._unreported = (invocation, ended_at)
        if invocation.wants_tail:
            self._report_pending()
        self._rest_timer = self._loop.call_later(_REST_S, self._rest)
        self._all_done.set()
        self._owner.became_idle(self)

    def _rest(self) -> None:
        """Nothing came at once: write the report, then freeze."""
        self._rest_timer = None
        self._report_pending()
        if self._current is None and not self.ended and self._running is not None:
            delay_s = self._around.settings.freeze_after_ms / 1000 - _REST_S
            self._rest_timer = self._loop.call_later(max(0.0, delay_s), self._freeze_when_idle)

    def _report_pending(self) -> None:
        """Write END and REPORT of the invocation that has ended, if that is still to be done."""
        if self._unreported is not None:
            (invocation, ended_at), self._unreported = self._unreported, None
            faults = self._measure()
            self._report(invocation, Measured(ended_at, self.peak_mb, faults))

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self, invocation: Invocation, measured: Measured) -> None:
        around = self._around
        report = self._log.report(invocation, measured, around.driver.limits, time_scale=around.settings.time_scale)
        self.served += 1
        around.reported.append(
            ReportedInvocation(time.time(), self.configuration.key, self.id, invocation.is_function_error, report)
        )
        self._owner.finished(self, invocation)
        self._log.count(invocation, measured)
        invocation.deliver()

    def _measure(self) -> int | None:
        """Update the memory peak; returns the major page faults since the last time."""
        if self._running is None:
            return None
        usage = self._running.usage()
        if usage.peak_memory_mb is not None:
            self.peak_mb = max(self.peak_mb, usage.peak_memory_mb)
        if usage.major_page_faults is None:
            return None
        faults = max(0, usage.major_page_faults - self._faults_before)
        self._faults_before = usage.major_page_faults
        return faults

    # -- what the runtime says (RuntimeEndpoint)

    def on_next(self, reply: Reply) -> None:
        if self._parked is not None and self._parked.alive:
            reply.refuse(403, "InvalidStateTransition", "This runtime already waits for the next event.")
            return
        invocation = self._current
        if self._initialized is not None and not self._initialized.done():
            self._parked = reply
            if self._restores and self._state is State.INITIALIZING:
                self._snapshot_without_hooks()
            else:
                self._move(State.IDLE)
                self._initialized.set_result(None)
            return
        if invocation is not None and invocation.result is None:
            if invocation.started_at:
                # It gave the event up without an answer: as a runtime that has lost its way, it is ended.
                reply.refuse(403, "InvalidStateTransition", "The event of this runtime has not been answered.")
                return
            self._parked = reply
            return
        self._parked = reply
        if invocation is not None:
            self._move(State.IDLE)
            self._finish(invocation)

    def _snapshot_without_hooks(self) -> None:
        """The runtime knows nothing of snapshots; its image has to allow them by a label."""
        assert self._initialized is not None  # asked by `on_next`
        if self._image.labels.get(SNAPSTART_LABEL) == "Allow":
            self._restores_by_hooks = False
            self._move(State.SNAPSHOT)
            self._initialized.set_result(None)
        else:
            message = f'the image neither calls /runtime/restore/next nor has the label {SNAPSTART_LABEL}="Allow"'
            self._initialized.set_result(InitFailure("error", "Runtime.SnapStartNotAllowed", message))

    def on_restore_next(self, reply: Reply) -> None:
        initializes = self._initialized is not None and not self._initialized.done()
        if not initializes or not self._restores or self._state is not State.INITIALIZING:
            reply.refuse(403, "InvalidStateTransition", "This environment is not about to be a snapshot.")
            return
        assert self._initialized is not None  # asked above
        self._parked, self._restores_by_hooks = reply, True
        self._move(State.SNAPSHOT)
        self._initialized.set_result(None)

    def on_restore_error(self, body: bytes, error_type: str, reply: Reply) -> None:
        if self._state is not State.RESTORING or self._initialized is None or self._initialized.done():
            reply.refuse(403, "InvalidStateTransition", "This environment is not being restored.")
            return
        reply.accepted()
        self._initialized.set_result(InitFailure("error", error_type or "Runtime.Unknown", "", body))

    def on_response(self, request_id: str, body: bytes, error: StreamError | None, reply: Reply) -> None:
        invocation = self._awaited(request_id, reply)
        if invocation is None:
            return
        if len(body) > MAX_RESPONSE_BYTES:
            self.on_response_too_large(request_id, reply)
            return
        self._move(State.SETTLING)
        if error is None:
            invocation.settle(body)
        else:
            self._fail(invocation, "error", error.error_type, error.body or error_payload(error.error_type, ""))
        self._loop.call_soon(reply.accepted)  # the caller's answer goes out first
        self._owner.answered(self, invocation)

    def on_response_too_large(self, request_id: str, reply: Reply) -> None:
        invocation = self._awaited(request_id, reply)
        if invocation is None:
            return
        self._move(State.SETTLING)
        message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
        self._fail(invocation, "error", RESPONSE_TOO_LARGE_ERROR, error_payload(RESPONSE_TOO_LARGE_ERROR, message))
        reply.refuse(
            413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
        )
        self._owner.answered(self, invocation)

    def on_error(self, request_id: str, body: bytes, error_type: str, reply: Reply) -> None:
        invocation = self._awaited(request_id, reply)
        if invocation is None:
            return
        self._move(State.SETTLING)
        payload = body[:MAX_SYNCHRONOUS_PAYLOAD_BYTES] or error_payload("Unknown", "")
        del error_type  # in the payload, too; the platform reports such an invocation as a success
        invocation.settle(payload, failed=True)
        self._loop.call_soon(reply.accepted)
        self._owner.answered(self, invocation)

    def on_init_error(self, body: bytes, error_type: str, reply: Reply) -> None:
        if self._initialized is None or self._initialized.done():
            reply.refuse(403, "InvalidStateTransition", "This runtime has finished its init phase.")
            return
        reply.accepted()
        self._initialized.set_result(InitFailure("error", error_type or "Runtime.Unknown", "", body))

    def _awaited(self, request_id: str, reply: Reply) -> Invocation | None:
        """The invocation that this answer is for, if it is the one that waits for it."""
        invocation = self._current
        if invocation is None or invocation.request_id != request_id:
            reply.refuse(400, "InvalidRequestID", "Invalid request ID")
            return None
        if invocation.result is not None:
            reply.refuse(403, "InvalidStateTransition", "This event has been answered already.")
            return None
        return invocation

    # -- CPU, power, output, processes

    def _busy(self, vcpu: float) -> None:
        if self._mark is None:
            self._owed = vcpu
            self._mark = self._around.ledger.begin(self._cpus, vcpu)
            self._watch_mark = self._around.watch.mark()

    def _not_busy(self) -> Contention:
        """End of a busy time; who took CPU meanwhile that this environment was owed."""
        if self._mark is None:
            return ""
        contended = self._around.ledger.was_contended(self._cpus, self._mark)
        self._around.ledger.end(self._cpus, self._owed)
        self._mark = None
        if contended:
            return "environments"
        return "others" if self._around.watch.taken_since(self._watch_mark) else ""

    def _freeze_when_idle(self) -> None:
        self._rest_timer = None
        if self._current is None and not self.ended and self._running is not None:
            self._spawn(self._freeze())

    async def _freeze(self) -> None:
        async with self._power:
            if self._current is None and not self.ended and self._running is not None:
                self._move(State.FROZEN)
                await self._running.freeze()

    async def _stop_process(self) -> None:
        self._report_pending()
        running, self._running = self._running, None
        self._parked = None
        port = self._port
        if running is not None:
            running.drain_output()
            await running.kill()
        self._around.runtime_api.close(port)  # after the kill: a runtime that loses its API has much to say about it
        self._flush_output()

    def _on_output(self, data: bytes) -> None:
        self._write_application(self._log.feed(data))

    def _drain(self) -> None:
        """Everything the function wrote before this moment into the log."""
        if self._running is not None:
            self._running.drain_output()
        self._flush_output()

    def _flush_output(self) -> None:
        self._write_application(self._log.flush())

    def _write_application(self, messages: Sequence[str]) -> None:
        if messages:
            self._report_pending()  # what comes now was written after the call had ended
            self._log.write_application(messages, self._current)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for calls that are still in progress when the lab ends."""
        while self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*self._tasks, return_exceptions=True)
