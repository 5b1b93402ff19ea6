"""The control plane as one object: moto with the lab's extensions, behind aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from aiohttp import web

import lab.services.functions.catalogue as functions
import lab.services.logs.api as logs
import lab.services.metrics.api as metrics
import lab.services.scheduler.api as scheduler
from lab.contracts import ImageStore
from lab.http.callers_mistakes import CallersMistakes
from lab.services.apigateway import rest_api_patches
from lab.services.functions.catalogue import MotoFunctionCatalogue, account_settings
from lab.services.logs.log_store import LogStore
from lab.services.metrics.metric_store import MetricStore
from lab.services.moto_application import MotoApplication

ACCOUNT_SETTINGS_PATH = "/2016-08-19/account-settings"


class ControlPlane:
    """AWS's APIs over moto's models; one a process, as moto's models are of the process."""

    def __init__(
        self,
        *,
        port: int,
        account_concurrency: int,
        log_store: LogStore,
        metric_store: MetricStore,
        images: ImageStore,
        mistakes: CallersMistakes,
    ) -> None:
        logs.install(log_store)
        metrics.install(metric_store)
        functions.install(lambda uri: images.resolve(uri) is not None)
        rest_api_patches.install()
        scheduler.install()
        self._account_concurrency = account_concurrency
        self._moto = MotoApplication(
            mistakes,
            before_first_request={
                "cloudformation": lambda: _install_cloudformation(port),
                "ecs": _install_load_tasks,
                "servicequotas": _install_load_tasks,
            },
        )
        self.catalogue = MotoFunctionCatalogue(account_concurrency)

    def add_routes(self, application: web.Application) -> None:
        """Add the APIs; the last route takes whatever no other has taken."""
        application.router.add_get(ACCOUNT_SETTINGS_PATH, self._account_settings)
        application.router.add_get(f"{ACCOUNT_SETTINGS_PATH}/", self._account_settings)
        application.router.add_route("*", "/{path:.*}", self._moto.handle)

    def take_snapshots_by(
        self, take_snapshot: Callable[[str, str], Coroutine[Any, Any, str]], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Connect PublishVersion, which runs in a thread, to the data plane on its loop."""

        def take(name: str, version: str) -> Future[str]:
            return asyncio.run_coroutine_threadsafe(take_snapshot(name, version), loop)

        functions.LabLambdaBackend.take_snapshot = staticmethod(take)

    async def _account_settings(self, _request: web.Request) -> web.Response:
        return web.json_response(account_settings(self._account_concurrency))

    def close(self) -> None:
        """End the threads."""
        self._moto.close()


def _install_cloudformation(port: int) -> None:
    """Load and extend CloudFormation when it is first asked for: it loads EC2, half of what a lab has to load."""
    from lab.services.cloudformation import network_resources, resources, stacks  # noqa: PLC0415 - that is the point

    stacks.install(port)
    resources.install()
    network_resources.install()


def _install_load_tasks() -> None:
    """Load ECS, and with it EC2, when it is first asked for."""
    from lab.services import load_tasks  # noqa: PLC0415 - that is the point

    load_tasks.install()
