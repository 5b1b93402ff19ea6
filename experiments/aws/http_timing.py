"""Time one HTTP GET: connection set-up and request separately."""

from __future__ import annotations

import contextlib
import http.client
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from core.aws.endpoint_access import Access, headers_of
from core.aws.http_connections import connection_to


@dataclass(frozen=True)
class Reply:
    """The answer to one GET, or the error."""

    sent_at: float
    answered_at: float
    latency_ms: float  # request sent to last byte of the answer
    connect_ms: float | None  # name look-up, TCP and TLS; None where the connection stood already
    status: int | None = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)  # by lower-case names
    connection_error: str = ""


class Connection:
    """A connection to one REST endpoint, kept open between requests until told otherwise."""

    def __init__(self, url: str, access: Access, *, timeout_s: float) -> None:
        self._path = urlsplit(url).path
        self._headers = headers_of(access, url)
        self._connection = connection_to(url, timeout_s=timeout_s)

    def get(self) -> Reply:
        """Send a GET and read the whole answer; never raises for what it met on its way.

        Raises CloudError where there are no credentials to sign it with.
        """
        headers, connect_ms = self._headers(), None
        fields: dict[str, Any]
        sent_at, sent = time.time(), time.perf_counter()
        try:
            if not self._stands():
                self._connection.close()
                self._connection.connect()
                connect_ms = (time.perf_counter() - sent) * 1000
                sent_at, sent = time.time(), time.perf_counter()
            self._connection.request("GET", self._path, headers=headers)
            answer = self._connection.getresponse()
            fields = {"status": answer.status, "body": answer.read()}
            ended = time.perf_counter()
            fields["headers"] = {name.lower(): value for name, value in answer.getheaders()}
        except (OSError, http.client.HTTPException) as error:
            ended = time.perf_counter()
            self._connection.close()
            fields = {"connection_error": f"{type(error).__name__}: {error}"}
        return Reply(
            sent_at=sent_at,
            answered_at=sent_at + (ended - sent),
            latency_ms=(ended - sent) * 1000,
            connect_ms=connect_ms,
            **fields,
        )

    def ensure(self) -> None:
        """Open the connection ahead of a request that is to find it standing; a failure shows in that request."""
        if not self._stands():
            self._connection.close()
            try:
                self._connection.connect()
            except OSError:
                self._connection.close()

    def close(self) -> None:
        self._connection.close()

    def _stands(self) -> bool:
        """Whether the connection is open; a readable idle one was closed by the other side."""
        sock = self._connection.sock
        if sock is None:
            return False
        try:
            return not select.select([sock], [], [], 0)[0]
        except (OSError, ValueError):
            return False


def get_once(url: str, access: Access, *, timeout_s: float) -> Reply:
    """A GET over a new connection, closed after it."""
    with contextlib.closing(Connection(url, access, timeout_s=timeout_s)) as connection:
        return connection.get()
