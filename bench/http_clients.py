"""Clients whose own cost is small and the same for every server: bare sockets, one thread."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

TIMEOUT_S = 60.0


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _head(port: int, path: str) -> str:
    """Return the head of a POST up to the number of bytes in its body."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\nContent-Length: "


class KeptConnection:
    """One connection, one request at a time."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = _connected(port)
        self._head = _head(port, path)

    def call(self, body: bytes = b"{}") -> tuple[float, int, bytes]:
        """(milliseconds, status, body) of one request."""
        request = f"{self._head}{len(body)}\r\n\r\n".encode() + body
        started = time.perf_counter()
        self._socket.sendall(request)
        received = self._socket.recv(65_536)
        while (whole := split_response(received)) is None:
            more = self._socket.recv(65_536)
            if not more:
                raise ConnectionError("the server closed the connection within an answer")
            received += more
        elapsed_ms = (time.perf_counter() - started) * 1000
        return elapsed_ms, *whole

    def close(self) -> None:
        self._socket.close()


def split_response(received: bytes) -> tuple[int, bytes] | None:
    """(status, body) of a whole response with a Content-Length or in chunks; None while it is incomplete."""
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    status = int(head[9:12])
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at >= 0:
        length = int(lower[at + 17 :].split(b"\r\n", 1)[0])
        return (status, rest[:length]) if len(rest) >= length else None
    if b"transfer-encoding: chunked" in lower:
        return (status, _unchunked(rest)) if rest.endswith(b"0\r\n\r\n") else None
    return status, b""


def _unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        body, data = body + data[:length], data[length + 2 :]
    return body


@dataclass
class SwarmResult:
    """What a swarm saw; `answers` maps the number of each request to its status and body."""

    seconds: float
    answers: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    broken: int = 0  # connections that ended or fell silent before their answer

    @property
    def ok(self) -> int:
        return sum(1 for status, _ in self.answers.values() if status == 200)


class _Lane:
    """One connection of a swarm: it sends its next request as soon as it has the answer to the last."""

    def __init__(self, port: int, requests: Iterator[tuple[int, bytes]], result: SwarmResult) -> None:
        self.connection = _connected(port)
        self._requests = requests
        self._result = result
        self._number = -1
        self._received = b""
        self._sent_at = 0.0

    def send_next(self) -> bool:
        """Send the next request; False when none is left."""
        self._number, request = next(self._requests, (-1, b""))
        if self._number < 0:
            return False
        self._received, self._sent_at = b"", time.perf_counter()
        self.connection.sendall(request)
        return True

    def receive(self) -> bool:
        """Take what has arrived and send the next request after a whole answer; False when the lane is done."""
        try:
            more = self.connection.recv(65_536)
        except OSError:
            more = b""
        self._received += more
        whole = split_response(self._received) if more else None
        if whole is None:
            self._result.broken += not more
            return bool(more)
        self._result.latencies_ms.append((time.perf_counter() - self._sent_at) * 1000)
        self._result.answers[self._number] = whole
        return self.send_next()


def swarm(
    port: int,
    path: str,
    *,
    connections: int,
    total: int,
    body: Callable[[int], bytes],
    patience_s: float = TIMEOUT_S,
) -> SwarmResult:
    """Send `total` requests over so many kept connections; those that fall silent count as broken."""
    head = _head(port, path)
    bodies = ((number, body(number)) for number in range(total))
    requests = ((number, f"{head}{len(payload)}\r\n\r\n".encode() + payload) for number, payload in bodies)
    result = SwarmResult(0.0)
    lanes = {lane.connection: lane for lane in [_Lane(port, requests, result) for _ in range(connections)]}
    with selectors.DefaultSelector() as selector:
        for connection in lanes:
            selector.register(connection, selectors.EVENT_READ)
        started = time.perf_counter()
        done = [connection for connection, lane in lanes.items() if not lane.send_next()]
        while True:
            for connection in done:
                selector.unregister(connection)
                lanes.pop(connection).connection.close()
            ready = selector.select(patience_s) if lanes else []
            if not ready:
                break
            sockets = [cast("socket.socket", key.fileobj) for key, _ in ready]
            done = [connection for connection in sockets if not lanes[connection].receive()]
        result.seconds = time.perf_counter() - started
    result.broken += len(lanes)
    for connection in lanes:
        connection.close()
    return result
