"""The gateway on aiohttp: which requests are its own, and the way in and out."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from core.aws.endpoint import REST_API_PATH
from lab.http.request_body import read_body
from lab.services.apigateway.api import MAX_PAYLOAD_BYTES
from lab.services.apigateway.proxy_event import Request
from lab.services.apigateway.service import Gateway

_HOST: Final = re.compile(r"(?P<api>[a-z0-9]+)\.execute-api\.(?:[a-z0-9-]+\.)?localhost(?::\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """Where a request is addressed to; `raw_path` starts after the stage and is still URL-encoded."""

    api_id: str
    stage: str
    raw_path: str


def target_of(host: str, raw_path: str) -> Target | None:
    """The stage that a request names by its path or by its Host header, or None if it is not the gateway's.

    `raw_path` is the request's path as sent, without the query.
    """
    if raw_path.startswith(REST_API_PATH):
        api_id, _, rest = raw_path[len(REST_API_PATH) :].partition("/")
    else:
        found = _HOST.fullmatch(host)
        if found is None:
            return None
        api_id, rest = found["api"].lower(), raw_path.lstrip("/")
    stage, slash, path = rest.partition("/")
    return Target(api_id, stage, slash + path)


async def serve(gateway: Gateway, request: web.BaseRequest, target: Target) -> web.Response:
    """Answer one aiohttp request with the gateway."""
    received_at, received_epoch_s = time.monotonic(), time.time()
    body = await read_body(request, MAX_PAYLOAD_BYTES)
    response = await gateway.handle(
        target.api_id,
        target.stage,
        Request(
            http_method=request.method,
            raw_path=target.raw_path,
            query=request.rel_url.raw_query_string,
            headers=tuple(request.headers.items()),
            body=body or b"",
            body_too_large=body is None,
            source_ip=request.remote or "127.0.0.1",
            protocol=f"HTTP/{request.version.major}.{request.version.minor}",
            scheme=request.scheme,
            port=request.transport.get_extra_info("sockname")[1] if request.transport else 0,  # 0: the client has gone
            received_at=received_at,
            received_epoch_s=received_epoch_s,
        ),
    )
    answer = web.Response(status=response.status, headers=CIMultiDict(response.headers), body=response.body)
    if body is None:
        answer.force_close()  # the rest of the body is not read: the connection cannot be used again
    return answer


def add_routes(app: web.Application, gateway: Gateway) -> None:
    """Serve `/_aws/execute-api/...` in an application, and every path of a Host that names an API."""

    @web.middleware
    async def by_address(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        target = target_of(request.host, request.rel_url.raw_path)
        if target is not None:
            return await serve(gateway, request, target)
        return await handler(request)

    async def by_path(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound  # the middleware answers first

    app.middlewares.append(by_address)
    # Without their own route, aiohttp would build a 404 for these requests before the middleware sees them.
    app.router.add_route("*", REST_API_PATH + "{tail:.*}", by_path)
