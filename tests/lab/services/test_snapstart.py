"""SnapStart through Lambda's API and CloudFormation: the state of a version, and forced updates of an alias."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest

from core.aws.cloud import Cloud
from core.configuration import parse_configuration
from core.paths import BENCHMARK_TOML
from experiments.aws.lambda_control import NONCE_VARIABLE, LambdaControl
from tests.lab.robustness.support import lab_with_image, new_name
from tests.lab_support import Lab

pytestmark = pytest.mark.slow
HANDLER = """
import os

if os.environ.get("FAIL"):
    raise RuntimeError("no model here")

def handler(event, context):
    return [os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], os.environ.get("BENCHMARK_NONCE")]
"""
SNAP_START = {"ApplyOn": "PublishedVersions"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str]]:
    """A lab, and an image that is pushed there."""
    with lab_with_image(HANDLER, tmp_path_factory) as found:
        yield found


def create(lab: Lab, image: str, name: str, **more: Any) -> Any:
    client = lab.client("lambda")
    role = lab.client("iam").create_role(RoleName=new_name(), AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client.create_function(
        FunctionName=name,
        PackageType="Image",
        Code={"ImageUri": image},
        Role=role,
        SnapStart=SNAP_START,
        Timeout=600,
        **more,
    )
    return client


def call(client: Any, name: str, **options: str) -> Any:
    return json.load(client.invoke(FunctionName=name, **options)["Payload"])


def test_a_published_version_is_pending_until_its_snapshot_is_there(served: tuple[Lab, str]) -> None:
    lab, image = served
    name = new_name()
    client = create(lab, image, name)
    published = client.publish_version(FunctionName=name)
    assert published["SnapStart"] == SNAP_START | {"OptimizationStatus": "On"}
    assert published["State"] in ("Pending", "Active")
    client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    assert call(client, name, Qualifier="1") == ["snap-start", None]
    assert call(client, name) == ["on-demand", None]
    latest = client.get_function_configuration(FunctionName=name)
    assert latest["SnapStart"] == SNAP_START | {"OptimizationStatus": "Off"}


def test_more_than_512_mb_of_storage_are_refused(served: tuple[Lab, str]) -> None:
    lab, image = served
    name = new_name()
    with pytest.raises(botocore.exceptions.ClientError, match="ephemeral storage above 512 MB"):
        create(lab, image, name, EphemeralStorage={"Size": 1024})
    client = create(lab, image, name)
    with pytest.raises(botocore.exceptions.ClientError, match="ephemeral storage above 512 MB"):
        client.update_function_configuration(FunctionName=name, EphemeralStorage={"Size": 1024})


def test_a_version_whose_init_fails_says_why_and_runs_nothing(served: tuple[Lab, str]) -> None:
    lab, image = served
    name = new_name()
    client = create(lab, image, name, Environment={"Variables": {"FAIL": "1"}})
    client.publish_version(FunctionName=name)
    with pytest.raises(botocore.exceptions.WaiterError):
        client.get_waiter("published_version_active").wait(
            FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
        )
    failed = client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert failed["State"] == "Failed"
    assert "no model here" in failed["StateReason"]
    with pytest.raises(botocore.exceptions.ClientError, match="ResourceConflictException"):
        client.invoke(FunctionName=name, Qualifier="1")


def test_a_stack_waits_for_the_snapshot_and_fails_with_its_reason(served: tuple[Lab, str]) -> None:
    lab, image = served
    policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
    function = {
        "PackageType": "Image",
        "Code": {"ImageUri": image},
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "SnapStart": SNAP_START,
        "Timeout": 600,
    }
    resources = {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": policy}},
        "Function": {"Type": "AWS::Lambda::Function", "Properties": function},
        "Version": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Function"}}},
    }
    outputs = {"Version": {"Value": {"Ref": "Version"}}}
    client = lab.client("cloudformation", retries={"total_max_attempts": 1})
    name = new_name()
    client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources, "Outputs": outputs}))
    (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert call(lab.client("lambda"), stack["Outputs"][0]["OutputValue"])[0] == "snap-start"
    function["Environment"] = {"Variables": {"FAIL": "1"}}
    failing = new_name()
    client.create_stack(StackName=failing, TemplateBody=json.dumps({"Resources": resources}))
    (stack,) = client.describe_stacks(StackName=failing)["Stacks"]
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    events = client.describe_stack_events(StackName=failing)["StackEvents"]
    assert any("no model here" in event.get("ResourceStatusReason", "") for event in events)


def test_a_version_without_its_snapshot_fails_a_stack_each_time(served: tuple[Lab, str]) -> None:
    lab, image = served
    name, client = new_name(), lab.client("cloudformation")
    create(lab, image, name, Environment={"Variables": {"FAIL": "1"}})
    version = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": name}}
    for stack_name in (new_name(), new_name()):
        client.create_stack(StackName=stack_name, TemplateBody=json.dumps({"Resources": {"Version": version}}))
        (stack,) = client.describe_stacks(StackName=stack_name)["Stacks"]
        assert stack["StackStatus"] == "ROLLBACK_COMPLETE"


def test_a_forced_update_publishes_a_version_and_undoing_it_leaves_the_deployed_one(
    served: tuple[Lab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, image = served
    text = BENCHMARK_TOML.read_text(encoding="utf-8").replace('starts = ["on_demand"]', 'starts = ["snapstart"]')
    configuration = parse_configuration(text)
    variant = configuration.variants[0]
    name = configuration.names.function(variant)
    client = create(lab, image, name)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for key, value in lab.environment.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    control = LambdaControl(Cloud(), configuration)

    def versions() -> list[str]:
        return [one["Version"] for one in client.list_versions_by_function(FunctionName=name)["Versions"]]

    control.set_nonce(variant, "run/1")
    assert json.loads(control.invoke(variant).payload) == ["snap-start", "run/1"]
    control.set_nonce(variant, "run/2")
    answer = control.invoke(variant)
    assert json.loads(answer.payload) == ["snap-start", "run/2"]
    assert "Restore Duration" in answer.log_tail
    assert versions() == ["$LATEST", "1", "3"], "the version before the last one was deleted"
    assert control.remove_nonce(variant)
    assert versions() == ["$LATEST", "1"]
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "1"
    assert json.loads(control.invoke(variant).payload) == ["snap-start", None]
    assert NONCE_VARIABLE not in client.get_function_configuration(FunctionName=name).get("Environment", {}).get(
        "Variables", {}
    )
    assert not control.remove_nonce(variant)
