"""The data plane: takes invokes, finds or starts an environment for each, and applies Lambda's concurrency limits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final

from core.run.records import LimitsInForce
from lab.contracts import (
    FunctionCatalogue,
    FunctionConfiguration,
    ImageStore,
    InvocationType,
    InvokeResult,
    LogSink,
    MetricSink,
)
from lab.dataplane.activity import Activity, LiveEnvironment
from lab.dataplane.asynchronous import AsynchronousInvokes, Fate
from lab.dataplane.environment import ExecutionEnvironment
from lab.dataplane.environment_log import NAMESPACE
from lab.dataplane.environment_state import State
from lab.dataplane.invocation import Invocation, Request
from lab.dataplane.pool import FunctionPool, Load
from lab.dataplane.rules import (
    MAX_ASYNCHRONOUS_PAYLOAD_BYTES,
    MAX_SYNCHRONOUS_PAYLOAD_BYTES,
    CpuLedger,
    StartRate,
    function_name_problem,
    new_request_id,
    new_trace_id,
    split_qualifier,
)
from lab.dataplane.runtime_api import RuntimeApi
from lab.dataplane.settings import DataPlaneSettings
from lab.dataplane.snapstart import new_environment
from lab.dataplane.surroundings import Surroundings
from lab.drivers.protocol import Driver, LaunchError
from lab.host.load import HostWatch
from lab.host.resources import available_memory_mb, host_cpus, raise_file_limit

_LOG: Final = logging.getLogger(__name__)
NOT_MODELLED: Final = (
    "image fetch",
    "placement of environments on hosts",
    "network between caller, service and function",
    "proactive initialization",
)
# How a person who watches the lab calls the states.
_STATES: Final = {
    State.NEW: "starting",
    State.INITIALIZING: "starting",
    State.SNAPSHOT: "snapshot",
    State.RESTORING: "restoring",
    State.IDLE: "idle",
    State.FROZEN: "frozen",
    State.BUSY: "busy",
    State.SETTLING: "busy",
    State.RESET: "reset",
    State.ENDED: "gone",
}
_SETTLE_S: Final = 2.0  # how long a request waits for an environment that has answered but is not idle yet
_SETTLE_BESIDE_IDLE_S: Final = 0.02
# How long a thread of the control plane may keep the interpreter while an invoke waits; Python's own 5 ms is ten
# invokes.
_SWITCH_INTERVAL_S: Final = 0.0005
_RECLAIM_EVERY_S: Final = 0.25
_HOST_RESERVE_MB: Final = 512.0  # of the host's memory that no new environment may take


class LambdaDataPlane:
    """Lambda's data plane on this host; implements `lab.contracts.Invoker`.

    Use: `await start()`, any number of `invoke`, `await close()`, all on one event loop.
    """

    def __init__(
        self,
        *,
        catalogue: FunctionCatalogue,
        images: ImageStore,
        logs: LogSink,
        metrics: MetricSink,
        driver: Driver,
        settings: DataPlaneSettings,
    ) -> None:
        self._catalogue = catalogue
        self._images = images
        self._metrics = metrics
        self._driver = driver
        self._settings = settings
        self._runtime_api = RuntimeApi()
        cpus = host_cpus()
        self._watch = HostWatch(cpus, driver.environments_cpu_ms)
        self._around = Surroundings(settings, driver, self._runtime_api, logs, metrics, CpuLedger(cpus), self._watch)
        self._pools: dict[str, FunctionPool] = {}
        self._reserved: dict[str, FunctionPool] = {}  # those of functions with a reserved concurrency
        self._load = Load()
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._asynchronous = AsynchronousInvokes(
            self._run,
            catalogue.get,
            metrics,
            capacity=settings.async_queue_capacity,
            fates_kept=settings.async_fates_kept,
            time_scale=settings.time_scale,
        )
        self._reclaimer: asyncio.Task[None] | None = None

    # -- life

    async def start(self) -> None:
        """Probe limits, open the Runtime API, begin to reclaim idle environments."""
        raise_file_limit()
        # What the control plane has imported by now lives as long as the lab: no garbage collection needs to look at it
        # again, which would stop every invoke for some tens of milliseconds.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        await self._driver.start()
        self._watch.start()
        self._reclaimer = asyncio.get_running_loop().create_task(self._reclaim_for_ever())

    async def close(self) -> None:
        """End every environment; no process and no cgroup stays behind."""
        self._closing = True
        async with contextlib.AsyncExitStack() as steps:  # in reverse order, each of them even if one before it fails
            steps.callback(self._runtime_api.close_all)
            steps.push_async_callback(self._driver.close)
            steps.push_async_callback(self._end_all)
            steps.push_async_callback(self._asynchronous.close)
            steps.push_async_callback(self._watch.close)
            if self._reclaimer is not None:
                self._reclaimer.cancel()
                await asyncio.gather(self._reclaimer, return_exceptions=True)

    async def _end_all(self) -> None:
        environments = self._all_environments()
        await asyncio.gather(*(environment.end() for environment in environments))
        await asyncio.gather(*(environment.settle() for environment in environments))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def limits(self) -> LimitsInForce:
        """What is enforced on environments, as probed at the start."""
        return self._driver.limits

    @property
    def not_modelled(self) -> tuple[str, ...]:
        """What this lab leaves out or assumes."""
        shortest, longest = self._settings.restore_ms
        return (*NOT_MODELLED, f"restoring a SnapStart snapshot (an assumed wait of {shortest:g} to {longest:g} ms)")

    @property
    def environments(self) -> int:
        """How many environments live, busy and idle."""
        return sum(len(pool.all) for pool in self._pools.values())

    def activity(self) -> Activity:
        """Every environment as it is now, and the last invocations."""
        environments = [
            LiveEnvironment(one.id, one.configuration.key, _STATES[one.state], one.served, one.peak_mb)
            for one in self._all_environments()
        ]
        return Activity(environments, list(reversed(self._around.reported)))

    def fate(self, request_id: str) -> Fate | None:
        """What has become of an asynchronous invoke; None if it is unknown or long past."""
        return self._asynchronous.fate(request_id)

    # -- SnapStart

    async def take_snapshot(self, name_or_arn: str, version: str) -> str:
        """Initialize an environment of a published version ahead of need; returns why that failed, or "".

        A snapshot that others could be copied from is not taken: it is that environment, which is there to serve.
        """
        function = self._catalogue.get(name_or_arn, version)
        if function is None or self._closing:
            return "the version is gone"
        pool = self._pool_of(function)
        if pool.snapshots:
            return ""
        prepared = await self._prepare(pool, function)
        if isinstance(prepared, str):
            return prepared
        if not pool.is_current(prepared):
            self._end(prepared)
            return "the version was replaced while its snapshot was taken"
        pool.snapshots.append(prepared)
        return ""

    async def _prepare(self, pool: FunctionPool, function: FunctionConfiguration) -> ExecutionEnvironment | str:
        """Return an environment that is initialized and serves nobody yet, or the reason why none is ready."""
        image = self._images.resolve(function.image_uri)
        if image is None:
            return f"source image {function.image_uri} does not exist in the lab"
        if not self._make_room(pool):
            return "the host has no memory for another environment"
        environment = new_environment(self._around, pool, function, image)
        pool.all.add(environment)
        try:
            failure = await environment.prepare()
        except (LaunchError, OSError) as error:
            self._end(environment)
            return str(error) or repr(error)
        except BaseException:
            self._end(environment)
            raise
        if failure is not None:
            self._end(environment)
            return failure.reason
        return environment

    # -- provisioned concurrency

    def provisioned_state(self, function: FunctionConfiguration) -> tuple[int, str]:
        """How many provisioned environments of a version there are, and why there are no more, or ""."""
        pool = self._pools.get(function.key)
        if pool is None:
            return 0, ""
        ready = max(0, pool.provisioned - pool.provisioning)  # they are initialized one after another
        is_tried = pool.configuration.provisioned == function.provisioned
        return ready, pool.provisioned_problem if is_tried else ""

    def provision_again(self, function: FunctionConfiguration) -> None:
        """Forget why a version has fewer provisioned environments than it should, and so try again."""
        if function.key in self._pools:
            self._pools[function.key].provisioned_problem = ""

    def _keep_provisioned(self) -> None:
        """Begin to initialize what is missing, and end what is too many."""
        wanted = {function.key: function for function in self._catalogue.provisioned()}
        for key, pool in self._pools.items():  # first, as what they leave is room for others
            if key not in wanted and pool.configuration.provisioned:
                pool.update(dataclasses.replace(pool.configuration, provisioned=0))
            surplus = pool.provisioned - (wanted[key].provisioned if key in wanted else 0)
            for environment in [one for one in pool.idle if one.is_provisioned][: max(0, surplus)]:
                pool.idle.remove(environment)
                self._end(environment)
        for function in wanted.values():
            pool = self._pool_of(function)
            is_missing = pool.provisioned < function.provisioned
            if is_missing and not pool.provisioning and not pool.provisioned_problem:
                pool.provisioning = True
                self._spawn(self._provision(pool))

    async def _provision(self, pool: FunctionPool) -> None:
        try:
            while not self._closing and pool.provisioned < pool.configuration.provisioned:
                tried = pool.configuration
                function = dataclasses.replace(tried, initialization="provisioned-concurrency")
                prepared = await self._prepare(pool, function)
                if not isinstance(prepared, str):
                    pool.put_back(prepared)
                elif pool.configuration == tried:  # what failed is what is wanted now
                    pool.provisioned_problem = prepared
                    return
        finally:
            pool.provisioning = False

    # -- invoke

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
        """Run the function. Canceling the caller does not stop the function."""
        request_id = new_request_id()
        name, own_qualifier = split_qualifier(name_or_arn)
        qualifier = qualifier or own_qualifier
        function = self._catalogue.get(name, qualifier)
        if function is not None and function.state != "Active":
            return _not_active(function, request_id)
        if function is None:
            problem = function_name_problem(name)
            if problem:
                return InvokeResult.refused(400, "ValidationException", problem, request_id)
            missing = name if name.startswith("arn:") else self._catalogue.arn(name)
            version = f":{qualifier}" if qualifier else ""
            message = f"Function not found: {missing}{version}"
            return InvokeResult.refused(404, "ResourceNotFoundException", message, request_id)
        synchronous = invocation_type == "RequestResponse"
        limit = MAX_SYNCHRONOUS_PAYLOAD_BYTES if synchronous else MAX_ASYNCHRONOUS_PAYLOAD_BYTES
        if len(payload) > limit:
            kind = f"the {invocation_type} invocation type (limit {limit} bytes)"
            message = f"{len(payload)} byte payload is too large for {kind}"
            return InvokeResult.refused(413, "RequestTooLargeException", message, request_id)
        if invocation_type == "DryRun":
            return InvokeResult(status=204, payload=b"", request_id=request_id)
        if invocation_type == "Event":
            event = Request(request_id, payload, qualifier, trace_id, client_context=None, wants_tail=False)
            if self._closing or not self._asynchronous.accept(function, event):
                return _throttled(request_id, "the queue of asynchronous events is full")
            return InvokeResult(status=202, payload=b"", request_id=request_id)
        return await self._run(function, Request(request_id, payload, qualifier, trace_id, client_context, log_tail))

    async def _run(self, function: FunctionConfiguration, request: Request) -> InvokeResult:
        """Admit a request, hand it to an environment, and wait for its answer; or return the refusal."""
        request_id = request.request_id
        if self._closing:
            return InvokeResult.refused(503, "ServiceUnavailableException", "The lab is shutting down.", request_id)
        pool = self._pool_of(function)
        reason = self._over_limit(function)
        if reason is not None:
            return self._throttle(function, request_id, reason)
        pool.begin()
        invocation = Invocation(
            request_id=request_id,
            payload=request.payload,
            trace_id=request.trace_id or new_trace_id(time.time()),
            client_context=request.client_context,
            function_arn=f"{function.arn}:{request.qualifier}" if request.qualifier else function.arn,
            version=function.version,
            answer=asyncio.get_running_loop().create_future(),
            wants_tail=request.wants_tail,
            concurrency=pool.running,
        )
        environment = None
        if len(pool.waiting) < len(pool.settling):
            environment = await self._wait_for_settling(pool)
        if environment is None:
            environment = pool.newest_idle() or pool.oldest_snapshot()
        if environment is None:
            started = self._new_environment(function, pool, request_id)
            if isinstance(started, InvokeResult):
                pool.release()
                return started
            environment = started
        environment.serve(invocation)
        return await invocation.answer

    def _over_limit(self, function: FunctionConfiguration) -> str | None:
        """Why the request may not run now, or None. Reserved concurrency is a function's own, the rest is shared."""
        reserved = function.reserved_concurrency
        if reserved is not None:
            running = sum(one.running for one in self._reserved.values() if one.configuration.name == function.name)
            return "ReservedFunctionConcurrentInvocationLimitExceeded" if running >= reserved else None
        reservations = {}  # of a function, whose versions share it
        running_reserved = 0
        for other in self._reserved.values():
            reservations[other.configuration.name] = other.configuration.reserved_concurrency or 0
            running_reserved += other.running
        unreserved = max(0, self._catalogue.account_concurrency() - sum(reservations.values()))
        return "ConcurrentInvocationLimitExceeded" if self._load.running - running_reserved >= unreserved else None

    async def _wait_for_settling(self, pool: FunctionPool) -> ExecutionEnvironment | None:
        """An environment has answered and is about to be idle: a request that comes just then waits for it.

        It is newer than any that is idle already, which would serve if this one took its time.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[ExecutionEnvironment | None] = loop.create_future()
        pool.waiting.append(waiter)
        timer = loop.call_later(_SETTLE_BESIDE_IDLE_S if pool.idle else _SETTLE_S, pool.give_up, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and (environment := waiter.result()) is not None:
                pool.put_back(environment)
            pool.give_up(waiter)
            pool.release()
            raise
        finally:
            timer.cancel()

    def _new_environment(
        self, function: FunctionConfiguration, pool: FunctionPool, request_id: str
    ) -> ExecutionEnvironment | InvokeResult:
        image = self._images.resolve(function.image_uri)
        if image is None:
            message = f"Source image {function.image_uri} does not exist in the lab. Deploy the stack again."
            return InvokeResult.refused(400, "InvalidParameterValueException", message, request_id)
        if not pool.start_rate.take(time.monotonic()):
            return self._throttle(function, request_id, "ConcurrentInvocationLimitExceeded")
        if not self._make_room(pool):
            return self._throttle(function, request_id, "HostMemoryExceeded")
        environment = new_environment(self._around, pool, function, image)
        pool.all.add(environment)
        return environment

    # -- environments

    def _pool_of(self, function: FunctionConfiguration) -> FunctionPool:
        pool = self._pools.get(function.key)
        if pool is None:
            rate = StartRate(self._settings.new_environments_burst, self._settings.burst_window_s)
            pool = self._pools[function.key] = FunctionPool(function, rate, self._load, self._end)
        elif pool.configuration is not function:
            pool.update(function)
        else:
            return pool
        if function.reserved_concurrency is None:
            self._reserved.pop(function.key, None)
        else:
            self._reserved[function.key] = pool
        return pool

    def _all_environments(self) -> list[ExecutionEnvironment]:
        return [environment for pool in self._pools.values() for environment in pool.all]

    def _end(self, environment: ExecutionEnvironment) -> None:
        """Shut an environment down in the background."""
        if environment.ended:
            return
        environment.retire()
        self._pools[environment.configuration.key].all.discard(environment)
        self._spawn(environment.end())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _make_room(self, pool: FunctionPool) -> bool:
        """See that this host's memory holds one more environment; the longest idle ones go first if it does not.

        The estimate is what other environments of the function have needed, or a guess for the first.
        """
        available_mb = available_memory_mb()
        if available_mb is None:
            return True
        needed_mb = pool.peak_mb or min(256.0, float(pool.configuration.memory_mb))
        for other in self._pools.values():
            # Those still on their way to their first answer have not taken all of their memory yet.
            waiting = {*other.idle, *other.snapshots}
            starting = sum(1 for one in other.all if one.served == 0 and one not in waiting)
            available_mb -= other.peak_mb * starting
        idle = sorted(
            (
                environment
                for other in self._pools.values()
                for environment in (*other.idle, *other.snapshots)
                if not environment.is_provisioned
            ),
            key=lambda one: (one.is_snapshot, one.idle_since),
        )
        for environment in idle:
            if available_mb - needed_mb >= _HOST_RESERVE_MB:
                break
            owner = self._pools[environment.configuration.key]
            (owner.snapshots if environment in owner.snapshots else owner.idle).remove(environment)
            environment.report_pending()  # which waits for a moment of rest, and measures its memory
            available_mb += environment.peak_mb
            self._end(environment)
        return available_mb - needed_mb >= _HOST_RESERVE_MB

    async def _reclaim_for_ever(self) -> None:
        idle_s = self._settings.idle_s / self._settings.time_scale
        while True:
            await asyncio.sleep(min(_RECLAIM_EVERY_S, idle_s / 2))
            try:
                self._reclaim(time.monotonic() - idle_s)
                self._keep_provisioned()
            except Exception:  # noqa: BLE001 - whatever it is: without this loop nothing is reclaimed
                _LOG.exception("environments could not be looked after; the lab tries again")

    def _reclaim(self, idle_before: float) -> None:
        """End environments that have been idle since before a moment, and all those of functions that are gone."""
        for pool in self._pools.values():
            function = pool.configuration
            has_some = pool.idle or pool.snapshots
            gone = self._catalogue.get(function.arn, function.version) is None if has_some else False
            old = [
                environment
                for environment in pool.idle
                if gone or (environment.idle_since <= idle_before and not environment.is_provisioned)
            ]
            if old:
                pool.idle = [environment for environment in pool.idle if environment not in old]
            if gone:
                old, pool.snapshots = [*old, *pool.snapshots], []
            for environment in old:
                self._end(environment)
            if old and function.initialization == "snap-start" and not gone and not pool.all:
                # The next call is a restore again; nobody waits for this.
                self._spawn(self._take_again(function))

    async def _take_again(self, function: FunctionConfiguration) -> None:
        if reason := await self.take_snapshot(function.arn, function.version):
            _LOG.warning("%s: no environment was initialized ahead of the next restore: %s", function.key, reason)

    def _throttle(self, function: FunctionConfiguration, request_id: str, reason: str) -> InvokeResult:
        self._metrics.put(NAMESPACE, {"FunctionName": function.name}, time.time(), [("Throttles", "Count", 1.0)])
        return _throttled(request_id, reason)


def _not_active(function: FunctionConfiguration, request_id: str) -> InvokeResult:
    """https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html."""
    if function.state == "Pending":
        message = "Lambda is initializing your function. It can be invoked when its state becomes Active."
        return InvokeResult.refused(409, "SnapStartNotReadyException", message, request_id)
    message = f"The operation cannot be performed at this time. The function is in the state {function.state}."
    return InvokeResult.refused(409, "ResourceConflictException", message, request_id)


def _throttled(request_id: str, reason: str) -> InvokeResult:
    return InvokeResult.refused(429, "TooManyRequestsException", "Rate Exceeded.", request_id, reason=reason)
