"""A caller's mistake is a 4xx for the caller and at most one line in the log; a half-closed connection is answered."""

from __future__ import annotations

import contextlib
import random
import socket
import urllib.parse
from collections.abc import Iterator

import pytest

from lab.http.callers_mistakes import CallersMistakes
from tests.lab_support import Lab, running_lab

AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/{}/aws4_request, SignedHeaders=a, Signature=b"
MUTATIONS = 200


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of its own: what it logs is looked at."""
    with running_lab() as running:
        yield running


def raw(method: str, path: str, *, port: int, service: str = "", target: str = "", body: str = "") -> bytes:
    headers = {"Host": f"localhost:{port}", "Content-Length": str(len(body.encode()))}
    if service:
        headers["Authorization"] = AUTHORIZATION.format(service)
    if target:
        headers |= {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    elif body.startswith("Action="):
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", body]
    return "\r\n".join(lines).encode()


def requests(port: int) -> list[bytes]:
    form = "Action=DescribeStacks&Version=2010-05-15"
    return [
        raw("GET", "/_lab/status", port=port),
        raw("POST", "/2015-03-31/functions/missing/invocations", port=port, body="{}"),
        raw("GET", "/2015-03-31/functions", port=port, service="lambda"),
        raw("POST", "/", port=port, service="logs", target="Logs_20140328.DescribeLogGroups", body="{}"),
        raw("POST", "/", port=port, service="cloudformation", body=form),
        raw("GET", "/_aws/execute-api/missing/v1/a?b=c", port=port),
        raw("GET", "/restapis", port=port, service="apigateway"),
    ]


def mutated(request: bytes, chance: random.Random) -> bytes:
    data = bytearray(request)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 12)]
            case 2:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 6)))
            case _:
                data[at:at] = data[at : at + 20]
        if not data:
            return b"\r\n"
    return bytes(data)


def exchange(lab: Lab, data: bytes) -> bytes:
    """What the lab answers to a client that sends this and closes its sending side."""
    with socket.create_connection(("127.0.0.1", lab.port), timeout=600) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answer += part
        return answer


def test_a_client_that_closes_its_sending_side_still_gets_its_answer(lab: Lab) -> None:
    for request in requests(lab.port):
        assert exchange(lab, request).startswith(b"HTTP/1.1 "), request
    plain = requests(lab.port)[1]
    assert exchange(lab, plain + plain).count(b"HTTP/1.1 404") == 2
    assert exchange(lab, requests(lab.port)[0].replace(b"localhost", b"evil.example")).startswith(b"HTTP/1.1 421")
    assert exchange(lab, plain[:-1]) == b""  # half a request


def test_a_client_that_closes_its_sending_side_waits_for_a_function_that_runs(shared: tuple[Lab, str, str]) -> None:
    lab, name, api = shared
    event = '{"do": "sleep", "seconds": 0.3}'
    for request in (
        raw("POST", f"/2015-03-31/functions/{name}/invocations", port=lab.port, body=event),
        raw("GET", f"/_aws/execute-api/{api}/v1/?do=sleep&seconds=0.3", port=lab.port),
    ):
        head, _, body = exchange(lab, request).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert body == b'"slept"'


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", "AWS4-HMAC-SHA256 Credential=lab"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=////"),
        ("Authorization", AUTHORIZATION.format("logs").replace(" Credential", "Credential")),
        ("Authorization", AUTHORIZATION.format("logs").replace(" Credential", ", Credential")),
        ("Authorization", AUTHORIZATION.format("logs").removeprefix("AWS4-HMAC-SHA256 ")),
        ("Authorization", "Bearer x"),
        ("Authorization", ""),
        ("X-Amz-Target", "Logs_20140328."),
        ("X-Amz-Target", "Logs_20140328.NoSuchOperation"),
        ("X-Amz-Target", "garbage"),
        ("X-Amz-Target", "."),
    ],
)
def test_a_broken_header_is_no_failure_of_ours(lab: Lab, header: str, value: str) -> None:
    request = raw("POST", "/", port=lab.port, service="logs", target="Logs_20140328.DescribeLogGroups", body="{}")
    lines = [
        f"{header}: {value}".encode() if line.startswith(header.encode()) else line for line in request.split(b"\r\n")
    ]
    assert exchange(lab, b"\r\n".join(lines))[9:10] in {b"2", b"4"}  # no signature is checked
    assert not [line for line in lab.log if "moto failed" in line or "Traceback" in line]


@pytest.mark.parametrize("number", ["9" * 5000, "0" * 5000 + "1", "٤٥٦٦", "4²", "-1", "1e3"])
@pytest.mark.parametrize("header", ["Host: localhost:{}", "Content-Length: {}"])
def test_a_number_that_is_none_in_a_header_is_no_failure_of_ours(lab: Lab, header: str, number: str) -> None:
    name = header.partition(":")[0].encode()
    for request in requests(lab.port):
        lines = [header.format(number).encode() if line.startswith(name) else line for line in request.split(b"\r\n")]
        assert exchange(lab, b"\r\n".join(lines))[9:10] in {b"2", b"4", b""}, request
    assert not [line for line in lab.log if "Traceback" in line]


MISSING = [
    # service, method, path, target, body, the member or parameter that is named
    ("cloudformation", "POST", "/", "", "Action=DescribeChangeSet&Version=2010-05-15", "ChangeSetName"),
    ("cloudformation", "POST", "/", "", "Action=CreateStack&Version=2010-05-15", "StackName"),
    ("cloudformation", "POST", "/", "", "Action=CreateStack&Version=2010-05-15&TemplateBody={}", "StackName"),
    ("cloudformation", "POST", "/", "", "Action=CreateChangeSet&ChangeSetName=c&TemplateBody={}", "StackName"),
    ("cloudformation", "POST", "/", "", "Action=CreateStack&Version=2010-05-15&StackName=s", "Template Body"),
    ("monitoring", "POST", "/", "", "Action=GetMetricData&Version=2010-08-01", "StartTime"),
    ("ecr", "POST", "/", "AmazonEC2ContainerRegistry_V20150921.PutImage", "{}", "repositoryName"),
    ("lambda", "POST", "/2015-03-31/functions", "", "{}", "Role"),
    ("apigateway", "POST", "/apikeys/x/../", "", "{}", ""),
    ("apigateway", "POST", "/usageplans", "", "{}", "name"),
    ("scheduler", "POST", "/schedules/s", "", "{}", "Expression"),
]


def test_a_missing_parameter_is_refused_by_its_name_and_said_at_most_once() -> None:
    with running_lab() as lab:
        for _ in range(10):
            for service, method, path, target, body, name in MISSING:
                answer = exchange(lab, raw(method, path, port=lab.port, service=service, target=target, body=body))
                assert answer[9:10] == b"4", answer
                assert name.encode() in answer
        lab.stop()
        assert [line for line in lab.log if "moto failed" in line or "Traceback" in line] == []
        assert sum("refused a malformed request" in line for line in lab.log) <= 1


NUMBERS = ["9" * 5000, "abc", "", "-1", "1e400", "\u0665", "NaN"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_that_is_none_in_a_request_is_no_failure_of_ours(lab: Lab, number: str) -> None:
    of_query = "&MetricDataQueries.member.1."
    stat = f"MetricStat.Stat=Sum{of_query}MetricStat.Metric.Namespace=N{of_query}MetricStat.Metric.MetricName=m"
    period = f"Action=GetMetricData&Version=2010-08-01{of_query}Id=q{of_query}{stat}"
    times = f"StartTime={{}}&EndTime={{}}{of_query}MetricStat.Period={{}}"
    noon, text = "2026-01-01T00:00:00Z", urllib.parse.quote(number)
    function = '{{"FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r", "Code": {{}}, "{}": "{}"}}'
    cases = [
        ("monitoring", "POST", "/", f"{period}&{times.format(noon, noon, text)}"),
        ("monitoring", "POST", "/", f"{period}&{times.format(text, noon, 60)}"),
        ("monitoring", "POST", "/", f"Action=GetMetricData&{times.format(noon, noon, 60)}&MaxDatapoints={text}"),
        ("cloudformation", "POST", "/", f"Action=CreateStack&StackName=s&TemplateBody=[]&TimeoutInMinutes={text}"),
        *(
            ("lambda", "POST", "/2015-03-31/functions", function.format(name, number))
            for name in ("MemorySize", "Timeout")
        ),
        ("lambda", "GET", f"/2015-03-31/functions?MaxItems={text}", ""),
        ("apigateway", "GET", f"/apikeys?limit={text}", ""),
        ("scheduler", "GET", f"/schedules?MaxResults={text}", ""),
        ("", "GET", f"/_aws/execute-api/missing/v1/?n={text}", ""),
        ("", "POST", f"/2015-03-31/functions/missing/invocations?Qualifier={text}", "{}"),
    ]
    for service, method, path, body in cases:
        answer = exchange(lab, raw(method, path, port=lab.port, service=service, body=body))
        assert answer[9:10] in {b"2", b"4"}, (path, body[:80], answer[:300])
    assert not [line for line in lab.log if "Traceback" in line]


def test_what_may_be_a_fault_of_ours_is_said_once_for_each_place(capsys: pytest.CaptureFixture[str]) -> None:
    mistakes = CallersMistakes()
    for place, times in (("a.py:1", 3), ("b.py:2", 1), ("a.py:1", 2)):
        for _ in range(times):
            mistakes.count_at(place, f"moto failed ({place})")
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in said] == ["lab: moto failed (a.py:1)", "lab: moto failed (b.py:2)"]
    mistakes.report()
    assert capsys.readouterr().err == "lab: refused 5 requests in all at a.py:1\n"


def test_mutated_requests_leave_one_counted_line() -> None:
    chance = random.Random(20261127)
    with running_lab() as lab:
        for _ in range(MUTATIONS):
            answer = exchange(lab, mutated(chance.choice(requests(lab.port)), chance))
            assert answer == b"" or answer.startswith(b"HTTP/"), answer[:200]
            assert b" 500 " not in answer[:16], answer
        assert lab.status()["source"] == "lab"
        lab.stop()
        said = [line for line in lab.log if "malformed" not in line]
        assert said == [line for line in said if line.startswith("lab: ") and "moto failed" not in line]
        assert sum("refused a malformed request" in line for line in lab.log) <= 1
        assert sum("malformed requests in all" in line for line in lab.log) <= 1
