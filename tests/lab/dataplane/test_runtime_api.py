"""The Runtime API's protocol: however a request is cut, it arrives once and whole, and nothing makes it fail."""

import asyncio
import base64

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.dataplane.rules import MAX_RESPONSE_BYTES
from lab.dataplane.runtime_api import RuntimeApi

V = "/2018-06-01/runtime"


class Recorder:
    """An environment that notes what it is told and accepts it."""

    def __init__(self):
        self.calls = []

    def on_next(self, reply):
        self.calls.append(("next",))
        reply.event("Lambda-Runtime-Aws-Request-Id: 1\r\n", b"{}")

    def on_response(self, request_id, body, error, reply):
        self.calls.append(("response", request_id, body, (error.error_type, error.body) if error else None))
        reply.accepted()

    def on_response_too_large(self, request_id, reply):
        self.calls.append(("too large", request_id))
        reply.refuse(413, "RequestEntityTooLarge", "")

    def on_error(self, request_id, body, error_type, reply):
        self.calls.append(("error", request_id, body, error_type))
        reply.accepted()

    def on_init_error(self, body, error_type, reply):
        self.calls.append(("init error", body, error_type))
        reply.accepted()


def plain(path, body, extra=""):
    return f"POST {V}{path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(path, chunks, trailers=""):
    head = f"POST {V}{path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = b"".join(f"{len(chunk):X};extension\r\n".encode() + chunk + b"\r\n" for chunk in chunks if chunk)
    return head + body + b"0\r\n" + trailers.encode() + b"\r\n"


bodies = st.binary(max_size=60)
requests = st.one_of(
    st.just((f"GET {V}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode(), ("next",))),
    bodies.map(lambda body: (plain("/invocation/a/response", body), ("response", "a", body, None))),
    st.lists(bodies, max_size=5).map(
        lambda chunks: (chunked("/invocation/b/response", chunks), ("response", "b", b"".join(chunks), None))
    ),
    bodies.map(
        lambda body: (
            chunked(
                "/invocation/c/response",
                [b"half"],
                "Lambda-Runtime-Function-Error-Type: Mine\r\n"
                f"Lambda-Runtime-Function-Error-Body: {base64.b64encode(body).decode()}\r\n",
            ),
            ("response", "c", b"half", ("Mine", body)),
        )
    ),
    bodies.map(
        lambda body: (
            plain("/invocation/d/error", body, "Lambda-Runtime-Function-Error-Type: Function.Odd\r\n"),
            ("error", "d", body, "Function.Odd"),
        )
    ),
    bodies.map(lambda body: (plain("/init/error", body), ("init error", body, ""))),
)


async def talk(pieces, *, expected_answers):
    """Send pieces of bytes to a Runtime API; returns what its environment was told and what came back."""
    api, recorder = RuntimeApi(), Recorder()
    port = await api.open(recorder)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(600):
            while received.count(b"HTTP/1.1 ") < expected_answers:
                data = await reader.read(65536)
                if not data:
                    break
                received += data
    finally:
        writer.close()
        api.close_all()
    return recorder.calls, received


@settings(max_examples=60)
@given(st.lists(requests, min_size=1, max_size=6), st.lists(st.integers(1, 400), max_size=30))
def test_requests_arrive_once_whole_and_in_order_however_they_are_cut(sent, cuts):
    stream = b"".join(data for data, _ in sent)
    pieces, start = [], 0
    for cut in [*cuts, len(stream)]:
        pieces.append(stream[start : start + cut])
        start += cut
        if start >= len(stream):
            break
    else:
        pieces.append(stream[start:])
    calls, _ = asyncio.run(talk([piece for piece in pieces if piece], expected_answers=len(sent)))
    assert calls == [call for _, call in sent]


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=200).map(lambda data: data + b"\r\n\r\n"))
def test_any_bytes_are_answered_or_refused_and_never_reach_the_environment(data):
    calls, received = asyncio.run(talk([data], expected_answers=1))
    assert calls == []
    assert received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))


def test_a_body_over_the_limit_is_read_to_its_end_and_refused_plain_and_chunked():
    big = b"x" * (MAX_RESPONSE_BYTES + 1)
    after = f"GET {V}/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for request in (plain("/invocation/a/response", big), chunked("/invocation/a/response", [big[:9], big[9:]])):
        calls, received = asyncio.run(talk([request + after], expected_answers=2))
        assert calls == [("too large", "a"), ("next",)]
        assert received.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_before_it_sends_is_told_to_continue():
    request = plain("/invocation/a/response", b"body", "Expect: 100-continue\r\n")
    calls, received = asyncio.run(talk([request[:-4], request[-4:]], expected_answers=2))
    assert calls == [("response", "a", b"body", None)]
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")
