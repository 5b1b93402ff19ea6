"""Composition: control plane, data plane, gateway and schedules as one aiohttp application on one loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import platform
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

from aiohttp import web

from core.aws.endpoint import LAB_STATUS_PATH
from core.errors import UserError
from core.run.records import EndpointFacts, LimitsMechanism
from lab import page
from lab.contracts import ACCOUNT_ID, Invoker
from lab.dataplane.plane import LambdaDataPlane
from lab.dataplane.settings import DataPlaneSettings
from lab.drivers.container import ContainerDriver
from lab.drivers.process import ProcessDriver
from lab.drivers.protocol import Driver
from lab.host.instruction_sets import AVX2_VARIABLES, cap_in_force, host_isa
from lab.host.resources import available_memory_mb, host_cpus
from lab.host.state_directory import StateDirectory
from lab.http.callers_mistakes import CallersMistakes
from lab.http.host_header import host_guard
from lab.http.protocol import LabRequestHandler
from lab.images.engine import engine_socket, find_engine
from lab.images.image_store import DirectoryImageStore
from lab.limits.probe import find_limits
from lab.services.apigateway.http import add_routes
from lab.services.apigateway.moto_apis import MotoApis
from lab.services.apigateway.service import Gateway
from lab.services.control_plane import ControlPlane
from lab.services.functions import invoke_api
from lab.services.functions.provisioned import ProvisionedApi
from lab.services.logs.log_store import LogStore
from lab.services.metrics.metric_store import MetricStore
from lab.services.scheduler.moto_schedules import MotoSchedules
from lab.services.scheduler.runner import ScheduleRunner
from lab.settings import DEFAULT_REGION, LabSettings, lab_url, stage_url

_SHUTDOWN_S: Final = 1.5  # for requests in progress, twice: to end by themselves, then after they were canceled
_BACKLOG: Final = 1024
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 1,000 by default, 10 in new accounts.
_CONCURRENCY_BOUNDS: Final = (10, 1000)
_SMALLEST_ENVIRONMENT_MB: Final = 128
_SAMPLES_PER_INVOCATION: Final = 12  # function and gateway write about a dozen


def serve(settings: LabSettings) -> None:
    """Run a lab until SIGINT or SIGTERM. Raises UserError where the port or the state directory cannot be had."""
    with (
        _loopback_sockets(settings.port) as sockets,
        StateDirectory(settings.state_directory),
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(_serve(settings, sockets))


async def _serve(settings: LabSettings, sockets: Sequence[socket.socket]) -> None:
    port: int = sockets[0].getsockname()[1]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    mistakes = CallersMistakes()
    async with _running(settings, port, mistakes) as (application, invoker):
        runner = web.AppRunner(application, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        assert runner.server is not None  # after setup it is there
        protocol = functools.partial(LabRequestHandler, runner.server, mistakes)
        front = invoke_api.InvokeFront(invoker, protocol, port)
        loop = asyncio.get_running_loop()
        listening = [await loop.create_server(front, sock=listener, backlog=_BACKLOG) for listener in sockets]
        try:
            print(f"ready {lab_url(port)}", flush=True)
            await stop.wait()
            _say("stopping")
        finally:
            for server in listening:
                server.close()
            front.close()
            await runner.cleanup()
            mistakes.report()


@contextlib.asynccontextmanager
async def _running(
    settings: LabSettings, port: int, mistakes: CallersMistakes
) -> AsyncIterator[tuple[web.Application, Invoker]]:
    """Every part started, in the order of need, and ended in the reverse order."""
    async with contextlib.AsyncExitStack() as stack:
        logs = LogStore(settings.state_directory, retention_invocations=settings.log_retention_invocations)
        stack.callback(logs.close)
        retained_samples = _SAMPLES_PER_INVOCATION * settings.log_retention_invocations
        metrics = MetricStore(settings.state_directory, retained_samples=retained_samples)
        stack.callback(metrics.close)
        concurrency = settings.account_concurrency or _concurrency_of_host()
        images = DirectoryImageStore()
        stack.enter_context(images.lease(port))
        control = ControlPlane(
            port=port,
            account_concurrency=concurrency,
            log_store=logs,
            metric_store=metrics,
            images=images,
            mistakes=mistakes,
        )
        # In a thread: a PublishVersion that it waits for needs this loop to end.
        stack.push_async_callback(asyncio.to_thread, control.close)
        data_plane = LambdaDataPlane(
            catalogue=control.catalogue,
            images=images,
            logs=logs,
            metrics=metrics,
            driver=_choose_driver(settings),
            settings=DataPlaneSettings(
                idle_s=settings.idle_s,
                init_burst_vcpu=settings.init_burst_vcpu,
                restore_ms=settings.restore_ms,
                time_scale=settings.time_scale,
                variables=AVX2_VARIABLES if cap_in_force(settings.isa) else {},
            ),
        )
        await data_plane.start()
        stack.push_async_callback(data_plane.close)
        control.take_snapshots_by(data_plane.take_snapshot, asyncio.get_running_loop())
        schedules = ScheduleRunner(MotoSchedules(), data_plane, time_scale=settings.time_scale)
        schedules.start()
        stack.push_async_callback(schedules.stop)
        facts = _facts(settings, port, data_plane)
        _say(
            f"REST APIs: {stage_url(port, 'API_ID', 'STAGE')}... (inference-lab lab urls lists those that are deployed)"
        )
        _say(f"page of this lab: {lab_url(port)}{page.PAGE_PATH}")
        _say(f"limits in force: {facts.limits.driver}, CPU {facts.limits.cpu}, memory {facts.limits.memory}")
        _say(f"state in {settings.state_directory}, concurrency {concurrency}, time scale {settings.time_scale:g}")
        application = web.Application(middlewares=[host_guard(port)])

        async def status(_request: web.Request) -> web.Response:
            return web.Response(text=facts.model_dump_json(), content_type="application/json")

        application.router.add_get(LAB_STATUS_PATH, status)
        apis = MotoApis()
        page.add_routes(
            application, facts, control.catalogue.functions, lambda: _addresses(apis, port), data_plane.activity
        )
        add_routes(application, Gateway(apis, data_plane, metrics))
        invoke_api.add_routes(application, data_plane, data_plane.fate)
        ProvisionedApi(control.catalogue, data_plane.provisioned_state, data_plane.provision_again).add_routes(
            application
        )
        control.add_routes(application)
        yield application, data_plane


def _choose_driver(settings: LabSettings) -> Driver:
    """The driver asked for; "auto" takes processes, but containers where only an engine can enforce limits."""
    if settings.driver == "container" or (settings.driver == "auto" and _only_an_engine_limits(settings.limits)):
        return ContainerDriver(state_directory=settings.state_directory)
    return ProcessDriver(mechanism=settings.limits, state_directory=settings.state_directory)


def _only_an_engine_limits(mechanism: LimitsMechanism) -> bool:
    if mechanism != "auto":
        return False
    limits = find_limits()
    if limits.cpu != "none" or limits.memory != "none":
        return False
    try:
        program, _ = find_engine()
        engine_socket(program)
    except UserError:
        return False
    _say(f"this user may set no limits on processes: environments run as {program} containers (--driver process: not)")
    return True


def _facts(settings: LabSettings, port: int, data_plane: LambdaDataPlane) -> EndpointFacts:
    return EndpointFacts(
        source="lab",
        endpoint_url=lab_url(port),
        account_id=ACCOUNT_ID,
        region=DEFAULT_REGION,
        host=f"{platform.node()} ({platform.system()} {platform.release()}, {platform.machine()})",
        host_cpus=float(len(host_cpus())),
        limits=data_plane.limits,
        time_scale=settings.time_scale,
        idle_s=settings.idle_s / settings.time_scale,
        not_modelled=data_plane.not_modelled,
        isa=host_isa(),
        isa_cap=cap_in_force(settings.isa),
    )


def _addresses(apis: MotoApis, port: int) -> Iterator[tuple[str, str]]:
    """The ARN of a function and the URL that reaches it, for each route of each stage."""
    for stage, method in apis.routes():
        base = stage_url(port, stage.deployment.api_id, stage.name).rstrip("/")
        yield method.integration.function_arn, f"{base}{method.resource_path}"


def _concurrency_of_host() -> int:
    """As many environments of the smallest size as the host's memory holds now, within Lambda's own bounds."""
    memory_mb = available_memory_mb()
    least, most = _CONCURRENCY_BOUNDS
    return most if memory_mb is None else max(least, min(most, int(memory_mb / _SMALLEST_ENVIRONMENT_MB)))


@contextlib.contextmanager
def _loopback_sockets(port: int) -> Iterator[list[socket.socket]]:
    """Bound sockets of 127.0.0.1 and, where the host has it, ::1. Raises UserError where the port is taken."""
    with contextlib.ExitStack() as stack:
        bound = [_bind(socket.AF_INET, "127.0.0.1", port)]
        stack.callback(bound[0].close)
        if socket.has_ipv6:
            # Without IPv6 in the kernel, names resolve to 127.0.0.1 alone.
            with contextlib.suppress(OSError):
                bound.append(_bind(socket.AF_INET6, "::1", bound[0].getsockname()[1]))
                stack.callback(bound[1].close)
        yield bound


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        # Two sockets may share an address as long as none listens: listening is what finds a port taken.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {address} is taken by another program",
                hint="Stop it (another lab, perhaps), or choose another port: inference-lab lab serve --port PORT.",
            ) from None
        if error.errno == errno.EACCES:
            raise UserError(
                f"port {port} may not be used by this user", hint="Choose one above 1023 with --port."
            ) from None
        raise
    listener.setblocking(False)
    return listener


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not available on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
