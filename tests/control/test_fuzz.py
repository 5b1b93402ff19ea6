"""Whatever is sent to the AWS APIs, the lab answers and stays up."""

from __future__ import annotations

import http.client
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab_support import Lab

TARGETS = {
    "logs": (
        "Logs_20140328",
        ("FilterLogEvents", "GetLogEvents", "PutLogEvents", "DescribeLogStreams", "CreateLogGroup"),
    ),
    "ecr": ("AmazonEC2ContainerRegistry_V20150921", ("DescribeImages", "PutImage", "BatchGetImage")),
}
NAMES = st.sampled_from(
    ["logGroupName", "logStreamName", "logEvents", "limit", "nextToken", "startTime", "filterPattern", "repositoryName"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
QUERIES = st.sampled_from(
    ["DescribeStacks", "CreateChangeSet", "GetMetricData", "PutMetricData", "GetCallerIdentity", "No"]
)


def send(lab: Lab, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", lab.port, timeout=120)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def signed(service: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/{service}/aws4_request, SignedHeaders=a, Signature=b"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), service=st.sampled_from(sorted(TARGETS)), body=st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_json_gets_a_json_answer(module_lab: Lab, data: st.DataObject, service: str, body: dict) -> None:
    prefix, actions = TARGETS[service]
    target = f"{prefix}.{data.draw(st.sampled_from(actions))}"
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target, "Authorization": signed(service)}
    status, answer = send(module_lab, "POST", "/", json.dumps(body).encode(), headers)
    assert 200 <= status < 600
    if answer:
        found = json.loads(answer)
        assert status == 200 or "__type" in found
    assert module_lab.process.poll() is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    service=st.sampled_from(
        ["cloudformation", "monitoring", "sts", "s3", "lambda", "apigateway", "scheduler", "nothing"]
    ),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"]),
    path=st.text(alphabet="abz019/%2F.-_~:?=&", max_size=40),
    action=QUERIES,
    body=st.binary(max_size=60),
)
def test_any_request_gets_an_answer_without_a_traceback(
    module_lab: Lab, service: str, method: str, path: str, action: str, body: bytes
) -> None:
    form = f"Action={action}&Version=2010-05-15&".encode() + body
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": signed(service)}
    status, answer = send(module_lab, method, f"/{path.lstrip('/')}", form if method == "POST" else body, headers)
    assert 200 <= status < 600
    assert b"Traceback" not in answer
    assert module_lab.process.poll() is None
