"""NaN and Infinity are not JSON, wherever a caller writes them."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request

import botocore.exceptions
import pytest

from tests.lab_support import Lab

LITERALS = ["NaN", "Infinity", "-Infinity"]
LOG_GROUP = '{"Resources": {"L": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": %s}}}}'


def refusal(lab: Lab, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    """The status and body of a POST that is refused."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{lab.url}{path}", data=body, headers=named), timeout=600)
    return refused.value.code, refused.value.read().decode()


@pytest.mark.parametrize("literal", LITERALS)
def test_a_template_is_refused(shared_lab: Lab, literal: str) -> None:
    client = shared_lab.client("cloudformation")
    arguments = {"StackName": "strict", "TemplateBody": LOG_GROUP % literal}
    for call in (
        lambda: client.create_stack(**arguments),
        lambda: client.create_change_set(**arguments, ChangeSetName="c", ChangeSetType="CREATE"),
    ):
        with pytest.raises(botocore.exceptions.ClientError, match="JSON not well-formed") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize(
    "template",
    [
        "Resources:\n  L: {Type: 'AWS::Logs::LogGroup', Properties: {RetentionInDays: .nan}}",
        "Resources:\n  L: {Type: 'AWS::Logs::LogGroup', Properties: {RetentionInDays: -.inf}}",
        LOG_GROUP % "1e999",
        LOG_GROUP[:-1],
        "[]",
        "null",
        "7",
        '"text"',
    ],
)
def test_what_is_no_template_is_refused(shared_lab: Lab, template: str) -> None:
    client = shared_lab.client("cloudformation")
    with pytest.raises(botocore.exceptions.ClientError, match="Template format error") as refused:
        client.create_stack(StackName="strict", TemplateBody=template)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(botocore.exceptions.ClientError, match="does not exist"):
        client.describe_stacks(StackName="strict")


def test_a_template_in_yaml_is_taken(shared_lab: Lab) -> None:
    client = shared_lab.client("cloudformation")
    body = "Resources:\n  L: {Type: 'AWS::Logs::LogGroup', Properties: {RetentionInDays: 7}}"
    client.create_stack(StackName="yaml", TemplateBody=body)
    assert client.describe_stacks(StackName="yaml")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"


@pytest.mark.parametrize("literal", LITERALS)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-amz-json-1.1", "text/plain"])
def test_a_body_is_refused_whatever_type_it_claims(shared_lab: Lab, literal: str, content_type: str) -> None:
    for path, service, target, name in (
        ("/", "logs", "Logs_20140328.DescribeLogGroups", "limit"),
        ("/2015-03-31/functions", "lambda", "", "MemorySize"),
        ("/schedules/s", "scheduler", "", "StartDate"),
        ("/usageplans", "apigateway", "", "name"),
    ):
        sign = (
            f"AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/{service}/aws4_request, SignedHeaders=a, Signature=b"
        )
        headers = {"Content_Type": content_type, "Authorization": sign} | ({"X_Amz_Target": target} if target else {})
        status, answer = refusal(shared_lab, path, f'{{"{name}": {literal}}}'.encode(), **headers)
        assert (status, json.loads(answer)["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("literal", [*LITERALS, "1e999"])
def test_a_client_context_is_refused(shared_lab: Lab, literal: str) -> None:
    context = base64.b64encode(f'{{"a": {literal}}}'.encode()).decode()
    status, answer = refusal(shared_lab, "/2015-03-31/functions/f/invocations", b"{}", X_Amz_Client_Context=context)
    assert (status, "Client context" in answer) == (400, True)
