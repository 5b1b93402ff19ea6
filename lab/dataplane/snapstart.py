"""An execution environment of a version with SnapStart: initialized ahead of need, restored by its first request.

Source: "Implementing SnapStart hooks for container images". No process is copied here: an environment is initialized up
to where Lambda takes its snapshot, and waits there.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time

from lab.contracts import FunctionConfiguration, Image
from lab.dataplane.environment import ExecutionEnvironment
from lab.dataplane.environment_state import InitFailure, State
from lab.dataplane.invocation import EXIT_ERROR, Invocation
from lab.dataplane.platform_log import Contention
from lab.dataplane.rules import RESTORE_TIMEOUT_S, SNAPSTART_LABEL, init_vcpu
from lab.dataplane.runtime_api import Reply
from lab.dataplane.surroundings import EnvironmentOwner, Surroundings


def new_environment(
    around: Surroundings, owner: EnvironmentOwner, configuration: FunctionConfiguration, image: Image
) -> ExecutionEnvironment:
    """Return an environment of the kind that the function's initialization asks for."""
    kind = SnapStartEnvironment if configuration.initialization == "snap-start" else ExecutionEnvironment
    return kind(around, owner, configuration, image)


class SnapStartEnvironment(ExecutionEnvironment):
    """An environment whose every init ends in a snapshot, and whose first request restores it."""

    _restores_by_hooks = False  # its runtime waits in `restore/next`, else in `next`

    async def prepare(self) -> InitFailure | None:
        """Initialize up to where Lambda takes a snapshot; returns why that failed, if it did."""
        # A new stream: on Lambda, a restored environment does not share the stream of the snapshot's init.
        self._log = self._log_named(secrets.token_hex(16))
        failure = await self._initialize_ahead(init_vcpu(self._vcpu, self._around.settings.init_burst_vcpu))
        if failure is None and self._running is not None:
            async with self._power:
                await self._running.freeze()
        return failure

    async def _init_and_dispatch(self, invocation: Invocation) -> None:
        """Restore from the snapshot and hand the request over."""
        if self.ended:
            return
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
        invocation.contended = self._busy_time.end() or contended
        duration_ms = (time.monotonic() - started) * 1000
        self._drain()
        if failure is None and not self.is_ready:
            failure = InitFailure("error", EXIT_ERROR, "the process exited during its restore")
        if failure is not None:
            await self._restore_failed(invocation, duration_ms, failure)
            return
        self._log.restore_ended(duration_ms, "success", None, invocation)
        invocation.restore_ms, invocation.billed_restore_ms = duration_ms, math.ceil(hooks_ms)
        self._hand_over(invocation)

    async def _restore(self, invocation: Invocation) -> tuple[InitFailure | None, float]:
        """Wait as long as a restore is assumed to take, then run the hooks; returns a failure and the hooks' ms."""
        assert self._running is not None  # a snapshot has a process
        self._move(State.RESTORING)
        self._log = self._log_named(self.id)
        self._log.restore_started(invocation)
        self._busy_time.begin(self._vcpu)
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
        self._log.restore_ended(duration_ms, failure.status, failure.reported_type, invocation)
        self._current = None
        await self._reset()
        if failure.status == "timeout":
            message = f"Lambda couldn't restore the snapshot within the timeout limit of {RESTORE_TIMEOUT_S:g} seconds."
            invocation.refuse(408, "SnapStartTimeoutException", message)
        else:
            message = "The afterRestore() runtime hook encountered an error; the function's log has it."
            invocation.refuse(400, "SnapStartException", message)
        self._owner.finished(self, invocation)
        self._become_idle()

    # -- what the runtime says (RuntimeEndpoint)

    def _on_first_next(self) -> None:
        if self._state is not State.INITIALIZING:
            super()._on_first_next()
        elif self._image.labels.get(SNAPSTART_LABEL) == "Allow":
            self._become_snapshot(by_hooks=False)
        else:  # the runtime knows nothing of snapshots
            message = f'the image neither calls /runtime/restore/next nor has the label {SNAPSTART_LABEL}="Allow"'
            self._end_init(InitFailure("error", "Runtime.SnapStartNotAllowed", message))

    def on_restore_next(self, reply: Reply) -> None:
        if not self._is_initializing or self._state is not State.INITIALIZING:
            super().on_restore_next(reply)
            return
        self._parked = reply
        self._become_snapshot(by_hooks=True)

    def _become_snapshot(self, *, by_hooks: bool) -> None:
        self._restores_by_hooks = by_hooks
        self._move(State.SNAPSHOT)
        self._end_init(None)

    def on_restore_error(self, body: bytes, error_type: str, reply: Reply) -> None:
        if not self._is_initializing or self._state is not State.RESTORING:
            super().on_restore_error(body, error_type, reply)
            return
        reply.accepted()
        self._end_init(InitFailure("error", error_type or "Runtime.Unknown", "", body))
