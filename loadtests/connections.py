"""Connections to one host, opened ahead of need, so that a request waits neither for a free one nor for a handshake.

Plain `http.client` on gevent's sockets: nothing is sent twice behind our back, and the moment of sending is ours.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import gevent
import gevent.event

from core.aws.http_connections import connection_to, tls_context

# API Gateway and the lab close a connection that was idle for longer; one closed under a request would lose it.
MAX_IDLE_S: Final = 30.0
# An opener that failed tries again after this, as long as there is a need.
RETRY_OPEN_S: Final = 0.5


@dataclass
class Connection:
    """One open connection."""

    http: http.client.HTTPConnection
    connect_ms: float  # DNS, TCP and TLS
    idle_since: float = field(default_factory=time.perf_counter)

    @property
    def usable(self) -> bool:
        """False where it was idle for too long, or the other side has closed it or said something unasked."""
        sock = self.http.sock
        if sock is None or time.perf_counter() - self.idle_since > MAX_IDLE_S:
            return False
        timeout = sock.gettimeout()
        try:
            sock.settimeout(0)
            # TLS has no peeking; session tickets are read on the way, and data nobody asked for ends the connection.
            sock.recv(1) if isinstance(sock, ssl.SSLSocket) else sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            sock.settimeout(timeout)
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self.http.close()


class ConnectionPool:
    """Idle connections to the host of a URL, the one used last first; as many at once as there are requests.

    `spare` idle connections are opened ahead in the background as soon as fewer are left.
    """

    def __init__(self, url: str, *, spare: int, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise ValueError(f"expected an http or https URL, found {url!r}")
        self._url = url
        self._timeout_s = timeout_s
        self._tls = tls_context() if parts.scheme == "https" else None
        self._spare = spare
        self._idle: deque[Connection] = deque()
        self._needed = gevent.event.Event()
        self._filler: gevent.Greenlet | None = None

    def prepare(self) -> None:
        """Open the spare connections, all at once, and wait for them. Raises OSError where none can be opened."""
        first = self._open()
        self._idle.append(first)
        openers = [gevent.spawn(self._add) for _ in range(self._spare - 1)]
        gevent.joinall(openers)
        if self._filler is None:
            self._filler = gevent.spawn(self._fill)

    def take(self) -> tuple[Connection, bool]:
        """An idle connection, or a new one, and whether it had to be opened. Raises OSError."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._wake_filler()
                return connection, False
            connection.close()
        self._wake_filler()
        return self._open(), True

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        if connection.http.sock is None:  # the answer said `Connection: close`
            return
        connection.idle_since = time.perf_counter()
        self._idle.append(connection)

    def close(self) -> None:
        if self._filler is not None:
            self._filler.kill()
            self._filler = None
        while self._idle:
            self._idle.pop().close()

    def _wake_filler(self) -> None:
        if len(self._idle) < self._spare:
            self._needed.set()

    def _fill(self) -> None:
        while True:
            self._needed.wait()
            self._needed.clear()
            while self._idle and time.perf_counter() - self._idle[0].idle_since > MAX_IDLE_S:
                self._idle.popleft().close()
            missing = self._spare - len(self._idle)
            if missing > 0:
                gevent.joinall([gevent.spawn(self._add) for _ in range(missing)])

    def _add(self) -> None:
        # A request that finds no spare opens its own and reports what went wrong; here there is nobody to tell.
        try:
            self._idle.appendleft(self._open())
        except OSError:
            gevent.sleep(RETRY_OPEN_S)

    def _open(self) -> Connection:
        started = time.perf_counter()
        opened = connection_to(self._url, timeout_s=self._timeout_s, tls=self._tls)
        opened.connect()
        # A small request must not wait for the acknowledgement of the one before (Nagle).
        opened.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Connection(opened, connect_ms=(time.perf_counter() - started) * 1000)
