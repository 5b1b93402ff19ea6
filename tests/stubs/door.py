"""A door that opens once enough calls wait at it, so that calls overlap on however busy a machine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def door(count: int) -> Iterator[int]:
    """Yield a loopback port for a stub's setting `door`: the first `count` calls wait there for each other."""

    def open_once_all_are_there() -> None:
        with contextlib.suppress(OSError):
            waiting = [listener.accept()[0] for _ in range(count)]
            for connection in waiting:
                connection.close()

    with socket.create_server(("127.0.0.1", 0), backlog=count) as listener:
        threading.Thread(target=open_once_all_are_there, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # close() alone does not wake a thread in accept()
