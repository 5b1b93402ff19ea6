"""Provisioned concurrency through Lambda's API and CloudFormation."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest

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
    for _ in range(300):
        found: dict[str, Any] = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        if found["Status"] != "IN_PROGRESS":
            return found
        time.sleep(0.2)
    raise AssertionError(found)


def call(client: Any, name: str, **options: str) -> Any:
    return json.load(client.invoke(FunctionName=name, **options)["Payload"])


def test_a_version_gets_what_is_asked_for_and_gives_it_back(served: tuple[Lab, str]) -> None:
    lab, image = served
    client, name = lab.client("lambda"), new_name()
    role = lab.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client.create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": image}, Role=role)
    client.publish_version(FunctionName=name)
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
