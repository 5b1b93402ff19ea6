"""The Lambda Runtime API over HTTP/1.1, on one loopback port per environment, as the guest has on Lambda.

Written on `asyncio.Protocol`, since it is in the path of every invocation twice: a general HTTP server costs more
than the invocation itself. It takes what the API needs: requests with Content-Length or chunked bodies, kept
connections, pipelined requests one after another, `Expect: 100-continue`, and trailers of a response that fails while
it is streamed. One port for all with a path prefix each would do for most calls, but awslambdaric cannot send an init
error to such an address.
Source: "Using the Lambda runtime API for custom runtimes" and its OpenAPI description, version 2018-06-01.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import socket
from dataclasses import dataclass
from http.client import responses
from typing import Final, Protocol

from lab.dataplane.rules import MAX_RESPONSE_BYTES

API_VERSION: Final = "2018-06-01"
_MAX_HEAD_BYTES: Final = 2 * 1024 * 1024  # awslambdaric sends up to 1 MB of X-Ray error cause as a header
_LENGTH: Final = re.compile(r"[0-9]{1,18}")  # Python refuses to read a number of thousands of digits
_FIRST_REQUEST_S: Final = 30.0
_ACCEPTED: Final = (
    b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
)


class Reply:
    """The answer to one request; sent at once or later, at most once."""

    __slots__ = ("_connection",)

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection

    def _answer(self, response: bytes) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.answer(response)

    def accepted(self) -> None:
        """202, the answer to a response or an error that was taken."""
        self._answer(_ACCEPTED)

    def restored(self) -> None:
        """200 without a body: the answer to `restore/next`."""
        self._answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def event(self, headers: str, payload: bytes) -> None:
        """200 with an event: the answer to `next`. `headers` are lines that end in CRLF."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(payload)}\r\n\r\n"
        self._answer(head.encode("latin-1", "replace") + payload)

    def refuse(self, status: int, error_type: str, message: str) -> None:
        """An error in the API's own form."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.refuse(status, error_type, message)

    @property
    def alive(self) -> bool:
        """Whether there still is somebody to answer."""
        return self._connection is not None and not self._connection.closed


class RuntimeEndpoint(Protocol):
    """One environment, as its runtime talks to it."""

    def on_next(self, reply: Reply) -> None: ...

    def on_response(self, request_id: str, body: bytes, error: StreamError | None, reply: Reply) -> None:
        """The function's answer; with `error` it failed while streaming it."""
        ...

    def on_response_too_large(self, request_id: str, reply: Reply) -> None: ...

    def on_error(self, request_id: str, body: bytes, error_type: str, reply: Reply) -> None: ...

    def on_init_error(self, body: bytes, error_type: str, reply: Reply) -> None: ...

    def on_restore_next(self, reply: Reply) -> None:
        """Init and the before-snapshot hooks are over; the answer comes when the environment is restored."""
        ...

    def on_restore_error(self, body: bytes, error_type: str, reply: Reply) -> None: ...


@dataclass(slots=True)
class StreamError:
    """The error that the trailers of a chunked response carry."""

    error_type: str
    body: bytes


class _MalformedError(Exception):
    """A request that is no HTTP/1.1, or more of it than is taken."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RuntimeApi:
    """The servers, one for each environment."""

    def __init__(self) -> None:
        self._servers: dict[int, tuple[asyncio.Server, set[_Connection]]] = {}

    async def open(self, endpoint: RuntimeEndpoint) -> int:
        """Serve an environment; returns the port. Raises OSError where there is no descriptor for a socket."""
        connections: set[_Connection] = set()
        loop = asyncio.get_running_loop()
        # Our own socket: asyncio would skip one that it cannot create, and listen nowhere.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(("127.0.0.1", 0))
            server = await loop.create_server(lambda: _Connection(endpoint, connections), sock=listener)
        except OSError:
            listener.close()
            raise
        port: int = listener.getsockname()[1]
        self._servers[port] = server, connections
        return port

    def close(self, port: int) -> None:
        """Stop serving an environment and close its connections; a port that is not open is no error."""
        if port in self._servers:
            server, connections = self._servers.pop(port)
            server.close()
            for connection in list(connections):
                connection.close()

    def close_all(self) -> None:
        for port in list(self._servers):
            self.close(port)


class _Connection(asyncio.Protocol):
    """One connection: reads a request, hands it on, waits for its answer, then takes the next."""

    def __init__(self, endpoint: RuntimeEndpoint, connections: set[_Connection]) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answering = False
        self._request: _Request | None = None
        self._closing_after_answer = False
        self._patience: asyncio.TimerHandle | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a server's transport is always a Transport
        self._connections.add(self)
        self._patience = asyncio.get_running_loop().call_later(_FIRST_REQUEST_S, self.close)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True
        self._connections.discard(self)
        self._forget_patience()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._answering:
            self._advance()

    def answer(self, response: bytes) -> None:
        if self.closed or self._transport is None:
            return
        self._transport.write(response)
        self._answering = False
        if self._closing_after_answer:
            self._transport.close()
        elif self._buffer:
            self._advance()

    def refuse(self, status: int, error_type: str, message: str, *, close: bool = False) -> None:
        body = json.dumps({"errorMessage": message, "errorType": error_type}).encode()
        self._closing_after_answer = self._closing_after_answer or close
        head = (
            f"HTTP/1.1 {status} {responses.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n"
        )
        self.answer(head.encode() + body)

    def _forget_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _advance(self) -> None:
        try:
            if self._request is None:
                self._request = self._read_head()
                if self._request is None:
                    return
                if self._request.expects_continue and self._transport is not None:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = self._request
            if not request.read_body(self._buffer):
                return
        except _MalformedError as error:
            self._answering = True
            self._buffer.clear()
            self.refuse(error.status, "InvalidRequest", str(error), close=True)
            return
        self._request = None
        self._answering = True
        self._closing_after_answer = request.close
        self._forget_patience()
        self._dispatch(request, Reply(self))

    def _read_head(self) -> _Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise _MalformedError(431, f"more than {_MAX_HEAD_BYTES} bytes of headers")
            return None
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return _Request(head.decode("latin-1"))

    def _dispatch(self, request: _Request, reply: Reply) -> None:
        endpoint = self._endpoint
        match request.path.split("/")[1:], request.method:
            case [version, "runtime", "invocation", "next"], "GET" if version == API_VERSION:
                endpoint.on_next(reply)
            case [version, "runtime", "invocation", request_id, "response"], "POST" if version == API_VERSION:
                if request.too_large:
                    endpoint.on_response_too_large(request_id, reply)
                else:
                    endpoint.on_response(request_id, request.body(), request.stream_error(), reply)
            case [version, "runtime", "invocation", request_id, "error"], "POST" if version == API_VERSION:
                endpoint.on_error(request_id, request.body(), request.error_type, reply)
            case [version, "runtime", "init", "error"], "POST" if version == API_VERSION:
                endpoint.on_init_error(request.body(), request.error_type, reply)
            case [version, "runtime", "restore", "next"], "GET" if version == API_VERSION:
                endpoint.on_restore_next(reply)
            case [version, "runtime", "restore", "error"], "POST" if version == API_VERSION:
                endpoint.on_restore_error(request.body(), request.error_type, reply)
            case (
                (
                    ([_, "runtime", "invocation" | "restore", "next"] | [_, "runtime", "init" | "restore", "error"])
                    | [_, "runtime", "invocation", _, "response" | "error"]
                ),
                method,
            ) if request.path.startswith(f"/{API_VERSION}/"):
                reply.refuse(405, "MethodNotAllowed", f"{method} is not a method of {request.path[:200]}")
            case _:
                reply.refuse(404, "NotFound", f"no such call: {request.path[:200]}")


class _Request:
    """One request as it is read. A body over Lambda's limit is read to its end and thrown away."""

    __slots__ = (
        "_chunk_left",
        "_chunked",
        "_length",
        "_parts",
        "_seen",
        "_trailers",
        "close",
        "error_type",
        "expects_continue",
        "method",
        "path",
    )

    def __init__(self, head: str) -> None:
        lines = head.split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _MalformedError(400, "the request line is not METHOD PATH HTTP/1.1")
        self.method, self.path = words[0], words[1].partition("?")[0]
        self.close = words[2] == "HTTP/1.0"
        self.error_type = ""
        self.expects_continue = False
        self._chunked = False
        self._length = 0
        self._chunk_left = -1  # -1: a chunk's size line comes next, -2: the trailers come next
        self._parts = bytearray()
        self._seen = 0
        self._trailers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise _MalformedError(400, "a header line has no colon")
            self._take_header(name.lower(), value.strip())
        if self._chunked:
            self._length = 0

    def _take_header(self, name: str, value: str) -> None:
        if name == "content-length":
            if not _LENGTH.fullmatch(value):
                raise _MalformedError(400, f"Content-Length is {value[:40]!r}, not a number")
            self._length = int(value)
        elif name == "transfer-encoding":
            if value.lower() != "chunked":
                raise _MalformedError(501, f"Transfer-Encoding {value[:40]!r} is not taken, chunked is")
            self._chunked = True
        elif name == "expect":
            self.expects_continue = value.lower() == "100-continue"
        elif name == "connection":
            self.close = self.close or value.lower() == "close"
        elif name == "lambda-runtime-function-error-type":
            self.error_type = value

    @property
    def too_large(self) -> bool:
        return self._seen > MAX_RESPONSE_BYTES

    def body(self) -> bytes:
        return bytes(self._parts)

    def stream_error(self) -> StreamError | None:
        """What the trailers say of a response that failed on its way."""
        error_type = self._trailers.get("lambda-runtime-function-error-type")
        if error_type is None:
            return None
        try:
            body = base64.b64decode(self._trailers.get("lambda-runtime-function-error-body", ""), validate=True)
        except (binascii.Error, ValueError):
            body = b""
        return StreamError(error_type, body)

    def read_body(self, buffer: bytearray) -> bool:
        """Take the body from the buffer; True when it is complete."""
        if not self._chunked:
            return self._read_plain(buffer)
        while True:
            if self._chunk_left == -2:
                return self._read_trailers(buffer)
            if self._chunk_left < 0:
                end = buffer.find(b"\r\n")
                if end < 0:
                    if len(buffer) > 4096:
                        raise _MalformedError(400, "a chunk has no size")
                    return False
                size = bytes(buffer[:end]).partition(b";")[0].strip()
                del buffer[: end + 2]
                try:
                    self._chunk_left = int(size, 16) + 2  # its own CRLF
                except ValueError:
                    raise _MalformedError(400, "a chunk's size is not hexadecimal") from None
                if self._chunk_left < 2:
                    raise _MalformedError(400, "a chunk's size is below 0")
                if self._chunk_left == 2:
                    self._chunk_left = -2
                continue
            taken = min(len(buffer), self._chunk_left)
            payload = min(taken, max(0, self._chunk_left - 2))
            self._keep(buffer, payload)
            del buffer[:taken]
            self._chunk_left -= taken
            if self._chunk_left > 0:
                return False
            self._chunk_left = -1

    def _read_plain(self, buffer: bytearray) -> bool:
        taken = min(len(buffer), self._length - self._seen)
        self._keep(buffer, taken)
        del buffer[:taken]
        return self._seen >= self._length

    def _read_trailers(self, buffer: bytearray) -> bool:
        while True:
            end = buffer.find(b"\r\n")
            if end < 0:
                if len(buffer) > _MAX_HEAD_BYTES:
                    raise _MalformedError(431, "the trailers are too long")
                return False
            line = bytes(buffer[:end]).decode("latin-1")
            del buffer[: end + 2]
            if not line:
                return True
            name, _, value = line.partition(":")
            self._trailers[name.lower()] = value.strip()

    def _keep(self, buffer: bytearray, count: int) -> None:
        if self._seen <= MAX_RESPONSE_BYTES:
            self._parts += buffer[:count]
        self._seen += count
        if self._seen > MAX_RESPONSE_BYTES:
            self._parts.clear()
