"""Clients whose own cost is small and the same for every server: bare sockets, one thread."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

TIMEOUT_S = 60.0


class KeptConnection:
    """One connection, one request at a time."""

    def __init__(self, port: int, path: str, *, host: str = "localhost", method: str = "POST") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"

    def call(self, body: bytes = b"{}") -> tuple[float, int, bytes]:
        """(milliseconds, status, body) of one request."""
        request = f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body
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


@dataclass
class _Lane:
    connection: socket.socket
    number: int = -1
    received: bytes = b""
    sent_at: float = 0.0


def swarm(
    port: int,
    path: str,
    *,
    connections: int,
    total: int,
    body: Callable[[int], bytes],
    patience_s: float = TIMEOUT_S,
) -> SwarmResult:
    """Send `total` requests over so many kept connections, each sending its next as soon as it has its answer."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    numbers: Iterator[int] = iter(range(total))
    selector = selectors.DefaultSelector()
    result = SwarmResult(0.0)

    def send_next(lane: _Lane) -> bool:
        lane.number = next(numbers, -1)
        if lane.number < 0:
            return False
        payload = body(lane.number)
        lane.received, lane.sent_at = b"", time.perf_counter()
        lane.connection.sendall(f"{head}{len(payload)}\r\n\r\n".encode() + payload)
        return True

    def end(lane: _Lane, *, broken: bool) -> None:
        selector.unregister(lane.connection)
        lane.connection.close()
        result.broken += broken

    lanes = []
    for _ in range(connections):
        lane = _Lane(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S))
        lane.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(lane.connection, selectors.EVENT_READ, lane)
        lanes.append(lane)
    started = time.perf_counter()
    for lane in lanes:
        if not send_next(lane):
            end(lane, broken=False)
    while selector.get_map():
        ready = selector.select(patience_s)
        if not ready:
            for key in list(selector.get_map().values()):
                end(key.data, broken=True)
            break
        for key, _ in ready:
            lane = key.data
            try:
                more = lane.connection.recv(65_536)
            except OSError:
                more = b""
            lane.received += more
            whole = split_response(lane.received) if more else None
            if whole is not None:
                result.latencies_ms.append((time.perf_counter() - lane.sent_at) * 1000)
                result.answers[lane.number] = whole
                if not send_next(lane):
                    end(lane, broken=False)
            elif not more:
                end(lane, broken=True)
    result.seconds = time.perf_counter() - started
    return result
