"""REST API, data plane and control plane together: metrics, and what a throttled or failing function looks like."""

import datetime as dt
import http.client
import json
import time

import pytest

from tests.lab.robustness.support import deploy, log_lines, new_name, rest_api, wait_until
from tests.lab.services.apigateway.helpers import function_arn, lambda_uri
from tests.lab_support import running_lab


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    images = {"LAB_IMAGES": str(tmp_path_factory.mktemp("images"))}
    with (
        pytest.MonkeyPatch.context() as patch,
        running_lab(state=tmp_path_factory.mktemp("state"), variables=images) as lab,
    ):
        patch.setenv("LAB_IMAGES", images["LAB_IMAGES"])
        name = new_name()
        yield lab, name, deploy(lab, name)


def get(lab, path, host=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=600)
    connection.request("GET", path, headers={"Host": host or f"localhost:{lab.port}", **headers})
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def test_both_addresses_lead_to_the_function(served):
    lab, _, api = served
    by_path = get(lab, f"/_aws/execute-api/{api}/v1/a/b?x=1")
    by_host = get(lab, "/v1/a/b?x=1", host=f"{api}.execute-api.localhost:{lab.port}")
    for status, headers, body in (by_path, by_host):
        assert status == 200
        assert json.loads(body)["pathParameters"] == {"proxy": "a/b"}
        assert headers["x-amzn-RequestId"]


def test_a_binary_body_reaches_the_function_in_base64_and_comes_back_as_it_was(served):
    lab, name, _ = served
    client = lab.client("apigateway")
    api = rest_api(lab, lab.client("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"])
    media = {"op": "add", "path": "/binaryMediaTypes/image~1png"}
    with pytest.raises(client.exceptions.BadRequestException, match="declare BinaryMediaTypes in a stack"):
        client.update_rest_api(restApiId=api, patchOperations=[media])
    media = {"op": "add", "path": "/binaryMediaTypes", "value": "image/png"}  # as moto has it
    client.update_rest_api(restApiId=api, patchOperations=[media])
    client.create_deployment(restApiId=api, stageName="v2")
    body = bytes(range(256))
    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=600)
    headers = {"Host": f"localhost:{lab.port}", "Content-Type": "image/png", "Accept": "image/png"}
    connection.request("POST", f"/_aws/execute-api/{api}/v2/a?do=mirror", body=body, headers=headers)
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Type"), response.read()) == (200, "image/png", body)
    connection.close()


def test_a_function_slower_than_the_gateway_waits_gets_a_504_and_runs_to_its_end(served):
    lab, name, _ = served
    arn = lab.client("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    api = rest_api(lab, arn, timeout_ms=300)
    get(lab, f"/_aws/execute-api/{api}/v1/warm")  # its first environment may take longer than that to start

    def slept() -> list[str]:
        reports = log_lines(lab, name, '"REPORT RequestId"')
        return [one for one in reports if float(one.split("Duration: ")[1].split(" ms")[0]) >= 1000]

    before = len(slept())
    status, headers, body = get(lab, f"/_aws/execute-api/{api}/v1/x?do=sleep&seconds=1")
    assert (status, json.loads(body)) == (504, {"message": "Endpoint request timed out"})
    assert headers["x-amzn-RequestId"]
    wait_until(lambda: len(slept()) > before, "the function's own end")
    assert not any("Status:" in report for report in slept())


def test_the_gateways_metrics_are_in_cloudwatch(served):
    lab, _, api = served
    get(lab, f"/_aws/execute-api/{api}/v1/ok")
    get(lab, f"/_aws/execute-api/{api}/v1/x?do=nothing-of-the-kind")
    now = dt.datetime.now(dt.UTC)

    def figure(name, stat):
        answer = lab.client("cloudwatch").get_metric_data(
            StartTime=now - dt.timedelta(hours=1),
            EndTime=now + dt.timedelta(hours=1),
            MetricDataQueries=[
                {
                    "Id": "q",
                    "MetricStat": {
                        "Metric": {
                            "Namespace": "AWS/ApiGateway",
                            "MetricName": name,
                            "Dimensions": [
                                {"Name": "ApiName", "Value": "robustness"},
                                {"Name": "Stage", "Value": "v1"},
                            ],
                        },
                        "Period": 3600,
                        "Stat": stat,
                    },
                }
            ],
        )
        return sum(answer["MetricDataResults"][0]["Values"])

    wait_until(lambda: figure("5XXError", "Sum") >= 1, "the failed request's metric")
    assert figure("Count", "Sum") >= 2
    assert 0 < figure("IntegrationLatency", "p50") <= figure("Latency", "p99")


def test_a_function_that_fails_is_a_502_and_one_that_is_throttled_a_500(served):
    lab, name, api = served
    assert get(lab, f"/_aws/execute-api/{api}/v1/x?do=nothing-of-the-kind")[0] == 502
    client = lab.client("lambda")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    try:
        status, headers, body = get(lab, f"/_aws/execute-api/{api}/v1/x")
    finally:
        client.delete_function_concurrency(FunctionName=name)
    assert (status, json.loads(body)) == (500, {"message": "Internal server error"})
    assert headers["x-amzn-ErrorType"] == "InternalServerErrorException"
    # The concurrency that was put away is back at once.
    deadline = time.monotonic() + 120
    while get(lab, f"/_aws/execute-api/{api}/v1/x")[0] != 200:
        assert time.monotonic() < deadline


def declared_stack():
    """A REST API with all that limits it, as CloudFormation declares it."""
    api = {"RestApiId": {"Ref": "Api"}}
    integration = {
        "Type": "AWS_PROXY",
        "IntegrationHttpMethod": "POST",
        "Uri": lambda_uri(function_arn("nobody")),
    }
    properties = {
        "Api": ("RestApi", None, {"Name": "declared"}),
        "Get": (
            "Method",
            None,
            {
                **api,
                "ResourceId": {"Fn::GetAtt": ["Api", "RootResourceId"]},
                "HttpMethod": "GET",
                "AuthorizationType": "NONE",
                "ApiKeyRequired": True,
                "Integration": integration,
            },
        ),
        "Unknown": (
            "GatewayResponse",
            None,
            {
                **api,
                "ResponseType": "MISSING_AUTHENTICATION_TOKEN",
                "StatusCode": "404",
                "ResponseTemplates": {"application/json": '{"error": "no $context.path"}'},
            },
        ),
        "NoFunction": (
            "GatewayResponse",
            None,
            {
                **api,
                "ResponseType": "INTEGRATION_FAILURE",
                "StatusCode": "200",
                "ResponseTemplates": {"application/json": '{"stage": "$context.stage"}'},
            },
        ),
        "Deployment": ("Deployment", ["Get", "Unknown", "NoFunction"], api),
        "Stage": (
            "Stage",
            None,
            {
                **api,
                "DeploymentId": {"Ref": "Deployment"},
                "StageName": "v1",
                "MethodSettings": [
                    {
                        "ResourcePath": "/*",
                        "HttpMethod": "*",
                        "ThrottlingRateLimit": 0.001,
                        "ThrottlingBurstLimit": 2,
                    }
                ],
            },
        ),
        "Key": ("ApiKey", None, {"Value": "k" * 24, "Enabled": True}),
        "Plan": (
            "UsagePlan",
            "Stage",
            {
                "UsagePlanName": "declared",
                "ApiStages": [{"ApiId": {"Ref": "Api"}, "Stage": "v1"}],
                "Throttle": {"RateLimit": 100, "BurstLimit": 100},
            },
        ),
        "PlanKey": (
            "UsagePlanKey",
            None,
            {"KeyId": {"Ref": "Key"}, "KeyType": "API_KEY", "UsagePlanId": {"Ref": "Plan"}},
        ),
    }
    return {
        "Resources": {
            name: {"Type": f"AWS::ApiGateway::{kind}", "Properties": values, **({"DependsOn": after} if after else {})}
            for name, (kind, after, values) in properties.items()
        },
        "Outputs": {"Id": {"Value": {"Ref": "Api"}}},
    }


def test_keys_plans_throttles_and_answers_that_a_stack_declares_apply(served):
    lab, _, _ = served
    client = lab.client("cloudformation")
    client.create_stack(StackName="declared", TemplateBody=json.dumps(declared_stack()))
    (output,) = client.describe_stacks(StackName="declared")["Stacks"][0]["Outputs"]
    path = f"/_aws/execute-api/{output['OutputValue']}/v1"
    assert get(lab, f"{path}/nowhere")[::2] == (404, b'{"error": "no /v1/nowhere"}')
    assert get(lab, f"{path}/")[0] == 403
    answers = [get(lab, f"{path}/", **{"x-api-key": "k" * 24}) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[0][2] == b'{"stage": "v1"}'
