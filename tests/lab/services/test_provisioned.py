"""Provisioned concurrency through Lambda's API and CloudFormation."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest

from core.aws.cloud import Cloud
from core.configuration import parse_configuration
from core.errors import CloudError
from core.paths import BENCHMARK_TOML
from experiments.aws.lambda_control import LambdaControl
from tests.lab.robustness.support import lab_with_image, new_name
from tests.lab_support import Lab

pytestmark = pytest.mark.slow
HANDLER = """
import os

def handler(event, context):
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str]]:
    """A lab, and an image that is pushed there."""
    with lab_with_image(HANDLER, tmp_path_factory) as found:
        yield found


def ready(client: Any, name: str, qualifier: str) -> dict[str, Any]:
    """Wait until a version or alias has what was asked for."""
    for _ in range(3000):  # ten minutes
        found: dict[str, Any] = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        if found["Status"] != "IN_PROGRESS":
            return found
        time.sleep(0.2)
    raise AssertionError(found)


def call(client: Any, name: str, **options: str) -> Any:
    return json.load(client.invoke(FunctionName=name, **options)["Payload"])


def published(lab: Lab, image: str) -> tuple[Any, str]:
    """A function with version 1."""
    client, name = lab.client("lambda"), new_name()
    role = lab.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client.create_function(
        FunctionName=name, PackageType="Image", Code={"ImageUri": image}, Role=role, Publish=True, Timeout=600
    )
    return client, name


def test_a_version_gets_what_is_asked_for_and_gives_it_back(served: tuple[Lab, str]) -> None:
    lab, image = served
    client, name = published(lab, image)
    put = {"FunctionName": name, "ProvisionedConcurrentExecutions": 2}
    for qualifier in ("$LATEST", "7"):
        with pytest.raises(botocore.exceptions.ClientError):
            client.put_provisioned_concurrency_config(**put, Qualifier=qualifier)
    asked = client.put_provisioned_concurrency_config(**put, Qualifier="1")
    assert asked["RequestedProvisionedConcurrentExecutions"] == 2
    found = ready(client, name, "1")
    assert (found["Status"], found["AvailableProvisionedConcurrentExecutions"]) == ("READY", 2)
    assert call(client, name, Qualifier="1") == "provisioned-concurrency"
    assert call(client, name) == "on-demand"
    (listed,) = client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert listed["FunctionArn"].endswith(f"{name}:1")
    client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    with pytest.raises(botocore.exceptions.ClientError, match="ProvisionedConcurrencyConfigNotFoundException"):
        client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with pytest.raises(botocore.exceptions.ClientError, match="reservedConcurrentExecution"):
        client.put_provisioned_concurrency_config(**put, Qualifier="1")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"ProvisionedConcurrentExecutions": NaN}']
    + [b'{"ProvisionedConcurrentExecutions": %b}' % value for value in (b"1e999", b"true", b"1.5", b'"1"', b"null")],
)
def test_a_body_without_a_whole_number_is_refused(served: tuple[Lab, str], body: bytes) -> None:
    lab, image = served
    client, name = published(lab, image)
    path = f"/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier=1"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", lab.port)) as connection:
        connection.request("PUT", path, body)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    assert client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []


def test_what_is_provisioned_goes_with_its_alias_and_its_version(served: tuple[Lab, str]) -> None:
    lab, image = served
    client, name = published(lab, image)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.create_alias(FunctionName=name, Name="latest", FunctionVersion="$LATEST")
    put = {"FunctionName": name, "ProvisionedConcurrentExecutions": 1}
    with pytest.raises(botocore.exceptions.ClientError, match="unpublished function versions"):
        client.put_provisioned_concurrency_config(**put, Qualifier="latest")
    client.put_provisioned_concurrency_config(**put, Qualifier="live")
    assert ready(client, name, "live")["Status"] == "READY"
    with pytest.raises(botocore.exceptions.ClientError, match=r"ResourceConflictException.*reference it: \[live\]"):
        client.delete_function(FunctionName=name, Qualifier="1")
    with pytest.raises(botocore.exceptions.ClientError, match="without deleting the function"):
        client.delete_function(FunctionName=name, Qualifier="$LATEST")
    client.delete_alias(FunctionName=name, Name="live")
    client.put_provisioned_concurrency_config(**put, Qualifier="1")
    client.delete_function(FunctionName=name, Qualifier="1")
    assert client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []


def test_a_stack_whose_concurrency_is_refused_leaves_no_alias(served: tuple[Lab, str]) -> None:
    lab, image = served
    cloudformation = lab.client("cloudformation")
    client, name = published(lab, image)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    alias: dict[str, Any] = {
        "FunctionName": name,
        "Name": "live",
        "FunctionVersion": "1",
        "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 2},
    }
    template = {"Resources": {"Alias": {"Type": "AWS::Lambda::Alias", "Properties": alias}}}
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert client.list_aliases(FunctionName=name)["Aliases"] == []


def test_a_forced_update_calls_the_new_version_on_demand_and_then_in_its_provisioned_environment(
    served: tuple[Lab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, image = served
    text = BENCHMARK_TOML.read_text(encoding="utf-8").replace('starts = ["on_demand"]', 'starts = ["provisioned"]')
    configuration = parse_configuration(text)
    variant = configuration.variants[0]
    client, name = lab.client("lambda"), configuration.names.function(variant)
    role = lab.client("iam").create_role(RoleName=new_name(), AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client.create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": image}, Role=role, Timeout=600)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for key, value in lab.environment.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    control = LambdaControl(Cloud(), configuration)
    assert control.provisioned_status(variant) == ("", "")
    with pytest.raises(CloudError, match=name):
        control.await_provisioned(variant)
    client.put_provisioned_concurrency_config(FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=1)
    control.await_provisioned(variant)
    on_demand = []
    control.set_nonce(
        variant,
        "run/1",
        lambda version: on_demand.append((version, json.loads(control.invoke(variant, version=version).payload))),
    )
    assert on_demand == [("2", "on-demand")]
    assert json.loads(control.invoke(variant).payload) == "provisioned-concurrency"
    assert control.remove_nonce(variant)
    control.await_provisioned(variant)
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "1"
    assert json.loads(control.invoke(variant).payload) == "provisioned-concurrency"
    assert [one["Version"] for one in client.list_versions_by_function(FunctionName=name)["Versions"]] == [
        "$LATEST",
        "1",
    ]


def test_an_alias_of_a_stack_keeps_its_concurrency_on_the_version_that_it_names(served: tuple[Lab, str]) -> None:
    lab, image = served
    cloudformation, client, name = lab.client("cloudformation"), lab.client("lambda"), new_name()
    policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}

    def template(number: int, executions: int | None) -> str:
        function = {
            "FunctionName": name,
            "PackageType": "Image",
            "Code": {"ImageUri": image},
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Description": f"number {number}",
            "Timeout": 600,
        }
        alias: dict[str, Any] = {
            "FunctionName": {"Ref": "Function"},
            "Name": "live",
            "FunctionVersion": {"Fn::GetAtt": [f"Version{number}", "Version"]},
        }
        if executions:
            alias["ProvisionedConcurrencyConfig"] = {"ProvisionedConcurrentExecutions": executions}
        version = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Function"}}}
        resources = {
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": policy}},
            "Function": {"Type": "AWS::Lambda::Function", "Properties": function},
            f"Version{number}": version,
            "Alias": {"Type": "AWS::Lambda::Alias", "Properties": alias},
        }
        return json.dumps({"Resources": resources})

    cloudformation.create_stack(StackName=name, TemplateBody=template(1, 1))
    assert ready(client, name, "live")["Status"] == "READY"
    assert call(client, name, Qualifier="live") == "provisioned-concurrency"
    cloudformation.update_stack(StackName=name, TemplateBody=template(2, 1))
    assert ready(client, name, "live")["Status"] == "READY"
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "2"
    assert call(client, name, Qualifier="live") == "provisioned-concurrency"
    cloudformation.update_stack(StackName=name, TemplateBody=template(2, None))
    with pytest.raises(botocore.exceptions.ClientError, match="ProvisionedConcurrencyConfigNotFoundException"):
        client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="live")
