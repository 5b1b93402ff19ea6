"""aiohttp's protocol for one connection, kinder to clients and quieter about their mistakes."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from lab.http.callers_mistakes import CallersMistakes

_KEEP_ALIVE_S = 75.0  # aiohttp's default keeps half a request's head for an hour


class LabRequestHandler(web.RequestHandler):
    """Answers a client that has closed its sending side, and counts malformed requests instead of tracing them."""

    __slots__ = ("_latest_body", "_mistakes")

    def __init__(self, server: web.Server, mistakes: CallersMistakes) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None means that none is kept
            keepalive_timeout=_KEEP_ALIVE_S,
        )
        self._latest_body: StreamReader | None = None
        self._mistakes = mistakes

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._latest_body = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's returns None, which closes the connection
        """Keep the connection for the answer to a request that came whole; no other request follows."""
        is_waiting = self._waiter is not None and not self._waiter.done()
        if is_waiting or self._latest_body is None or not self._latest_body.is_eof():
            return False
        self.close()
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is no HTTP without a traceback; anything else is aiohttp's to report."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self._mistakes.count(f"{type(exc).__name__} in HTTP")
        response = web.Response(status=status, text=message, content_type="text/plain")
        response.force_close()
        return response
