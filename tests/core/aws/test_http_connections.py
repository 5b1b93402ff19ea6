"""The proxy that the environment names is the one that a connection goes through."""

import base64
import http.server
import threading

import pytest

from core.aws.http_connections import connection_to

REFUSED = "Tunnel connection failed: 407"


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that notes what it is asked for, and refuses it: an error shows that it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            asked.append((self.path, self.headers.get("Proxy-Authorization")))
            self.send_error(407)

        def log_message(self, *_):
            pass

    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_an_https_connection_is_tunnelled_through_the_proxy(proxy, monkeypatch, scheme):
    address, asked = proxy
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}{address}")
    with pytest.raises(OSError, match=REFUSED):
        connection_to("https://api.example.org/v1", timeout_s=30).connect()
    assert asked == [("api.example.org:443", None)]


def test_credentials_of_the_proxy_are_sent_to_it(proxy, monkeypatch):
    address, asked = proxy
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@{address}")
    with pytest.raises(OSError, match=REFUSED):
        connection_to("https://api.example.org:8443", timeout_s=30).connect()
    assert asked == [("api.example.org:8443", f"Basic {base64.b64encode(b'me:p@ss').decode()}")]


def test_hosts_of_no_proxy_and_http_urls_are_called_directly(proxy, monkeypatch):
    address, asked = proxy
    monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
    monkeypatch.setenv("NO_PROXY", ".example.org")
    assert connection_to("https://api.example.org/v1", timeout_s=30).host == "api.example.org"
    assert connection_to("http://localhost:4566/", timeout_s=30).port == 4566
    assert asked == []


def test_a_bundle_of_ca_certificates_is_the_one_that_boto3_takes(monkeypatch, tmp_path):
    bundle = tmp_path / "ca.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(FileNotFoundError):
        connection_to("https://api.example.org", timeout_s=30)
