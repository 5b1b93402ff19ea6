"""The gateway over HTTP, in front of a REST API that boto3 built in the control plane."""

import asyncio
import base64
import json
import re

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lab.contracts import InvokeResult
from tests.lab.services.apigateway.helpers import REGION, Api, function_arn, lambda_uri, run


def ok(body="{}", **more):
    return {"statusCode": 200, "body": body, **more}


def echo(event):
    return ok(json.dumps(event))


def message(body):
    return json.loads(body)["message"]


def test_a_proxy_event_is_complete(api, invoker):
    api.method("/{model}/{memory}", "GET", "echo")
    api.deploy(variables={"colour": "blue"})
    invoker.functions["echo"] = echo

    async def body(served):
        return served.port, await served.send(
            "GET",
            api.path("/mobilenet/1024?image=cat%20one.jpg&image=two&empty="),
            headers=[("Accept", "a"), ("X-Two", "1"), ("X-Two", "2"), ("User-Agent", "tester")],
        )

    port, (status, headers, answer) = run(invoker, body)
    event = json.loads(answer)
    assert status == 200
    assert event["resource"] == "/{model}/{memory}"
    assert event["path"] == "/mobilenet/1024"
    assert event["httpMethod"] == "GET"
    assert event["pathParameters"] == {"model": "mobilenet", "memory": "1024"}
    assert event["queryStringParameters"] == {"image": "two", "empty": ""}
    assert event["multiValueQueryStringParameters"] == {"image": ["cat one.jpg", "two"], "empty": [""]}
    assert event["headers"]["X-Two"] == "2"
    assert event["multiValueHeaders"]["X-Two"] == ["1", "2"]
    assert event["headers"]["Host"] == f"127.0.0.1:{port}"
    assert event["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert event["headers"]["X-Forwarded-Port"] == str(port)
    assert event["headers"]["X-Forwarded-Proto"] == "http"
    assert event["stageVariables"] == {"colour": "blue"}
    assert event["body"] is None
    assert event["isBase64Encoded"] is False
    context = event["requestContext"]
    assert context["apiId"] == context["domainPrefix"] == api.id
    assert context["domainName"] == f"{api.id}.execute-api.localhost"
    assert context["stage"] == "v1"
    assert context["path"] == "/v1/mobilenet/1024"
    assert context["resourcePath"] == "/{model}/{memory}"
    assert context["protocol"] == "HTTP/1.1"
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert context["identity"]["userAgent"] == "tester"
    assert context["accountId"] == "123456789012"
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["requestTime"])
    assert isinstance(context["requestTimeEpoch"], int)
    assert headers["x-amzn-RequestId"] == context["requestId"]
    assert headers["x-amz-apigw-id"] == context["extendedRequestId"]
    assert headers["X-Amzn-Trace-Id"] == event["headers"]["X-Amzn-Trace-Id"]
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", headers["X-Amzn-Trace-Id"])
    assert invoker.calls == [(function_arn("echo"), None, headers["X-Amzn-Trace-Id"])]


def test_maps_that_would_be_empty_are_null(api, invoker):
    api.method("/", "GET", "echo")
    api.deploy()
    invoker.functions["echo"] = echo
    status, _, answer = run(invoker, lambda served: served.send("GET", api.path("")))
    event = json.loads(answer)
    assert status == 200
    assert event["path"] == "/"
    for key in ("queryStringParameters", "multiValueQueryStringParameters", "pathParameters", "stageVariables"):
        assert event[key] is None


PATHS = [
    # what follows the stage, path, requestContext.path
    ("", "/", "/v1"),
    ("/", "/", "/v1/"),
    ("/a", "/a", "/v1/a"),
    ("/a/", "/a/", "/v1/a/"),
    ("//a", "/a", "/v1//a"),
    ("///", "/", "/v1///"),
    ("/a//b", "/a//b", "/v1/a//b"),
    ("/a%2Fb", "/a%2Fb", "/v1/a%2Fb"),
    ("/a%2fb/%E4%BD%A0/c%20d", "/a%2fb/%E4%BD%A0/c%20d", "/v1/a%2fb/%E4%BD%A0/c%20d"),
    ("/a+b;c=d,e", "/a+b;c=d,e", "/v1/a+b;c=d,e"),
    ("/v1/v1", "/v1/v1", "/v1/v1/v1"),
    ("/a?b=/c//d/", "/a", "/v1/a"),
    ("/?b", "/", "/v1/"),
]


def test_paths_of_the_event_and_of_the_context_are_those_that_were_sent(api, invoker):
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html

    and https://github.com/localstack/localstack/issues/11253.
    """
    for resource in ("/", "/{proxy+}"):
        api.method(resource, "ANY", "echo")
    for kind in ("DEFAULT_4XX", "DEFAULT_5XX"):
        template = {"application/json": "$context.path"}
        api.client.put_gateway_response(restApiId=api.id, responseType=kind, responseTemplates=template)
    api.deploy()

    async def body(served):
        host = {"Host": f"{api.id}.execute-api.localhost:{served.port}"}
        addresses = [(sent, where, headers) for sent, *_ in PATHS
                     for where, headers in ((api.path(sent), {}), (f"/v1{sent}", host))]  # fmt: skip
        found = []
        for sent, where, headers in addresses:
            answers = []
            for function in (echo, lambda _event: b"no answer"):
                invoker.functions["echo"] = function
                answers.append((await served.send("GET", where, headers=headers))[2])
            found.append((sent, json.loads(answers[0]), answers[1].decode()))
        return found

    expected = {sent: (path, context_path) for sent, path, context_path in PATHS}
    for sent, event, failure in run(invoker, body):
        path, context_path = expected[sent]
        assert (event["path"], event["requestContext"]["path"], failure) == (path, context_path, context_path), sent
        assert event["pathParameters"] == ({"proxy": path.strip("/")} if path != "/" else None)


def test_the_port_is_the_servers_whatever_the_host_header_says(api, invoker):
    api.method("/", "GET", "echo")
    api.deploy()
    invoker.functions["echo"] = echo

    async def body(served):
        hosts = ("localhost", "localhost:" + "9" * 5000, "localhost:4\u00b2")
        answers = [await served.send("GET", api.path("/"), headers={"Host": host}) for host in hosts]
        return served.port, [json.loads(answer)["headers"]["X-Forwarded-Port"] for _, _, answer in answers]

    port, found = run(invoker, body)
    assert found == [str(port)] * 3


def test_a_host_name_addresses_an_api_too(api, invoker):
    api.method("/{proxy+}", "ANY", "echo")
    api.deploy()
    invoker.functions["echo"] = echo

    async def body(served):
        host = f"{api.id}.execute-api.localhost:{served.port}"
        return await served.send("GET", "/v1/deep/path%2Fone", headers={"Host": host}), await served.send(
            "GET", "/elsewhere"
        )

    (status, _, answer), (_, _, other) = run(invoker, body)
    assert status == 200
    assert json.loads(answer)["pathParameters"] == {"proxy": "deep/path%2Fone"}
    assert other == b"not the gateway"


def test_a_body_is_text_unless_its_media_type_is_declared_binary(control_plane, invoker):
    api = Api(binary=["image/*"])
    api.method("/", "POST", "echo")
    api.deploy()
    invoker.functions["echo"] = echo
    jpeg = bytes(range(256))

    async def body(served):
        binary = await served.send("POST", api.path("/"), data=jpeg, headers={"Content-Type": "image/jpeg"})
        text = await served.send("POST", api.path("/"), data="é", headers={"Content-Type": "text/plain"})
        return json.loads(binary[2]), json.loads(text[2])

    binary, text = run(invoker, body)
    assert binary["isBase64Encoded"] is True
    assert base64.b64decode(binary["body"]) == jpeg
    assert (text["body"], text["isBase64Encoded"]) == ("é", False)


def test_a_base64_answer_is_decoded_only_for_a_client_that_accepts_binary(control_plane, invoker):
    api = Api(binary=["image/png"])
    api.method("/", "GET", "png")
    api.deploy()
    encoded = base64.b64encode(b"\x89PNG").decode()
    invoker.functions["png"] = lambda _event: ok(encoded, isBase64Encoded=True, headers={"Content-Type": "image/png"})

    async def body(served):
        return [
            (await served.send("GET", api.path("/"), headers={"Accept": accept}))[2]
            for accept in ("image/png,*/*", "text/html")
        ]

    assert run(invoker, body) == [b"\x89PNG", encoded.encode()]


def test_headers_that_the_gateway_owns_are_remapped(api, invoker):
    api.method("/", "GET", "f")
    api.deploy()
    invoker.functions["f"] = lambda _event: ok(
        "hello",
        headers={"Server": "mine", "Date": "never", "X-One": 1, "Content-Type": "text/plain", "Transfer-Encoding": "x"},
        multiValueHeaders={"Set-Cookie": ["a=1", "b=2"], "WWW-Authenticate": ["Basic"]},
    )
    status, headers, answer = run(invoker, lambda served: served.send("GET", api.path("/")))
    assert (status, answer) == (200, b"hello")
    assert headers["x-amzn-Remapped-Server"] == "mine"
    assert headers["x-amzn-Remapped-Date"] == "never"
    assert headers["x-amzn-Remapped-WWW-Authenticate"] == "Basic"
    assert headers["X-One"] == "1"
    assert headers.getall("Set-Cookie") == ["a=1", "b=2"]
    assert headers["Content-Type"] == "text/plain"
    assert headers["Content-Length"] == "5"


@pytest.mark.parametrize(
    "answer",
    [
        b"not json",
        b'{"statusCode": 200, "headers": {"X": NaN}}',
        b'{"statusCode": Infinity}',
        "a string",
        None,
        ["list"],
        {"statusCode": "abc"},
        {"statusCode": 99},
        {"statusCode": True},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "headers": ["x"]},
        {"statusCode": 200, "headers": {"X": {"deep": 1}}},
        {"statusCode": 200, "headers": {"X": "a\r\nInjected: 1"}},
        {"statusCode": 200, "headers": {"bad name": "1"}},
        {"statusCode": 200, "multiValueHeaders": {"X": "no list"}},
        {"statusCode": 200, "cookies": []},
        InvokeResult(200, b'{"errorMessage": "boom"}', "id", function_error="Unhandled"),
    ],
)
def test_a_function_error_or_a_malformed_answer_is_a_502(api, invoker, answer):
    api.method("/", "GET", "f")
    api.deploy()
    invoker.functions["f"] = lambda _event: answer
    status, headers, body = run(invoker, lambda served: served.send("GET", api.path("/")))
    assert (status, body) == (502, b'{"message": "Internal server error"}')
    assert headers["x-amzn-ErrorType"] == "InternalServerErrorException"
    assert headers["Content-Type"] == "application/json"


def test_an_answer_without_status_code_is_a_200(api, invoker):
    api.method("/", "GET", "f")
    api.deploy()
    invoker.functions["f"] = lambda _event: {"headers": {"X": "1"}}
    assert run(invoker, lambda served: served.send("GET", api.path("/")))[0] == 200


@pytest.mark.parametrize(
    ("code", "lambda_status", "status", "text"),
    [
        ("TooManyRequestsException", 429, 500, "Internal server error"),
        ("ResourceNotFoundException", 404, 500, "Internal server error"),
        ("RequestTooLargeException", 413, 413, "Request Too Long"),
    ],
)
def test_an_invoke_that_lambda_rejects_answers_as_aws_documents(api, invoker, code, lambda_status, status, text):
    api.method("/", "GET", "f")
    api.deploy()
    invoker.functions["f"] = lambda _event: InvokeResult(lambda_status, b"{}", "id", error_code=code)
    got, _, body = run(invoker, lambda served: served.send("GET", api.path("/")))
    assert (got, message(body)) == (status, text)


def test_a_function_slower_than_the_integration_timeout_gives_504_and_goes_on(api, invoker):
    api.method("/", "GET", "slow", timeout_ms=100)
    api.deploy()
    release = []

    async def slow(event):
        release.append(asyncio.Event())
        await release[0].wait()
        return ok()

    invoker.functions["slow"] = slow

    async def body(served):
        answer = await served.send("GET", api.path("/"))
        assert not invoker.finished
        release[0].set()
        for _ in range(1000):
            if invoker.finished:
                break
            await asyncio.sleep(0.01)
        return answer, served.metrics

    (status, headers, answer), metrics = run(invoker, body)
    assert (status, answer) == (504, b'{"message": "Endpoint request timed out"}')
    assert headers["x-amzn-ErrorType"] == "InternalServerErrorException"
    assert len(invoker.finished) == 1
    assert metrics.named("5XXError", ApiName="lab-api", Stage="v1") == [1.0]
    assert metrics.named("IntegrationLatency", ApiName="lab-api", Stage="v1")[0] >= 100


def test_an_unknown_path_or_method_is_missing_authentication_token(api, invoker):
    api.method("/known", "GET", "echo")
    api.deploy()
    invoker.functions["echo"] = echo

    async def body(served):
        return [await served.send(method, api.path(path)) for method, path in (("GET", "/unknown"), ("POST", "/known"))]

    for status, headers, answer in run(invoker, body):
        assert (status, answer) == (403, b'{"message":"Missing Authentication Token"}')
        assert headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize("path", ["/_aws/execute-api/nosuchapi/v1/x", "/_aws/execute-api/{api}/other/x"])
def test_an_unknown_api_or_stage_is_forbidden(api, invoker, path):
    api.method("/", "GET", "echo")
    api.deploy()
    status, _, answer = run(invoker, lambda served: served.send("GET", path.format(api=api.id)))
    assert (status, message(answer)) == (403, "Forbidden")


def test_a_gateway_response_overrides_status_headers_and_body(api, invoker):
    api.method("/known", "GET", "echo")
    api.client.put_gateway_response(
        restApiId=api.id,
        responseType="MISSING_AUTHENTICATION_TOKEN",
        statusCode="404",
        responseParameters={
            "gatewayresponse.header.X-Static": "'fixed'",
            "gatewayresponse.header.X-Path": "context.path",
        },
        responseTemplates={
            "application/json": '{"message": $context.error.messageString, "type": "$context.error.responseType", '
            '"stage": "${context.stage}", "colour": "$stageVariables.colour", "unknown": "$context.nothing"}'
        },
    )
    api.deploy(variables={"colour": "blue"})
    status, headers, answer = run(invoker, lambda served: served.send("GET", api.path("/nowhere")))
    assert status == 404
    assert headers["X-Static"] == "fixed"
    assert headers["X-Path"] == "/v1/nowhere"
    assert json.loads(answer) == {
        "message": "Missing Authentication Token",
        "type": "MISSING_AUTHENTICATION_TOKEN",
        "stage": "v1",
        "colour": "blue",
        "unknown": "",
    }


def test_default_4xx_stands_in_for_every_4xx_that_has_no_override(api, invoker):
    api.method("/", "GET", "echo")
    api.client.put_gateway_response(
        restApiId=api.id, responseType="DEFAULT_4XX", responseTemplates={"application/json": '{"own": true}'}
    )
    api.deploy()
    status, _, answer = run(invoker, lambda served: served.send("GET", api.path("/nowhere")))
    assert (status, json.loads(answer)) == (403, {"own": True})


def test_a_body_over_ten_megabytes_is_refused_before_it_is_read(api, invoker):
    api.method("/", "POST", "echo")
    api.deploy()
    invoker.functions["echo"] = lambda event: ok(str(len(event["body"])))

    async def chunked():
        for _ in range(11):
            yield b"x" * 1024 * 1024

    async def body(served):
        at_limit = await served.send("POST", api.path("/"), data=b"x" * 10 * 1024 * 1024)
        announced = await served.send("POST", api.path("/"), data=b"x" * (10 * 1024 * 1024 + 1))
        streamed = await served.send("POST", api.path("/"), data=chunked())
        return at_limit, announced, streamed

    at_limit, announced, streamed = run(invoker, body)
    assert at_limit[0] == 200
    assert at_limit[2] == str(10 * 1024 * 1024).encode()
    for status, _, answer in (announced, streamed):
        assert (status, answer) == (413, b"HTTP content length exceeded 10485760 bytes.")
    assert len(invoker.events) == 1


def test_head_and_options_reach_a_function_that_declares_them(api, invoker):
    api.method("/", "HEAD", "f")
    api.method("/", "OPTIONS", "f")
    api.deploy()
    invoker.functions["f"] = lambda event: ok(event["httpMethod"])

    async def body(served):
        return [await served.send(method, api.path("/")) for method in ("HEAD", "OPTIONS")]

    (head, options) = run(invoker, body)
    assert (head[0], head[2]) == (200, b"")
    assert (options[0], options[2]) == (200, b"OPTIONS")


def test_a_method_that_asks_for_an_identity_answers_signed_requests_alone(api, invoker):
    api.method("/", "GET", "f", authorizationType="AWS_IAM")
    api.deploy()
    invoker.functions["f"] = lambda _e: ok("signed")

    def signed(service):
        request = AWSRequest(method="GET", url=f"https://example.org{api.path('/')}")
        SigV4Auth(Credentials("a", "b", "a-session"), service, REGION).add_auth(request)
        return dict(request.headers.items())

    async def body(served):
        tried = ({}, {"Authorization": "Bearer x"}, signed("lambda"), signed("execute-api"))
        return [await served.send("GET", api.path("/"), headers=headers) for headers in tried]

    answers = run(invoker, body)
    assert [status for status, _, _ in answers] == [403, 403, 403, 200]
    errors = [headers["x-amzn-ErrorType"] for _, headers, _ in answers[:3]]
    assert errors == ["MissingAuthenticationTokenException", *2 * ["InvalidSignatureException"]]


def test_a_change_shows_after_the_next_deployment_only(api, invoker):
    api.method("/", "GET", "old")
    api.deploy()
    invoker.functions.update(old=lambda _e: ok("old"), new=lambda _e: ok("new"))

    async def body(served):
        answers = [(await served.send("GET", api.path("/")))[2]]
        for step in (lambda: api.method("/", "GET", "new"), api.deploy):
            step()
            answers.append((await served.send("GET", api.path("/")))[2])
        return answers

    assert run(invoker, body) == [b"old", b"old", b"new"]


def test_stage_variables_and_qualifiers_in_an_integration_uri_are_resolved(api, invoker):
    api.method("/", "GET", "", uri=lambda_uri(function_arn("${stageVariables.function}") + ":live"))
    api.deploy(variables={"function": "f"})
    invoker.functions["f"] = lambda _event: ok()
    assert run(invoker, lambda served: served.send("GET", api.path("/")))[0] == 200
    assert invoker.calls[0][:2] == (function_arn("f"), "live")


def test_metrics_of_a_request_carry_api_and_stage(api, invoker):
    api.method("/", "GET", "echo")
    api.deploy()
    invoker.functions["echo"] = echo

    async def body(served):
        await served.send("GET", api.path("/"))
        await served.send("GET", api.path("/nowhere"))
        return served.metrics

    metrics = run(invoker, body)
    for dimensions in ({"ApiName": "lab-api"}, {"ApiName": "lab-api", "Stage": "v1"}):
        assert metrics.named("Count", **dimensions) == [1.0, 1.0]
        assert metrics.named("4XXError", **dimensions) == [0.0, 1.0]
        assert metrics.named("5XXError", **dimensions) == [0.0, 0.0]
        assert len(metrics.named("Latency", **dimensions)) == 2
        assert len(metrics.named("IntegrationLatency", **dimensions)) == 1
    latency = metrics.named("Latency", ApiName="lab-api", Stage="v1")[0]
    assert latency >= metrics.named("IntegrationLatency", ApiName="lab-api", Stage="v1")[0]
    assert not metrics.named("Count", ApiName="lab-api", Stage="v1", Resource="/", Method="GET")


def test_detailed_metrics_add_resource_and_method(api, invoker):
    api.method("/", "GET", "echo")
    api.deploy()
    api.patch_stage(**{"/*/*/metrics/enabled": "true"})
    invoker.functions["echo"] = echo

    async def body(served):
        await served.send("GET", api.path("/"))
        return served.metrics

    assert run(invoker, body).named("Count", ApiName="lab-api", Stage="v1", Resource="/", Method="GET") == [1.0]
