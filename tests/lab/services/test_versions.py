"""Versions and aliases: published by the API and by CloudFormation, and run beside $LATEST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest

from tests.lab.robustness.support import deploy, new_name
from tests.lab_support import Lab, running_lab

DOCKERFILE = 'ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nENV NUMBER="%s"\nCOPY handler.py .\nCMD ["handler.handler"]\n'
HANDLER = """
import os

def handler(event, context):
    return [os.environ["NUMBER"], context.function_version, context.invoked_function_arn.rpartition(":")[2]]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, dict[str, str]]]:
    """A lab with images of two contents, by their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_IMAGES", str(tmp_path_factory.mktemp("images")))
        with running_lab() as lab:
            images = {}
            for number in ("1", "2"):
                context = tmp_path_factory.mktemp(f"image-{number}")
                (context / "Dockerfile").write_text(DOCKERFILE % number)
                (context / "handler.py").write_text(HANDLER)
                name = new_name()
                deploy(lab, name, rest=False, directory=context)
                images[number] = lab.client("lambda").get_function(FunctionName=name)["Code"]["ImageUri"]
            yield lab, images


@pytest.fixture
def function(served: tuple[Lab, dict[str, str]]) -> Iterator[tuple[Any, str, dict[str, str]]]:
    """A client of Lambda, a function of the first image, and the images."""
    lab, images = served
    client, name = lab.client("lambda"), new_name()
    role = lab.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client.create_function(
        FunctionName=name, PackageType="Image", Code={"ImageUri": images["1"]}, Role=role, Timeout=600
    )
    yield client, name, images
    client.delete_function(FunctionName=name)


def call(client: Any, name: str, **options: str) -> tuple[str, Any]:
    answer = client.invoke(FunctionName=name, **options)
    return answer["ExecutedVersion"], json.load(answer["Payload"])


@pytest.mark.slow
def test_a_version_keeps_its_code_while_the_latest_changes(function: tuple[Any, str, dict[str, str]]) -> None:
    client, name, images = function
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    client.update_function_code(FunctionName=name, ImageUri=images["2"])
    assert call(client, name) == ("$LATEST", ["2", "$LATEST", name])
    assert call(client, name, Qualifier="1") == ("1", ["1", "1", "1"])
    assert client.publish_version(FunctionName=name)["Version"] == "2"
    assert client.publish_version(FunctionName=name)["Version"] == "2", "nothing has changed since"
    assert call(client, f"{name}:2") == ("2", ["2", "2", "2"])
    with pytest.raises(botocore.exceptions.ClientError, match=f"{name}:3"):
        client.invoke(FunctionName=name, Qualifier="3")


@pytest.mark.slow
def test_an_alias_runs_the_version_that_it_names_or_shares_its_calls(function: tuple[Any, str, dict[str, str]]) -> None:
    client, name, images = function
    client.publish_version(FunctionName=name)
    client.update_function_code(FunctionName=name, ImageUri=images["2"])
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert call(client, name, Qualifier="live") == ("1", ["1", "1", "live"])
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    assert call(client, f"{name}:live")[0] == "2"
    everything = {"AdditionalVersionWeights": {"1": 1.0}}
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig=everything)
    assert call(client, f"{name}:live")[0] == "1"


@pytest.mark.slow
def test_cloudformation_publishes_versions_and_moves_aliases(served: tuple[Lab, dict[str, str]]) -> None:
    lab, images = served
    cloudformation, client = lab.client("cloudformation"), lab.client("lambda")

    def template(number: str) -> str:
        policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
        function = {
            "FunctionName": "versioned",
            "PackageType": "Image",
            "Code": {"ImageUri": images[number]},
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Timeout": 600,
        }
        version = f"Version{number}"  # as the CDK does it: another logical id makes another version
        alias = {
            "FunctionName": {"Ref": "Function"},
            "Name": "live",
            "FunctionVersion": {"Fn::GetAtt": [version, "Version"]},
        }
        resources = {
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": policy}},
            "Function": {"Type": "AWS::Lambda::Function", "Properties": function},
            version: {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Function"}}},
            "Alias": {"Type": "AWS::Lambda::Alias", "Properties": alias},
        }
        outputs = {"Alias": {"Value": {"Ref": "Alias"}}, "Version": {"Value": {"Ref": version}}}
        return json.dumps({"Resources": resources, "Outputs": outputs})

    def outputs() -> dict[str, str]:
        (stack,) = cloudformation.describe_stacks(StackName="versions")["Stacks"]
        assert stack["StackStatus"].endswith("_COMPLETE")
        assert "ROLLBACK" not in stack["StackStatus"]
        return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}

    cloudformation.create_stack(StackName="versions", TemplateBody=template("1"))
    first = outputs()
    assert first["Version"].endswith(":function:versioned:1")
    assert call(client, first["Alias"]) == ("1", ["1", "1", "live"])
    cloudformation.update_stack(StackName="versions", TemplateBody=template("2"))
    assert outputs()["Version"].endswith(":function:versioned:2")
    assert call(client, first["Alias"]) == ("2", ["2", "2", "live"])
    cloudformation.delete_stack(StackName="versions")
    with pytest.raises(botocore.exceptions.ClientError, match="Function not found"):
        client.invoke(FunctionName="versioned")
