"""Whatever is sent to the AWS APIs, the lab answers and stays up."""

from __future__ import annotations

import http.client
import json
from functools import cache
from typing import Any

import botocore.exceptions
import botocore.model
import botocore.session
import pytest
from hypothesis import given, settings
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
    connection = http.client.HTTPConnection("localhost", lab.port, timeout=600)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def signed(service: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/{service}/aws4_request, SignedHeaders=a, Signature=b"


@settings(max_examples=60)
@given(data=st.data(), service=st.sampled_from(sorted(TARGETS)), body=st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_json_gets_a_json_answer(module_lab: Lab, data: st.DataObject, service: str, body: dict) -> None:
    prefix, actions = TARGETS[service]
    target = f"{prefix}.{data.draw(st.sampled_from(actions))}"
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target, "Authorization": signed(service)}
    status, answer = send(module_lab, "POST", "/", json.dumps(body).encode(), headers)
    assert 200 <= status < 500, answer
    if answer:
        found = json.loads(answer)
        assert status == 200 or "__type" in found
    assert module_lab.process.poll() is None


@settings(max_examples=40)
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
    assert 200 <= status < 500, answer
    assert b"Traceback" not in answer
    assert module_lab.process.poll() is None


# Those that a deployment, a run and a collection talk to.
SERVICES = (
    "apigateway",
    "cloudformation",
    "cloudwatch",
    "ecr",
    "events",
    "iam",
    "lambda",
    "logs",
    "s3",
    "scheduler",
    "ssm",
    "sts",
)
TEXTS = st.sampled_from(["", "a", "name", "/aws/lambda/f", "arn:aws:lambda:us-east-1:123456789012:function:f", "é/\0"])
JUNK = st.none() | st.booleans() | st.integers() | TEXTS | st.just([]) | st.just({})


@cache
def model(service: str) -> botocore.model.ServiceModel:
    return botocore.session.Session().get_service_model(service)


def values(shape: botocore.model.Shape, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values for a shape of AWS's model, mostly of its type and now and then not."""
    match shape.type_name:
        case "string":
            good = st.sampled_from(shape.enum) if shape.enum else TEXTS
        case "integer" | "long":
            good = st.sampled_from([0, 1, 5, -1, 2**40])
        case "float" | "double":
            good = st.floats(-1e3, 1e3)
        case "boolean":
            good = st.booleans()
        case "timestamp":
            good = st.just(1_700_000_000)
        case "blob":
            good = st.binary(max_size=8)
        case "list":
            good = st.lists(values(shape.member, depth + 1), max_size=2) if depth < 4 else st.just([])
        case "map":
            good = st.dictionaries(st.sampled_from(["k", "l"]), values(shape.value, depth + 1), max_size=1)
        case _:
            required = {name: shape.members[name] for name in shape.required_members}
            optional = {} if depth > 2 else {n: m for n, m in shape.members.items() if n not in required}
            good = st.fixed_dictionaries(
                {name: st.deferred(lambda m=member: values(m, depth + 1)) for name, member in required.items()},
                optional={
                    name: st.deferred(lambda m=member: values(m, depth + 1)) for name, member in optional.items()
                },
            )
    return st.one_of(good, good, good, good, JUNK) if depth else good


@pytest.fixture(scope="module")
def clients(module_lab: Lab) -> dict[str, Any]:
    options = {"parameter_validation": False, "s3": {"addressing_style": "path"}}
    return {service: module_lab.client(service, **options) for service in SERVICES}


@settings(max_examples=150)
@given(data=st.data(), service=st.sampled_from(SERVICES))
def test_no_operation_of_these_services_answers_with_a_failure_of_the_server(
    module_lab: Lab, clients: dict[str, Any], data: st.DataObject, service: str
) -> None:
    operation = data.draw(st.sampled_from(model(service).operation_names))
    shape = model(service).operation_model(operation).input_shape
    parameters = data.draw(values(shape)) if shape else {}
    status = 0
    try:
        clients[service]._make_api_call(operation, parameters)
    except botocore.exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    except Exception:  # noqa: BLE001 - boto3's own, at parameters that it cannot write down
        pass
    assert status < 500, parameters
    assert module_lab.process.poll() is None


@pytest.mark.parametrize(
    ("service", "method", "path", "status", "code"),
    [
        ("", "POST", "/unknown/path", 403, b"MissingAuthenticationToken"),
        ("nothing", "GET", "/", 404, b"the lab has no service"),
        ("lambda", "POST", "/2015-03-31/functions//invocations", 400, b"Value '' at 'functionName'"),
        ("lambda", "GET", "/2015-03-31/functions//configuration", 400, b"Value '' at 'functionName'"),
        ("", "POST", "/2015-03-31/functions/%20/invocations", 400, b"Value '' at 'functionName'"),
        ("", "POST", "/2015-03-31/functions/a%20b/invocations", 400, b"regular expression pattern"),
        ("apigateway", "GET", "/restapis//resources", 404, b"no operation has the path"),
        ("apigateway", "DELETE", "/restapis/missing", 404, b"NotFoundException"),
        ("apigateway", "DELETE", "/restapis/restapi", 404, b"NotFoundException"),
        ("lambda", "POST", "/2014-11-13/functions/missing/invoke-async", 404, b"ResourceNotFoundException"),
        ("lambda", "POST", "/2015-03-31/functions", 400, b"ValidationException"),
    ],
)
def test_what_no_sdk_would_send_is_refused_in_awss_words(
    module_lab: Lab, service: str, method: str, path: str, status: int, code: bytes
) -> None:
    headers = {"Authorization": signed(service)} if service else {}
    found, answer = send(module_lab, method, path, b"{}", headers)
    assert (found, code in answer) == (status, True), answer


def test_an_operation_that_the_lab_does_not_model_says_so(module_lab: Lab) -> None:
    for service, operation, code in (
        ("logs", "list_anomalies", "UnknownOperationException"),
        ("cloudformation", "list_generated_templates", "InvalidAction"),
    ):
        client = module_lab.client(service)
        with pytest.raises(botocore.exceptions.ClientError, match="does not model") as refused:
            getattr(client, operation)()
        assert refused.value.response["Error"]["Code"] == code
