"""The front that answers plain invokes itself: whatever is sent, the answer is the one that the application gives."""

import asyncio
import contextlib
import itertools
import json
import re
import socket

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.contracts import InvokeResult
from lab.http.host_header import host_guard
from lab.services.functions.invoke_api import InvokeFront, add_routes

PATH = "/2015-03-31/functions/{}/invocations"


class Functions:
    """The contract's Invoker: answers at once, and notes what it was asked."""

    def __init__(self):
        self.calls = []
        self.gate = None
        self.called = asyncio.Event()

    async def invoke(self, name_or_arn, payload, **options):
        self.calls.append(
            (name_or_arn, payload, {k: v for k, v in options.items() if v not in (None, False, "RequestResponse")})
        )
        self.called.set()
        if self.gate is not None:
            await self.gate.wait()
        if name_or_arn == "missing":
            extra = {"message": "Function not found", "type": "User"}
            return InvokeResult(404, b"", "id", error_code="ResourceNotFoundException", extra=extra)
        if name_or_arn == "busy":
            extra = {"message": "Rate Exceeded.", "type": "User", "reason": "ReservedFunctionConcurrentInvocation"}
            return InvokeResult(429, b"", "id", error_code="TooManyRequestsException", extra=extra)
        if name_or_arn == "broken":
            return InvokeResult(200, b'{"errorType":"E"}', "id", function_error="Unhandled")
        return InvokeResult(200, payload, "id")


@contextlib.asynccontextmanager
async def both_ways():
    """Ports of the same application behind the front and behind aiohttp's own site, and what is behind them."""
    functions = [Functions(), Functions()]
    ports, listeners, runners = [], [], []
    for number, invoker in enumerate(functions):
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        app = web.Application(middlewares=[host_guard(port)])
        add_routes(app, invoker, lambda _: None)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
        await runner.setup()
        if number == 0:
            factory = InvokeFront(invoker, runner.server, port)
            listeners.append(await asyncio.get_running_loop().create_server(factory, sock=listener))
        else:
            await web.SockSite(runner, listener).start()
        ports.append(port)
        runners.append(runner)
    try:
        yield ports, functions, runners[0]
    finally:
        for server in listeners:
            server.close()
        for runner in runners:
            await runner.cleanup()


def parse(answer):
    """(status, what a client reads of the headers, body) of each response in a stream of bytes."""
    found = []
    while answer:
        head, separator, rest = answer.partition(b"\r\n\r\n")
        assert separator, answer
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        length = int(headers.pop("content-length", 0))
        headers = {k: v for k, v in headers.items() if k.startswith("x-am") or k == "retry-after"}
        found.append((int(lines[0].split()[1]), headers, rest[:length]))
        answer = rest[length:]
    return found


def without_ids(answers):
    """Without what differs by nature: ids that aiohttp's side makes for what it refuses itself, and the port."""
    return [
        (status, {k: v for k, v in headers.items() if k != "x-amzn-requestid"}, re.sub(rb"localhost:\d+", b"", body))
        for status, headers, body in answers
    ]


def count(answer):
    """How many whole responses there are; all of these have a Content-Length."""
    number = 0
    while True:
        head, separator, rest = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not separator or length is None or len(rest) < int(length[1]):
            return number
        number, answer = number + 1, rest[int(length[1]) :]


async def send(port, parts, expected=1):  # PPORT is as long as a port: a length stays what it was
    """Send the parts one after another; what came back, once so many responses are there or the connection ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part.replace(b"PPORT", str(port).encode()))
            await writer.drain()
            await asyncio.sleep(0)
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while count(answer) < expected and (chunk := await asyncio.wait_for(reader.read(65_536), 30)):
            answer += chunk
    writer.close()
    return answer


def http(name="f", *, body=b"{}", headers=(), path=None, length=None):
    lines = [f"POST {path or PATH.format(name)} HTTP/1.1", "Host: localhost:PPORT", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def compare(parts, expected=1):
    async with both_ways() as (ports, functions, _):
        short, long = [await send(port, parts, expected) for port in ports]
        assert without_ids(parse(short)) == without_ids(parse(long))
        assert functions[0].calls == functions[1].calls
        return parse(short), functions[0].calls


@pytest.mark.parametrize(
    "request_bytes",
    [
        http(),
        http(body=b""),
        http(body=b'{"a": [1, 2, "\xc3\xa9"]}'),
        http(body=b"not json"),
        http(body=b"[" * 50_000),
        http("missing"),
        http("busy"),
        http("broken"),
        http(headers=["X-Amz-Invocation-Type: RequestResponse"]),
        http(headers=["X-Amz-Invocation-Type: Event"]),
        http(headers=["X-Amz-Invocation-Type: Nonsense"]),
        http(headers=["X-Amz-Log-Type: Tail"]),
        http(headers=["X-Amz-Client-Context: e30="]),
        http(headers=["X-Amzn-Trace-Id: Root=1-2-3"]),
        http(headers=["Connection: keep-alive"]),
        http(path=PATH.format("f") + "?Qualifier=1"),
        http(path=PATH.format("arn:aws:lambda:us-east-1:123456789012:function:f")),
        http(path="/2015-03-31/functions/f/nothing"),
        http(body=b"x" * 7_000_000),
        http().replace(b"Host: localhost:PPORT", b"Host: evil.example"),
        http().replace(b"Host: localhost:PPORT", b"Host: localhost:PPORT\r\nHost: evil.example"),
        http().replace(b"HTTP/1.1", b"HTTP/1.0"),
        http().replace(b"Content-Length: 2", b"content-length:2"),
    ],
)
def test_a_request_gets_the_same_answer_either_way(request_bytes):
    answers, _ = asyncio.run(compare([request_bytes]))
    assert len(answers) == 1


NOT_JSON = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b'{"a": [1, {"b": NaN}]}',
    b'{"NaN": -Infinity}',
    b"nan",
    b"+1",
    b"01",
    b".5",
    b"'a'",
    b"\xff",
    '{"a": 1}'.encode("utf-16"),
]


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
@pytest.mark.parametrize("payload", NOT_JSON)
def test_a_payload_that_is_not_json_is_refused_as_lambda_words_it(payload, kind):
    request = http(body=payload, headers=[f"X-Amz-Invocation-Type: {kind}"])
    ((status, headers, answer),), calls = asyncio.run(compare([request]))
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")
    assert json.loads(answer)["message"].startswith("Could not parse request body into json: ")
    assert json.loads(answer)["Type"] == "User"
    assert calls == []


@pytest.mark.parametrize(
    "payload", [b"1e999", b'{"a": -1e999}', b'{"NaN": "Infinity"}', b"123456789012345678901234567890"]
)
def test_a_payload_that_is_json_reaches_the_function_as_it_was_sent(payload):
    """Numbers of JSON have no largest one (RFC 8259, section 6), so 1e999 is for the function's own parser."""
    ((status, _, answer),), calls = asyncio.run(compare([http(body=payload)]))
    assert (status, answer) == (200, payload)
    assert calls == [("f", payload, {})]


@settings(max_examples=60)
@given(
    requests=st.lists(
        st.tuples(st.sampled_from(["f", "missing", "broken"]), st.sampled_from([b"{}", b"", b'{"k": "v"}', b"nope"])),
        min_size=1,
        max_size=4,
    ),
    cuts=st.lists(st.integers(1, 400), max_size=4),
)
def test_requests_that_follow_one_another_are_answered_in_order_however_they_are_cut(requests, cuts):
    data = b"".join(http(name, body=body) for name, body in requests)
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    parts = [data[first:last] for first, last in itertools.pairwise(edges)]
    answers, _ = asyncio.run(compare(parts, len(requests)))
    assert len(answers) == len(requests)


def test_a_body_that_looks_like_an_invoke_is_a_body():
    inner = http("missing")
    outer = http("f", body=json.dumps({"x": "y" * 10}).encode(), length=len(inner))[: -len(b'{"x": "yyyyyyyyyy"}')]
    answers, calls = asyncio.run(compare([outer, inner]))
    assert [status for status, _, _ in answers] == [400]
    assert calls == []


def test_a_caller_that_goes_away_does_not_disturb_the_next():
    async def main():
        async with both_ways() as (ports, functions, _):
            functions[0].gate = asyncio.Event()
            _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
            writer.write(http().replace(b"PPORT", str(ports[0]).encode()))
            await functions[0].called.wait()
            writer.transport.abort()
            # As a rule the front sees it go within this time; the answer to the next one is the same if it does not.
            await asyncio.sleep(0.05)
            functions[0].gate.set()
            return parse(await send(ports[0], [http()]))

    assert asyncio.run(main())[0][0] == 200
