"""A GET is timed from its first byte to the answer's last, its connection apart, against real sockets."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time

import pytest

from core.aws.endpoint_access import Access
from core.configuration import GatewayTable
from experiments.aws.http_timing import Connection, get_once
from loadtests.plan import gateway_patience_s
from tests.lab_support import refusing_port

KEY = Access(key="of-this-server")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections: set

    def do_GET(self):
        self.connections.add(self.client_address)
        if self.path.startswith("/slow"):
            time.sleep(0.2)
        body = b"{}"
        self.send_response(504 if self.path.startswith("/late") else 200)
        self.send_header("Content-Length", str(len(body) + (5 if self.path.startswith("/torn") else 0)))
        self.send_header("X-Amzn-RequestId", "gateway-1")
        self.end_headers()
        self.wfile.write(body)
        if self.path.startswith(("/closing", "/torn")):
            self.close_connection = True  # without saying so, as a gateway does after an idle time

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("OwnHandler", (Handler,), {"connections": set()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        running.connections = handler.connections
        threading.Thread(target=lambda: running.serve_forever(poll_interval=0.01), daemon=True).start()
        yield running
        running.shutdown()


def test_a_new_connection_is_timed_apart_from_its_request(server):
    replies = [get_once(f"{server.url}/slow", KEY, timeout_s=30) for _ in range(2)]
    for reply in replies:
        assert reply.status == 200
        assert reply.body == b"{}"
        assert reply.headers["x-amzn-requestid"] == "gateway-1"
        assert reply.connect_ms is not None
        assert reply.latency_ms >= 200
        assert reply.answered_at - reply.sent_at == pytest.approx(reply.latency_ms / 1000)
    assert len(server.connections) == 2


def test_a_kept_connection_is_one_connection_and_has_no_set_up_time(server):
    connection = Connection(f"{server.url}/", KEY, timeout_s=30)
    with contextlib.closing(connection):
        replies = []
        for _ in range(5):
            connection.ensure()
            replies.append(connection.get())
    assert [reply.status for reply in replies] == [200] * 5
    assert {reply.connect_ms for reply in replies} == {None}
    assert len(server.connections) == 1


def test_a_kept_connection_that_the_other_side_closed_is_opened_again_off_the_clock(server):
    connection = Connection(f"{server.url}/closing", KEY, timeout_s=30)
    with contextlib.closing(connection):
        connection.ensure()
        first = connection.get()
        while connection._stands():  # the close is on its way
            time.sleep(0.01)
        connection.ensure()
        second = connection.get()
    assert [first.status, second.status] == [200, 200]
    assert second.connect_ms is None
    assert len(server.connections) == 2


def test_an_answer_of_any_status_is_an_answer(server):
    assert get_once(f"{server.url}/late", KEY, timeout_s=30).status == 504


def test_a_torn_answer_is_a_lost_connection_and_not_an_answer(server):
    reply = get_once(f"{server.url}/torn", KEY, timeout_s=30)
    assert reply.status is None
    assert "IncompleteRead" in reply.connection_error


def test_nobody_there_is_a_lost_connection_that_says_why():
    with refusing_port() as port:
        reply = get_once(f"http://127.0.0.1:{port}/", KEY, timeout_s=5)
    assert reply.status is None
    assert "ConnectionRefusedError" in reply.connection_error


def test_a_server_that_never_answers_is_given_up_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reply = get_once(f"http://127.0.0.1:{silent.getsockname()[1]}/", KEY, timeout_s=0.3)
    assert reply.status is None
    assert "TimeoutError" in reply.connection_error


def test_an_answer_is_waited_for_as_long_as_the_gateway_may_take_for_it():
    assert gateway_patience_s(GatewayTable(stage_name="v1")) == 60
    assert gateway_patience_s(GatewayTable(stage_name="v1", integration_timeout_ms=300_000)) > 300
