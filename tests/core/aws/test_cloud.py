"""The way to AWS and to a lab: what is wrong with it is named with what to do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from core.aws.cloud import Cloud
from core.errors import CloudError


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port on loopback that answers whatever it is asked with these bytes."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["nothing", "another protocol", "half an answer", "no UTF-8", "no facts", "another server"],
)
def test_an_address_where_no_lab_answers_is_named_with_what_to_do(answer, monkeypatch):
    with answering(answer) as port:
        url = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(CloudError, match="no lab answers there") as refused:
            Cloud().endpoint_facts()
    assert url in refused.value.message
    assert "inference-lab lab serve" in refused.value.hint


@pytest.mark.parametrize("url", ["localhost", "http://", "http://localhost:port", "http://local host:4566", "://"])
def test_an_address_that_is_none_is_named_with_what_to_do(url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(CloudError, match="no lab answers there") as refused:
        Cloud().endpoint_facts()
    assert "inference-lab lab serve" in refused.value.hint
