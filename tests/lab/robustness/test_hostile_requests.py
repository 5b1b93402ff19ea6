"""Requests that no well-behaved client sends, to a whole lab over real sockets."""

import contextlib
import json
import socket
import string
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.robustness.support import invoke, wait_until

FUZZ = settings(max_examples=60)
TWENTY_MB = b"x" * 20_000_000


def exchange(lab, data, *, seconds=60):
    """Everything the lab sends back until it closes or has answered once."""
    bodiless = data.startswith(b"HEAD ")
    with socket.create_connection(("127.0.0.1", lab.port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):  # the lab may refuse before it has read all
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(OSError):
            while not complete(answer, bodiless=bodiless) and (chunk := connection.recv(65_536)):
                answer += chunk
        return answer


def complete(answer, *, bodiless):
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator or bodiless:
        return bool(separator)
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


def request(lab, method, path, *, headers=(), body=b"", host=None):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'localhost:{lab.port}'}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return exchange(lab, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def status_of(answer):
    assert answer.startswith(b"HTTP/1."), answer[:200]
    return int(answer[9:12])


def works(lab, name):
    return invoke(lab, name, {"n": 1}) == (None, {"n": 1})


def invoke_path(name):
    return f"/2015-03-31/functions/{name}/invocations"


def open_files(lab):
    return len(list(Path(f"/proc/{lab.process.pid}/fd").iterdir()))


def test_a_thousand_half_requests_hold_nobody_up(shared):
    lab, name, api = shared
    works(lab, name)
    ours = f"Host: localhost:{lab.port}\r\n"
    halves = [
        b"GET /_lab/status HTTP/1.1\r\nHost: loc",
        f"POST {invoke_path(name)} HTTP/1.1\r\n{ours}Content-Length: 100\r\n\r\n{{".encode(),
        f"POST /_aws/execute-api/{api}/v1/x HTTP/1.1\r\n{ours}Content-Length: 9\r\n\r\n1".encode(),
        f"POST / HTTP/1.1\r\n{ours}Transfer-Encoding: chunked\r\n\r\n5\r\nab".encode(),
    ]
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", lab.port), timeout=600))
            half.sendall(halves[number % len(halves)])
        # They are accepted in order: where this one is answered, a thousand are open, or were for as long as they may.
        assert status_of(request(lab, "GET", "/_lab/status")) == 200
        assert works(lab, name)
        assert status_of(request(lab, "GET", f"/_aws/execute-api/{api}/v1/x")) == 200
        assert lab.status()["source"] == "lab"
    wait_until(lambda: open_files(lab) < 500, "the end of the connections")
    assert works(lab, name)


def test_a_body_of_twenty_megabytes_is_refused_by_invoke_and_by_the_gateway(shared):
    lab, name, api = shared
    answer = request(lab, "POST", invoke_path(name), body=TWENTY_MB)
    assert status_of(answer) == 413
    assert b"RequestTooLargeException" in answer
    assert status_of(request(lab, "POST", f"/_aws/execute-api/{api}/v1/x", body=TWENTY_MB)) == 413
    assert works(lab, name)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example:{port}", "127.0.0.1.nip.io:{port}", "localhost:1", "", "169.254.169.254",
     "a.execute-api.localhost.evil.example:{port}", "evil.example#localhost:{port}", "localhost:{port}@evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/_lab/status", "/", "/_aws/execute-api/{api}/v1/x"])
def test_a_host_header_that_is_not_ours_is_refused(shared, host, path):
    lab, _, api = shared
    host, path = host.format(port=lab.port), path.format(api=api)
    answer = exchange(lab, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert status_of(answer) in {400, 403, 421}
    assert b"endpoint_url" not in answer


@pytest.mark.parametrize(
    "host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "{api}.execute-api.localhost:{port}"]
)
def test_our_own_names_are_answered(shared, host):
    lab, _, api = shared
    host = host.format(port=lab.port, api=api)
    path = "/v1/x" if "execute-api" in host else f"/_aws/execute-api/{api}/v1/x"
    assert status_of(request(lab, "GET", path, host=host)) == 200


def test_a_request_without_a_host_is_refused(shared):
    lab, _, _ = shared
    assert status_of(exchange(lab, b"GET /_lab/status HTTP/1.1\r\n\r\n")) in {400, 421}


def test_the_lab_listens_on_loopback_alone(shared):
    lab, _, _ = shared
    inodes = set()
    for descriptor in Path(f"/proc/{lab.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].split(":")[0])
    assert listening
    assert set(listening) <= {"0100007F", "00000000000000000000000001000000"}


token = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12)
header_value = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]),
    path=st.lists(st.text(max_size=8), max_size=4),
    query=st.text(max_size=30),
    headers=st.lists(st.tuples(token, header_value), max_size=4),
    body=st.binary(max_size=300),
)
def test_the_gateway_answers_any_request(shared, method, path, query, headers, body):
    lab, _, api = shared
    target = f"/_aws/execute-api/{api}/v1/" + "/".join(quote(part, safe="") for part in path)
    own = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "x-do"}
    sent = [(name, value) for name, value in headers if name.lower() not in own]
    answer = request(lab, method, f"{target}?{quote(query, safe='=&')}", headers=sent, body=body)
    if method == "HEAD":
        assert answer.startswith(b"HTTP/1.1 200")
        return
    status = status_of(answer)
    if status == 200:
        event = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert event["httpMethod"] == method
        assert event["body"] == (body.decode("utf-8", "replace") if body else None)
    else:
        assert status in {400, 502} if "do" in query else status == 400, answer[:500]


@FUZZ
@given(
    name=st.one_of(
        st.text(min_size=1, max_size=20),
        st.just("arn:aws:lambda:us-east-1:123456789012:function:x"),
    ),
    suffix=st.sampled_from(["/invocations", "/invocations?Qualifier=7", "/invocations?Qualifier=%00"]),
    invocation_type=st.sampled_from(["RequestResponse", "Event", "DryRun", "Sideways", ""]),
    log_type=st.sampled_from(["None", "Tail", "All"]),
    context=header_value,
    body=st.one_of(st.binary(max_size=200), st.just(b"[" * 20_000), st.just(b'{"do": "echo"}')),
)
def test_the_invoke_api_refuses_what_it_cannot_run_in_lambdas_words(
    shared, name, suffix, invocation_type, log_type, context, body
):
    lab, _, _ = shared
    answer = request(
        lab,
        "POST",
        f"/2015-03-31/functions/{quote(name, safe='')}{suffix}",
        headers=[
            ("X-Amz-Invocation-Type", invocation_type),
            ("X-Amz-Log-Type", log_type),
            ("X-Amz-Client-Context", context),
        ],
        body=body,
    )
    assert 400 <= status_of(answer) < 500, answer[:500]


@FUZZ
@given(body=st.binary(max_size=300))
def test_a_payload_reaches_the_function_or_is_no_json(shared, body):
    lab, name, _ = shared
    answer = request(lab, "POST", invoke_path(name), headers=[("Content-Type", "application/json")], body=body)
    status = status_of(answer)
    try:
        event = json.loads(body) if body else {}
    except (ValueError, UnicodeDecodeError):
        assert status == 400
        assert b"InvalidRequestContentException" in answer
    else:
        assert status == 200
        if isinstance(event, dict) and "do" not in event:
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == event


@FUZZ
@given(
    data=st.one_of(
        st.binary(min_size=1, max_size=400), st.text(min_size=1).map(lambda t: f"GET {t} HTTP/1.1\r\n\r\n".encode())
    )
)
def test_bytes_that_are_no_request_end_their_connection_alone(shared, data):
    lab, _, _ = shared
    with socket.create_connection(("127.0.0.1", lab.port), timeout=600) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65_536):
                pass
    assert lab.process.poll() is None
    assert lab.status()["source"] == "lab"
