"""HTTP connections that obey HTTPS_PROXY, NO_PROXY and AWS_CA_BUNDLE as boto3 does; `http.client` obeys none."""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import urllib.request
from typing import Final
from urllib.parse import unquote, urlsplit

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80


def tls_context() -> ssl.SSLContext:
    """Return the context of TLS connections: it trusts AWS_CA_BUNDLE alone where that is set, else the system.

    Raises OSError where the bundle cannot be read.
    """
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)


def connection_to(url: str, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """Return an unopened connection to the host of a URL, through the proxy that the environment names for it.

    An https URL goes through a tunnel of the proxy (CONNECT). An http URL, which is a lab's, is called directly.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    tls = tls or tls_context()
    proxy = urllib.request.getproxies().get("https", "")
    if not proxy or urllib.request.proxy_bypass(host):
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=tls)
    through = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = http.client.HTTPSConnection(
        through.hostname or "", through.port or HTTP_PORT, timeout=timeout_s, context=tls
    )
    headers = {}
    if through.username:
        credentials = f"{unquote(through.username)}:{unquote(through.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    connection.set_tunnel(host, parts.port or HTTPS_PORT, headers)
    return connection
