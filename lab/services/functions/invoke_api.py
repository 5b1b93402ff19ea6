"""Lambda's Invoke API over HTTP. Source: "API_Invoke" of the Lambda API reference.

`add_routes` serves it as routes of an aiohttp application. `InvokeFront` stands before such an application's server and
answers plain invokes itself, on the same connections, for about a third less of the lab's CPU a call; whatever is not
plain (another path, a query, a body in parts) is passed to the application untouched.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.client import responses
from typing import Final, get_args

from aiohttp import web

from core import strict_json
from lab.contracts import InvocationType, Invoker, InvokeResult
from lab.dataplane.asynchronous import Fate
from lab.dataplane.rules import MAX_CLIENT_CONTEXT_BYTES, MAX_SYNCHRONOUS_PAYLOAD_BYTES, new_request_id
from lab.http.request_body import read_body

INVOKE_PATH: Final = "/2015-03-31/functions/{name:[^/]+}/invocations"  # any name reaches Lambda's own refusal
FATE_PATH: Final = "/_lab/invocations/{request_id}"
_DISCARD_BYTES: Final = 64 * 1024 * 1024
_DISCARD_S: Final = 10.0
_LOG: Final = logging.getLogger(__name__)
_TYPES: Final = get_args(InvocationType)

_PLAIN_START: Final = b"POST /2015-03-31/functions/"
_PLAIN_END: Final = "/invocations"
_PLAIN_BODY_BYTES: Final = 256 * 1024
_LENGTH: Final = re.compile(r"[0-9]{1,9}")  # Python refuses to read a number of thousands of digits
_IDLE_S: Final = 75.0  # as aiohttp's own keep-alive


def add_routes(app: web.Application, invoker: Invoker, fate_of: Callable[[str], Fate | None]) -> None:
    """Serve Invoke, and the lab's own look-up of asynchronous invokes.

    The application's `client_max_size` does not matter: bodies are read here, up to Lambda's limit.
    """

    async def invoke(request: web.Request) -> web.Response:
        payload = await read_body(request, MAX_SYNCHRONOUS_PAYLOAD_BYTES)
        if payload is None:
            return await _too_large(request)
        name, qualifier = request.match_info["name"], request.query.get("Qualifier")
        return response_of(await run_invoke(invoker, name, request.headers, qualifier, payload))

    async def look_up(request: web.Request) -> web.Response:
        request_id = request.match_info["request_id"]
        fate = fate_of(request_id)
        if fate is None:
            text = f"No asynchronous invoke {request_id[:64]!r} is known here, or it ended long ago."
            return web.json_response({"message": text}, status=404)
        return web.json_response(asdict(fate))

    app.router.add_post(INVOKE_PATH, invoke)
    app.router.add_get(FATE_PATH, look_up)


async def run_invoke(
    invoker: Invoker, name: str, headers: Mapping[str, str], qualifier: str | None, payload: bytes
) -> InvokeResult:
    """One Invoke by its HTTP parts; `headers` are looked up by lower-case names."""
    invocation_type = headers.get("x-amz-invocation-type", "RequestResponse")
    if invocation_type not in _TYPES:
        message = f"Invocation type {invocation_type!r}: {_one_of(_TYPES)}"
        return _error(400, "InvalidParameterValueException", message)
    log_type = headers.get("x-amz-log-type", "None")
    if log_type not in ("None", "Tail"):
        message = f"Log type {log_type!r}: {_one_of(('None', 'Tail'))}"
        return _error(400, "InvalidParameterValueException", message)
    context = headers.get("x-amz-client-context")
    if context is not None:
        try:
            context = _client_context(context)
        except ValueError as error:
            return _error(400, "InvalidRequestContentException", str(error))
    problem = _json_problem(payload)
    if problem:
        return _error(400, "InvalidRequestContentException", f"Could not parse request body into json: {problem}")
    return await invoker.invoke(
        name,
        payload or b"{}",
        invocation_type=invocation_type,  # type: ignore[arg-type]  # checked against the same list above
        qualifier=qualifier,
        log_tail=log_type == "Tail",
        trace_id=headers.get("x-amzn-trace-id"),
        client_context=context,
    )


def parts_of(result: InvokeResult) -> tuple[int, dict[str, str], bytes]:
    """An InvokeResult as Lambda answers it: status, headers, body."""
    headers = {"x-amzn-RequestId": result.request_id}
    if result.error_code is not None:
        body: dict[str, object] = {}
        if "reason" in result.extra:
            body["Reason"] = result.extra["reason"]
        body["Type"] = result.extra.get("type", "User")
        # Lambda's models name the field "message" or "Message"; SDKs take either.
        body["message"] = result.extra.get("message", result.error_code)
        headers["x-amzn-ErrorType"] = result.error_code
        if result.status == 429:
            headers["Retry-After"] = "1"
        return result.status, headers, json.dumps(body).encode()
    if result.status == 200:
        headers["X-Amz-Executed-Version"] = result.executed_version
    if result.function_error is not None:
        headers["X-Amz-Function-Error"] = result.function_error
    if result.log_tail:
        headers["X-Amz-Log-Result"] = base64.b64encode(result.log_tail).decode()
    return result.status, headers, result.payload


def response_of(result: InvokeResult) -> web.Response:
    """An InvokeResult as a response of aiohttp."""
    status, headers, body = parts_of(result)
    if status == 204:
        return web.Response(status=204, headers=headers)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


class InvokeFront:
    """A factory of connections that answer plain invokes and leave everything else to the application.

    Use: `loop.create_server(InvokeFront(invoker, runner.server, port), sock=listener)` in place of `web.SockSite`,
    after `await runner.setup()`; close that server and call `close()` before `runner.cleanup()`. `hosts` are the Host
    headers taken here; the application's own guard sees all others.
    """

    def __init__(self, invoker: Invoker, application: Callable[[], asyncio.BaseProtocol], port: int) -> None:
        self.invoker = invoker
        self.application = application
        self.hosts = frozenset(f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]"))
        self.connections: set[_FrontConnection] = set()

    def __call__(self) -> asyncio.Protocol:
        return _FrontConnection(self)

    def close(self) -> None:
        """Close the connections that have not been handed on."""
        for connection in list(self.connections):
            connection.close()


@dataclass(slots=True)
class _PlainRequest:
    """What is the same in all requests that one client sends over its connection."""

    head: bytes
    name: str
    headers: dict[str, str]
    body_bytes: int


class _FrontConnection(asyncio.Protocol):
    """One connection, until a request comes that is not plain: then it is the application's for good."""

    def __init__(self, front: InvokeFront) -> None:
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._last: _PlainRequest | None = None
        self._ended = False  # the client sends nothing more
        self._served = 0
        self._served_before = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a server's transport is always a Transport
        self._front.connections.add(self)
        self._timer = self._loop.call_later(_IDLE_S, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._task is None:
            self._next()

    def eof_received(self) -> bool:
        # A client that has said all it had to say still gets its answer.
        self._ended = True
        return self._task is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _leave(self) -> None:
        self._front.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_if_idle(self) -> None:
        if self._task is None and self._served == self._served_before:
            self.close()
            return
        self._served_before = self._served
        self._timer = self._loop.call_later(_IDLE_S, self._close_if_idle)

    def _next(self) -> None:
        """Begin with the request in the buffer, or hand the connection on."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n") + 4
        request = self._plain(buffer[:end]) if end >= 4 else None
        if request is None or len(buffer) - end < request.body_bytes:
            self._hand_on()
            return
        end_of_body = end + request.body_bytes
        self._buffer = buffer[end_of_body:]
        self._served += 1
        self._task = self._loop.create_task(self._answer(request, buffer[end:end_of_body]))

    def _plain(self, head: bytes) -> _PlainRequest | None:
        """The request of this head if it is a plain invoke of this lab."""
        if self._last is not None and self._last.head == head:
            return self._last
        if not head.startswith(_PLAIN_START):
            return None
        lines = head[:-4].decode("latin-1").split("\r\n")
        path, _, version = lines[0][5:].partition(" ")
        name = path[len(_PLAIN_START) - 5 :].removesuffix(_PLAIN_END)
        if version != "HTTP/1.1" or not path.endswith(_PLAIN_END) or "/" in name or "?" in path:
            return None
        headers: dict[str, str] = {}
        for line in lines[1:]:
            key, colon, value = line.partition(":")
            key = key.lower()
            if not colon or key != key.strip() or key in headers:
                return None
            headers[key] = value.strip(" \t")
        length = headers.get("content-length", "0")
        if (
            headers.get("host", "").lower() not in self._front.hosts
            or not _LENGTH.fullmatch(length)
            or int(length) > _PLAIN_BODY_BYTES
            or "transfer-encoding" in headers
            or "content-encoding" in headers
            or "expect" in headers
            or "upgrade" in headers
            or headers.get("connection", "keep-alive").lower() != "keep-alive"
        ):
            return None
        self._last = _PlainRequest(head, urllib.parse.unquote(name), headers, int(length))
        return self._last

    def _hand_on(self) -> None:
        """Give connection and data to the application's own protocol."""
        transport = self._transport
        if transport is None:
            return
        self._leave()
        protocol = self._front.application()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if isinstance(protocol, asyncio.Protocol):
            protocol.data_received(self._buffer)
            if self._ended and not protocol.eof_received():
                transport.close()

    async def _answer(self, request: _PlainRequest, payload: bytes) -> None:
        try:
            result = await run_invoke(self._front.invoker, request.name, request.headers, None, payload)
        except Exception:  # noqa: BLE001 - the caller gets a 500, whatever the fault, and not a silent connection
            _LOG.exception("an invoke of %s failed inside the lab", request.name)
            result = _error(500, "ServiceException", "The lab failed; its log says why.")
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # the client has gone; the function has run all the same
        status, headers, body = parts_of(result)
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        content = "" if status == 204 else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head = f"HTTP/1.1 {status} {responses.get(status, 'Error')}\r\n{fields}{content}\r\n"
        transport.write(head.encode("latin-1", "replace") + (b"" if status == 204 else body))
        self._task = None
        if self._buffer:
            self._next()
        elif self._ended:
            transport.close()


def _client_context(header: str) -> str:
    """The client context as the runtime gets it: JSON, in one line."""
    if len(header) > MAX_CLIENT_CONTEXT_BYTES:
        raise ValueError(f"Client context has {len(header)} bytes; at most {MAX_CLIENT_CONTEXT_BYTES} are allowed.")
    try:
        return strict_json.dumps(strict_json.loads(base64.b64decode(header, validate=True)))  # 1e999 is JSON: infinite
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"Client context must be a valid Base64-encoded JSON object: {error}") from None


def _json_problem(payload: bytes) -> str:
    """Return the JSON error, or "" if the payload is valid or empty."""
    if not payload or payload == b"{}":
        return ""
    try:
        strict_json.loads(payload)
    except ValueError as error:
        return str(error)
    return ""


def _one_of(values: tuple[str, ...]) -> str:
    return f"expected one of {', '.join(values)}"


async def _too_large(request: web.Request) -> web.Response:
    """413. Up to a bound the rest of the body is read and thrown away, so that the sender gets to read the answer."""
    discarded = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            async for part in request.content.iter_any():
                discarded += len(part)
                if discarded > _DISCARD_BYTES:
                    break
    message = f"Request must be smaller than {MAX_SYNCHRONOUS_PAYLOAD_BYTES} bytes for the InvokeFunction operation"
    response = response_of(_error(413, "RequestTooLargeException", message))
    response.force_close()
    return response


def _error(status: int, code: str, message: str) -> InvokeResult:
    return InvokeResult.refused(status, code, message, new_request_id())
