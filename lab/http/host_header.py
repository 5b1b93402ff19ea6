"""Which Host headers are ours: a web page must not reach the lab through a name that it controls (DNS rebinding)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

_OURS: Final = re.compile(
    r"(?:localhost|127\.0\.0\.1|\[::1\]|(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.localhost)(?::([0-9]+))?",
    re.IGNORECASE | re.ASCII,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_our_host(host: str, port: int) -> bool:
    """Whether a Host header names this lab: localhost or a name below it, or loopback, with our port or none.

    A browser leaves out no port but 80, and a page of the internet bears no such name, with a port or without.
    """
    found = _OURS.fullmatch(host)
    # As text: a port of thousands of digits is not worth a number.
    return found is not None and found[1] in {None, str(port)}


def host_guard(port: int) -> Middleware:
    """Middleware that answers 421 to a request for another host."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not is_our_host(host, port):
            return web.json_response(
                {"message": f"this lab answers for localhost:{port} and names below localhost, not for {host[:200]!r}"},
                status=421,
                headers={"Connection": "close"},
            )
        return await handler(request)

    return guard
