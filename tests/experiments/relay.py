"""A relay in front of a lab that a test stops or cuts in the middle of a run."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

PATIENCE_S = 900.0


class Relay:
    """Passes on every byte between a port of its own and `target`, both on loopback, until it is stopped or cut.

    `stop_at` sees each piece of a request. Once it returns True, that piece and everything after it waits: whoever
    sent it is under way for as long as the test likes.
    Only the port in the Host header is replaced: a lab refuses requests that name another host than its own.
    """

    def __init__(self, target: int, stop_at: Callable[[bytes], bool] = lambda _: False) -> None:
        self._target = target
        self._stop_at = stop_at
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._names = (f"localhost:{self.port}\r\n".encode(), f"localhost:{target}\r\n".encode())
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._stopped, self._passing = threading.Event(), threading.Event()
        self._passing.set()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def is_stopped(self) -> bool:
        """Whether a request has been the one to stop at."""
        return self._stopped.is_set()

    def wait_until_stopped(self) -> None:
        assert self._stopped.wait(PATIENCE_S), "no request was the one to stop at"

    def resume(self) -> None:
        """Pass on what waits, and everything after it."""
        self._stop_at = lambda _: False
        self._passing.set()

    def cut(self) -> None:
        """Break open connections and refuse new ones, as a lab that dies."""
        self._listener.close()
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._passing.set()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._open += [near, far]
                threading.Thread(target=self._pass_on, args=(near, far, self._wait_if_stopped), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(far, near, lambda _: None), daemon=True).start()

    def _wait_if_stopped(self, data: bytes) -> None:
        with self._lock:
            if not self._stopped.is_set() and self._stop_at(data):
                self._passing.clear()
                self._stopped.set()
        self._passing.wait()

    def _pass_on(self, source, sink, before):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                before(data)
                sink.sendall(data.replace(*self._names))
            sink.shutdown(socket.SHUT_WR)


class Seen:
    """A `stop_at` that counts pieces of requests with a marker; True from the one after the first `count` on."""

    def __init__(self, marker: bytes, count: int, then: bytes = b"") -> None:
        self._marker, self._left, self._then = marker, count, then or marker

    def __call__(self, data: bytes) -> bool:
        if self._left > 0:
            self._left -= data.count(self._marker)
            return False
        return self._then in data
