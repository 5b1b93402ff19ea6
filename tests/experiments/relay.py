"""A relay in front of a lab that can be cut, as a lab that dies: open connections break, new ones are refused."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Passes on every byte between `port` and `target`, both on loopback, until it is cut.

    Only the port in the Host header is replaced: a lab refuses requests that name another host than its own.
    """

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._names = (f"localhost:{port}\r\n".encode(), f"localhost:{target}\r\n".encode())
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    def cut(self) -> None:
        self._listener.close()
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

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
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data.replace(*self._names))
            sink.shutdown(socket.SHUT_WR)
