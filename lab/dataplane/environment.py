"""One execution environment: init, invoke, frozen between calls, reset after a crash, ended.

Source of the phases: "Understanding the Lambda execution environment lifecycle". `lab.dataplane.environment_state` has
the states, `lab.dataplane.snapstart` what is different with SnapStart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from lab.contracts import FunctionConfiguration, Image
from lab.dataplane.activity import ReportedInvocation
from lab.dataplane.busy_time import BusyTime
from lab.dataplane.environment_log import EnvironmentLog, Measured
from lab.dataplane.environment_state import MOVES, ImpossibleMoveError, InitFailure, State
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
from lab.dataplane.platform_log import Phase, Status
from lab.dataplane.rules import (
    LEAST_INIT_AHEAD_S,
    MAX_RESPONSE_BYTES,
    MAX_SYNCHRONOUS_PAYLOAD_BYTES,
    init_vcpu,
    owed_vcpu,
    visible_cpus,
)
from lab.dataplane.runtime_api import Reply, StreamError
from lab.dataplane.surroundings import EnvironmentOwner, Surroundings
from lab.dataplane.variables import function_variables
from lab.drivers.protocol import ExitStatus, LaunchError, LaunchSpec, RunningEnvironment

_LOG: Final = logging.getLogger(__name__)
_LAST_REPORT_S: Final = 1.0
_REST_S: Final = 0.001  # how long a report may wait for the next request to overlap with
_FREEZE_AFTER_S: Final = 0.005  # from the end of a call on: calls back to back need no thaw


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
        self._busy_time = BusyTime(around.ledger, around.watch, visible_cpus(configuration.memory_mb))
        self._log = self._log_named(self.id)
        self._running: RunningEnvironment | None = None
        self._port = 0  # of the Runtime API; another one for each process
        self._parked: Reply | None = None  # the runtime waits in `next`, or in `restore/next`
        self._initialized: asyncio.Future[InitFailure | None] | None = None  # init, or the restore
        self._current: Invocation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._unreported: tuple[Invocation, float] | None = None
        self._power = asyncio.Lock()
        self._faults_before = 0
        self.peak_mb = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None  # the end of a process that exited while idle
        self._all_done = asyncio.Event()  # no invocation in progress

    # -- its state

    def _move(self, to: State) -> None:
        """Change the state. One that has ended stays so, whatever was still in progress. Raises ImpossibleMoveError."""
        if self._state is to or self._state is State.ENDED:
            return
        if to is not State.ENDED and to not in MOVES[self._state]:
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
        if self.is_ready:
            self._hand_over(invocation)
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
            if invocation.result is None:
                self._fail(invocation, "failure", SHUTDOWN_ERROR, "The lab was shut down.")
            await self._finish_without_process(invocation)
        await self._stop_process()
        self._end_init(InitFailure("error", SHUTDOWN_ERROR, "the lab was shut down"))
        self._busy_time.leave()

    async def prepare(self) -> InitFailure | None:
        """Initialize ahead of need, up to where Lambda has a request to hand over; returns why that failed, if it did.

        Provisioned environments get no more CPU than their share:
        https://github.com/DataDog/datadog-lambda-extension/issues/700
        """
        failure = await self._initialize_ahead(self._vcpu)
        if failure is None:
            await self._freeze()
        return failure

    async def _initialize_ahead(self, vcpu: float) -> InitFailure | None:
        self._busy_time.begin(vcpu)
        try:
            limit_s = max(LEAST_INIT_AHEAD_S, self.configuration.timeout_s)
            started, failure = await self._initialize("init", vcpu, limit_s)
        finally:
            self._busy_time.end()
        self._drain()
        if failure is not None or self._running is None or not (self.is_snapshot or self.is_ready):
            failure = failure or InitFailure("error", EXIT_ERROR, "the environment ended right after its init")
            await self._init_failed("init", started, failure)
            return failure
        self._log.init_ended("init", (time.monotonic() - started) * 1000, "success", None, None)
        await self._running.set_cpu(self._vcpu)
        return None

    # -- init

    async def _serve_cold_or_frozen(self, invocation: Invocation) -> None:
        try:
            if self.is_frozen and self._running is not None:
                async with self._power:
                    await self._running.thaw()
                    self._move(State.IDLE)
                if self.is_ready:
                    self._hand_over(invocation)
                    return
            if self._state in (State.IDLE, State.FROZEN):  # its runtime has gone, perhaps while it was frozen
                await self._reset()
            await self._init_and_dispatch(invocation)
        except Exception as error:  # noqa: BLE001 - of the system, too: whatever it is, the caller is not left waiting
            if self.ended:
                return
            if not isinstance(error, LaunchError | OSError):
                _LOG.exception("an environment of %s could not be started", self.configuration.name)
            self._log.write([str(error)], invocation)
            self._begin_invoke(invocation)
            self._fail(invocation, "error", "Runtime.LaunchError", str(error))
            await self._finish_without_process(invocation)

    async def _reset(self) -> None:
        """Stop the process; the next init starts another one."""
        await self._stop_process()
        self._move(State.RESET)

    async def _init_and_dispatch(self, invocation: Invocation) -> None:
        if self.ended:
            return
        if self._state is State.NEW:
            # The first init of this environment has its own time limit and is not part of the invoke.
            burst = init_vcpu(self._vcpu, self._around.settings.init_burst_vcpu)
            self._busy_time.begin(burst)
            started, failure = await self._initialize("init", burst, self._around.settings.init_timeout_s)
            invocation.contended = self._busy_time.end()
            if self.ended:  # meanwhile; its caller has been answered
                await self._stop_process()
                return
            if failure is None and self._running is not None:
                invocation.init_ms = (time.monotonic() - started) * 1000
                await self._running.set_cpu(self._vcpu)
                self._log.init_ended("init", invocation.init_ms, "success", None, invocation)
                if self.is_ready:
                    self._hand_over(invocation)
                    return
                await self._reset()  # its process exited between the end of init and the event
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
            if failure.payload is None:
                self._log.exited(invocation, failure.message)
            message = f"RequestId: {invocation.request_id} Error: {failure.message}"
            self._fail(invocation, "error", failure.error_type or EXIT_ERROR, message, failure.payload)
        await self._finish_without_process(invocation)

    async def _initialize(self, phase: Phase, vcpu: float, limit_s: float) -> tuple[float, InitFailure | None]:
        """Start the process and wait for its first `next`; returns when it was started and why it failed, if it did."""
        configuration, around = self.configuration, self._around
        if self._stopping is not None:
            await asyncio.wait([self._stopping])  # the next process's group has the same name
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
                cpus=self._busy_time.cpus,
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
        await self._reset()
        if failure is not None:
            self._log.init_ended(phase, duration_ms, failure.status, failure.reported_type, self._current)

    async def _watch(self, running: RunningEnvironment) -> None:
        status = await running.wait()
        if self._running is running:
            self._on_exit(status)

    # -- invoke

    def _hand_over(self, invocation: Invocation) -> None:
        self._begin_invoke(invocation)
        self._dispatch(invocation)

    def _begin_invoke(self, invocation: Invocation) -> None:
        invocation.started_at = time.monotonic()
        invocation.deadline = invocation.started_at + self.configuration.timeout_s
        self._busy_time.begin(self._vcpu)

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
        self.report_pending()  # of the call before; while the function works there is time for it
        self._log.started(invocation)

    def _fail(
        self, invocation: Invocation, status: Status, error_type: str, message: str, payload: bytes | None = None
    ) -> None:
        """Answer with an error. An answer that was sent stays: its runtime never came back for the next event."""
        platforms_type = platform_error_type(error_type)
        if invocation.result is not None:
            invocation.status, invocation.error_type = status, platforms_type
            return
        self._owner.answered(self, invocation)  # first: a caller who calls again at once waits for this environment
        payload = error_payload(error_type, message) if payload is None else payload
        invocation.settle(payload, status=status, error_type=platforms_type)

    def _time_out(self, invocation: Invocation) -> None:
        self._log.timed_out(invocation)
        said = f"Task timed out after {self.configuration.timeout_s:.2f} seconds"
        self._fail(invocation, "timeout", TIMEOUT_ERROR, f"RequestId: {invocation.request_id} Error: {said}")

    def _on_timeout(self, invocation: Invocation) -> None:
        if self._current is invocation:
            self._timer = None
            self._drain()
            self._time_out(invocation)
            self._spawn(self._finish_without_process(invocation))

    def _on_exit(self, status: ExitStatus) -> None:
        """The process ended by itself, or was killed by somebody else than the lab."""
        self._parked = None
        if status.out_of_memory:
            self.peak_mb = float(self.configuration.memory_mb)
        reason = exit_reason(status.code, status.signal)
        if self._is_initializing:
            self._end_init(InitFailure("error", EXIT_ERROR, reason))
            return
        invocation = self._current
        if invocation is None:
            self._move(State.RESET)  # while idle; the next invoke initializes another process
            self._stopping = self._spawn(self._stop_process())
            return
        if invocation.started_at == 0.0:
            return  # about to get its event: who would hand it over finds that the environment is not ready
        self._drain()
        self._log.exited(invocation, reason)
        self._fail(invocation, "error", EXIT_ERROR, f"RequestId: {invocation.request_id} Error: {reason}")
        self._spawn(self._finish_without_process(invocation))

    async def _finish_without_process(self, invocation: Invocation) -> None:
        """End an invocation whose process is to go: time is up, it exited, it never started."""
        if self._current is not invocation:
            return
        ended_at = self._end_current()
        faults = self._measure()
        await self._stop_process()
        if self._state is not State.NEW:  # a first process that got no port: the next invoke starts over
            self._move(State.RESET)
        invocation.contended = self._busy_time.end() or invocation.contended
        self._report(invocation, Measured(ended_at, self.peak_mb, faults))
        self._become_idle()

    def _finish(self, invocation: Invocation) -> None:
        """End an invocation whose runtime waits for the next event."""
        self._unreported = (invocation, self._end_current())
        invocation.contended = self._busy_time.end() or invocation.contended
        if invocation.wants_tail:
            self.report_pending()
        self._rest_timer = self._loop.call_later(_REST_S, self._rest)
        self._become_idle()

    def _end_current(self) -> float:
        """Clear the current invocation, and return when it ended."""
        ended_at = time.monotonic()
        self._drain()
        self._current = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return ended_at

    def _become_idle(self) -> None:
        self._all_done.set()
        self._owner.became_idle(self)

    def _rest(self) -> None:
        """Nothing came at once: write the report, then freeze."""
        self.report_pending()
        if self._current is None and not self.ended and self._running is not None:
            delay_s = _FREEZE_AFTER_S - _REST_S
            self._rest_timer = self._loop.call_later(delay_s, lambda: self._spawn(self._freeze()))

    def report_pending(self) -> None:
        """Write END and REPORT of the invocation that has ended, if that is still to be done."""
        if self._unreported is not None:
            (invocation, ended_at), self._unreported = self._unreported, None
            faults = self._measure()
            self._report(invocation, Measured(ended_at, self.peak_mb, faults))

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
        if self._is_initializing:
            self._parked = reply
            self._on_first_next()
            return
        if invocation is not None and invocation.result is None and invocation.started_at:
            # It gave the event up without an answer: as a runtime that has lost its way, it is ended.
            reply.refuse(403, "InvalidStateTransition", "The event of this runtime has not been answered.")
            return
        self._parked = reply
        if invocation is not None and invocation.result is not None:
            self._move(State.IDLE)
            self._finish(invocation)

    def _on_first_next(self) -> None:
        """The init phase, or a restore, is over."""
        self._move(State.IDLE)
        self._end_init(None)

    def on_restore_next(self, reply: Reply) -> None:
        reply.refuse(403, "InvalidStateTransition", "This environment is not about to be a snapshot.")

    def on_restore_error(self, body: bytes, error_type: str, reply: Reply) -> None:
        del body, error_type
        reply.refuse(403, "InvalidStateTransition", "This environment is not being restored.")

    def on_response(self, request_id: str, body: bytes, error: StreamError | None, reply: Reply) -> None:
        invocation = self._settling(request_id, reply)
        if invocation is None:
            return
        if error is None:
            invocation.settle(body)
        else:
            self._fail(invocation, "error", error.error_type, "", error.body or None)
        self._loop.call_soon(reply.accepted)  # the caller's answer goes out first
        self._owner.answered(self, invocation)

    def on_response_too_large(self, request_id: str, reply: Reply) -> None:
        invocation = self._settling(request_id, reply)
        if invocation is None:
            return
        limit = f"maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
        self._fail(invocation, "error", RESPONSE_TOO_LARGE_ERROR, f"Response payload size exceeded {limit}")
        reply.refuse(413, "RequestEntityTooLarge", f"Exceeded {limit}")

    def on_error(self, request_id: str, body: bytes, error_type: str, reply: Reply) -> None:
        invocation = self._settling(request_id, reply)
        if invocation is None:
            return
        payload = body[:MAX_SYNCHRONOUS_PAYLOAD_BYTES] or error_payload("Unknown", "")
        del error_type  # in the payload, too; the platform reports such an invocation as a success
        invocation.settle(payload, failed=True)
        self._loop.call_soon(reply.accepted)
        self._owner.answered(self, invocation)

    def on_init_error(self, body: bytes, error_type: str, reply: Reply) -> None:
        if not self._is_initializing:
            reply.refuse(403, "InvalidStateTransition", "This runtime has finished its init phase.")
            return
        reply.accepted()
        self._end_init(InitFailure("error", error_type or "Runtime.Unknown", "", body))

    def _settling(self, request_id: str, reply: Reply) -> Invocation | None:
        """Return the invocation that this answer is for, if it is the one that waits for it: it settles now."""
        invocation = self._current
        if invocation is None or invocation.request_id != request_id:
            reply.refuse(400, "InvalidRequestID", "Invalid request ID")
            return None
        if invocation.result is not None:
            reply.refuse(403, "InvalidStateTransition", "This event has been answered already.")
            return None
        self._move(State.SETTLING)
        return invocation

    @property
    def _is_initializing(self) -> bool:
        """Whether somebody waits for the end of an init phase or of a restore."""
        return self._initialized is not None and not self._initialized.done()

    def _end_init(self, failure: InitFailure | None) -> None:
        if self._initialized is not None and not self._initialized.done():
            self._initialized.set_result(failure)

    # -- power, output, processes

    async def _freeze(self) -> None:
        async with self._power:
            if self._current is None and not self.ended and self._running is not None:
                self._move(State.FROZEN)
                await self._running.freeze()

    async def _stop_process(self) -> None:
        self.report_pending()
        running, self._running = self._running, None
        self._parked = None
        port = self._port
        if running is not None:
            running.drain_output()
            await running.kill()
        self._around.runtime_api.close(port)  # after the kill: a runtime that loses its API has much to say about it
        self._flush_output()

    def _log_named(self, environment_id: str) -> EnvironmentLog:
        return EnvironmentLog(environment_id, self.configuration, self._around.logs, self._around.metrics)

    def _on_output(self, data: bytes) -> None:
        self._write_application(self._log.output.feed(data))

    def _drain(self) -> None:
        """Everything the function wrote before this moment into the log."""
        if self._running is not None:
            self._running.drain_output()
        self._flush_output()

    def _flush_output(self) -> None:
        self._write_application(self._log.output.flush())

    def _write_application(self, messages: Sequence[str]) -> None:
        if messages:
            self.report_pending()  # what comes now was written after the call had ended
            self._log.write_application(messages, self._current)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait for calls that are still in progress when the lab ends."""
        while self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*self._tasks, return_exceptions=True)
