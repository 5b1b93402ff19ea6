"""A short way for the commonest request: a synchronous Invoke, whole in one segment, on a kept connection.

A general HTTP server costs a quarter of the lab's own time per call, and that time is part of every latency that is
measured here. What this does not know for certain (another API, an option of Invoke, a body in parts, a payload that is
no JSON) goes to aiohttp as it came, so nothing is answered in two ways: see `_simple_invoke`.
"""

from __future__ import annotations

import asyncio
import json
import re
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web

from lab.contracts import Invoker, InvokeResult
from lab.dataplane.rules import MAX_SYNCHRONOUS_PAYLOAD_BYTES
from lab.host_guard import is_our_host
from lab.invoke_api import response_of

_START: Final = b"POST /2015-03-31/functions/"
_REQUEST_LINE: Final = re.compile(rb"POST /2015-03-31/functions/([A-Za-z0-9_-]{1,64})/invocations HTTP/1\.1")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)")
# Headers of whom nothing here depends; any other that Invoke or HTTP gives a meaning sends a request the long way.
_MEANING: Final = (
    b"x-amz-invocation-type",
    b"x-amz-log-type",
    b"x-amz-client-context",
    b"transfer-encoding",
    b"content-encoding",
    b"expect",
    b"upgrade",
    b"connection",
)
_HARMLESS: Final = {
    b"x-amz-invocation-type": b"requestresponse",
    b"x-amz-log-type": b"none",
    b"connection": b"keep-alive",
}


class SimpleInvoke(NamedTuple):
    """What a simple Invoke asks for."""

    name: str
    payload: bytes
    trace_id: str | None


class InvokeServer:
    """Makes the lab's connections: `loop.create_server(InvokeServer(...), ...)` in the place of aiohttp's own site."""

    def __init__(self, server: web.Server, invoker: Invoker, port: int) -> None:
        self.server = server
        self.invoker = invoker
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._known_hosts: set[bytes] = set()
        self._date = (0, b"")

    def __call__(self) -> InvokeConnection:
        return InvokeConnection(self, self._loop)

    def is_ours(self, host: bytes) -> bool:
        """Whether a Host header names this lab; the guard's answer is remembered for hosts that do."""
        if host in self._known_hosts:
            return True
        ours = is_our_host(host.decode("latin-1"), self._port)
        if ours and len(self._known_hosts) < 100:
            self._known_hosts.add(host)
        return ours

    def date(self) -> bytes:
        """The Date header's value, made once a second."""
        now = int(self._loop.time())
        if self._date[0] != now:
            self._date = (now, formatdate(usegmt=True).encode("ascii"))
        return self._date[1]


class InvokeConnection(web.RequestHandler):
    """aiohttp's connection, but for simple Invokes while aiohttp has nothing under way."""

    def __init__(self, owner: InvokeServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(owner.server, loop=loop, access_log=None)  # type: ignore[arg-type]  # aiohttp takes None
        self._owner = owner
        self._held = b""  # what came while a simple Invoke runs
        self._invoking: asyncio.Task[None] | None = None
        self._long_way = False  # for good: aiohttp may hold a part of a request
        self._closing_after_answer = False

    def data_received(self, data: bytes) -> None:
        if self._invoking is not None:
            self._held += data
            return
        if not self._long_way:
            idle = self._waiter is not None and not self._waiter.done() and not self._messages
            whole = _whole_request(data)
            if whole is None:
                self._long_way = True
            elif idle and data.startswith(_START):
                request = _simple_invoke(data, whole, self._owner)
                if request is not None:
                    self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                    self._invoking = self._loop.create_task(self._invoke(request))
                    return
        super().data_received(data)

    def close(self) -> None:
        """Stop to take requests; a simple Invoke that runs is answered first."""
        if self._invoking is not None:
            self._closing_after_answer = True
        else:
            super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's own signature
        """Wait for what runs, at most `timeout` seconds, then close."""
        if self._invoking is not None:
            await asyncio.wait([self._invoking], timeout=timeout)
        await super().shutdown(timeout)

    async def _invoke(self, request: SimpleInvoke) -> None:
        try:
            result = await self._owner.invoker.invoke(request.name, request.payload, trace_id=request.trace_id)
            if self.transport is not None:
                self.transport.write(_encode(result, self._owner.date()))
        finally:
            self._invoking = None
        if self._closing_after_answer:
            super().close()
            return
        held, self._held = self._held, b""
        if held and self.transport is not None:
            self.data_received(held)


def _whole_request(data: bytes) -> int | None:
    """Where the body of a request starts, if the data is one whole request with a Content-Length and nothing else."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        chunked = b"\r\ntransfer-encoding:" in head
        return None if chunked or len(data) != end + 4 else end + 4
    length = head[at + 17 :].split(b"\r\n", 1)[0].strip()
    if not length.isdigit() or head.count(b"\r\ncontent-length:") != 1:
        return None
    return end + 4 if len(data) == end + 4 + int(length) else None


def _simple_invoke(data: bytes, body_at: int, owner: InvokeServer) -> SimpleInvoke | None:
    """The Invoke that a request asks for, if it is a simple one; None sends it the long way."""
    lines = data[: body_at - 4].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None or len(data) - body_at > MAX_SYNCHRONOUS_PAYLOAD_BYTES:
        return None
    host = trace_id = None
    for text in lines[1:]:
        header = _HEADER.fullmatch(text)
        if header is None:
            return None
        name, value = header[1].lower(), header[2].strip()
        if name in _MEANING and value.lower() != _HARMLESS.get(name):
            return None
        if name == b"host":
            if host is not None:
                return None
            host = value
        elif name == b"x-amzn-trace-id":
            trace_id = value.decode("ascii")
    if host is None or not owner.is_ours(host):
        return None
    payload = data[body_at:]
    if payload:
        try:
            json.loads(payload)
        except (ValueError, RecursionError):
            return None
    return SimpleInvoke(line[1].decode("ascii"), payload or b"{}", trace_id)


def _encode(result: InvokeResult, date: bytes) -> bytes:
    """The bytes of the answer; the same that `lab.invoke_api` gives through aiohttp."""
    if result.status == 200 and result.error_code is None and result.function_error is None:
        return b"".join(
            (
                b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: ",
                result.request_id.encode("ascii"),
                b"\r\nX-Amz-Executed-Version: ",
                result.executed_version.encode("ascii"),
                b"\r\nContent-Type: application/json\r\nContent-Length: ",
                str(len(result.payload)).encode("ascii"),
                b"\r\nDate: ",
                date,
                b"\r\n\r\n",
                result.payload,
            )
        )
    response = response_of(result)
    body = response.body if isinstance(response.body, bytes) else b""
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items() if name != "Content-Length")
    head = f"HTTP/1.1 {result.status} {_reason(result.status)}\r\n{headers}Content-Length: {len(body)}\r\n"
    return head.encode("latin-1") + b"Date: " + date + b"\r\n\r\n" + body


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
