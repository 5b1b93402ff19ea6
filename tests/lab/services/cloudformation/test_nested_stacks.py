"""Stacks inside a stack: outputs, updates, roll-back and removal, as CloudFormation has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest

from tests.lab_support import Lab

BUCKET = "templates"


def part_template() -> dict[str, Any]:
    """A log group whose retention is a parameter, and an output."""
    return {
        "Parameters": {"Days": {"Type": "Number"}, "Name": {"Type": "String"}},
        "Resources": {
            "Logs": {
                "Type": "AWS::Logs::LogGroup",
                "Properties": {"LogGroupName": {"Ref": "Name"}, "RetentionInDays": {"Ref": "Days"}},
            }
        },
        "Outputs": {"Name": {"Value": {"Ref": "Logs"}}},
    }


def failing_template() -> dict[str, Any]:
    """A part with a log group, and a permission of a function that does not exist."""
    template = part_template()
    template["Resources"]["Permission"] = {
        "Type": "AWS::Lambda::Permission",
        "DependsOn": "Logs",
        "Properties": {
            "Action": "lambda:InvokeFunction",
            "FunctionName": "missing",
            "Principal": "apigateway.amazonaws.com",
        },
    }
    return template


@pytest.fixture
def lab(module_lab: Lab) -> Iterator[Lab]:
    """The lab of this module with templates in a bucket, emptied after each test."""
    s3, cloudformation = module_lab.client("s3"), module_lab.client("cloudformation")
    s3.create_bucket(Bucket=BUCKET)
    for key, template in (("part", part_template()), ("failing", failing_template())):
        s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(template).encode())
    yield module_lab
    for stack in cloudformation.describe_stacks()["Stacks"]:
        cloudformation.delete_stack(StackName=stack["StackName"])


def root_template(lab: Lab, days: str = "7", second: str = "part") -> dict[str, Any]:
    """Two parts, the second of which takes an output of the first."""
    first_name = {"Fn::GetAtt": ["First", "Outputs.Name"]}

    def part(key: str, name: Any) -> dict[str, Any]:
        properties = {"TemplateURL": f"{lab.url}/{BUCKET}/{key}", "Parameters": {"Days": days, "Name": name}}
        return {"Type": "AWS::CloudFormation::Stack", "Properties": properties}

    return {
        "Resources": {
            "Second": part(second, {"Fn::Join": ["", [first_name, "/second"]]}),
            "First": part("part", "/first"),
        },
        "Outputs": {"Name": {"Value": {"Fn::GetAtt": ["Second", "Outputs.Name"]}}},
    }


def deploy(lab: Lab, template: dict[str, Any]) -> dict[str, Any]:
    cloudformation = lab.client("cloudformation")
    exists = any(stack["StackName"] == "root" for stack in cloudformation.describe_stacks()["Stacks"])
    change = cloudformation.update_stack if exists else cloudformation.create_stack
    change(StackName="root", TemplateBody=json.dumps(template))
    found: dict[str, Any] = cloudformation.describe_stacks(StackName="root")["Stacks"][0]
    return found


def retention(lab: Lab) -> dict[str, int]:
    groups = lab.client("logs").describe_log_groups()["logGroups"]
    return {group["logGroupName"]: group["retentionInDays"] for group in groups}


def nested_stacks(lab: Lab) -> list[dict[str, Any]]:
    return [stack for stack in lab.client("cloudformation").describe_stacks()["Stacks"] if "ParentId" in stack]


def test_an_output_of_a_part_reaches_other_parts_and_the_root(lab: Lab) -> None:
    root = deploy(lab, root_template(lab))
    assert root["StackStatus"] == "CREATE_COMPLETE"
    assert root["Outputs"][0]["OutputValue"] == "/first/second"
    assert retention(lab) == {"/first": 7, "/first/second": 7}
    relations = {(stack["ParentId"], stack["RootId"]) for stack in nested_stacks(lab)}
    assert relations == {(root["StackId"], root["StackId"])}


def test_a_stack_two_levels_deep_names_its_parent_and_its_root(lab: Lab) -> None:
    lab.client("s3").put_object(Bucket=BUCKET, Key="middle", Body=json.dumps(root_template(lab)).encode())
    middle = {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": f"{lab.url}/{BUCKET}/middle"}}
    root = deploy(lab, {"Resources": {"Middle": middle}})
    (between,) = [stack for stack in nested_stacks(lab) if stack["ParentId"] == root["StackId"]]
    assert {stack["RootId"] for stack in nested_stacks(lab)} == {root["StackId"]}
    assert [stack["ParentId"] for stack in nested_stacks(lab)].count(between["StackId"]) == 2


def test_an_update_reaches_the_parts_and_destroying_the_root_leaves_none(lab: Lab) -> None:
    deploy(lab, root_template(lab))
    assert deploy(lab, root_template(lab, days="14"))["StackStatus"] == "UPDATE_COMPLETE"
    assert retention(lab) == {"/first": 14, "/first/second": 14}
    assert {stack["StackStatus"] for stack in nested_stacks(lab)} == {"UPDATE_COMPLETE"}

    lab.client("cloudformation").delete_stack(StackName="root")
    assert lab.client("cloudformation").describe_stacks()["Stacks"] == []
    assert retention(lab) == {}


def test_a_part_that_cannot_be_created_leaves_no_stack_and_gives_its_reason(lab: Lab) -> None:
    assert deploy(lab, root_template(lab, second="failing"))["StackStatus"] == "ROLLBACK_COMPLETE"
    assert [stack["StackName"] for stack in lab.client("cloudformation").describe_stacks()["Stacks"]] == ["root"]
    assert retention(lab) == {}
    events = lab.client("cloudformation").describe_stack_events(StackName="root")["StackEvents"]
    (failed,) = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert failed["LogicalResourceId"] == "Second"
    assert "missing" in failed["ResourceStatusReason"]


def test_a_part_that_cannot_be_updated_brings_back_all_parts(lab: Lab) -> None:
    deploy(lab, root_template(lab))
    changed = deploy(lab, root_template(lab, days="14", second="failing"))
    assert changed["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert retention(lab) == {"/first": 7, "/first/second": 7}
    assert deploy(lab, root_template(lab, days="14"))["StackStatus"] == "UPDATE_COMPLETE"


def test_a_missing_template_is_named(lab: Lab) -> None:
    assert deploy(lab, root_template(lab, second="absent"))["StackStatus"] == "ROLLBACK_COMPLETE"
    events = lab.client("cloudformation").describe_stack_events(StackName="root")["StackEvents"]
    (failed,) = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert f"{BUCKET}/absent" in failed["ResourceStatusReason"]


def test_a_part_that_was_deleted_by_hand_does_not_keep_its_root(lab: Lab) -> None:
    deploy(lab, root_template(lab))
    cloudformation = lab.client("cloudformation")
    cloudformation.delete_stack(StackName=nested_stacks(lab)[0]["StackId"])
    cloudformation.delete_stack(StackName="root")
    with pytest.raises(botocore.exceptions.ClientError, match="does not exist"):
        cloudformation.describe_stacks(StackName="root")


def test_flags_and_lists_reach_a_part_as_text_and_its_tags_change_with_the_root(lab: Lab) -> None:
    flag = {"Fn::If": ["IsOn", 30, 7]}
    names = {"Fn::Select": [1, {"Ref": "Names"}]}
    part = {
        "Parameters": {"On": {"Type": "String"}, "Names": {"Type": "CommaDelimitedList"}},
        "Conditions": {"IsOn": {"Fn::Equals": [{"Ref": "On"}, "true"]}},
        "Resources": {
            "Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": names, "RetentionInDays": flag}}
        },
    }
    lab.client("s3").put_object(Bucket=BUCKET, Key="flags", Body=json.dumps(part).encode())

    def root(team: str) -> dict[str, Any]:
        properties = {
            "TemplateURL": f"{lab.url}/{BUCKET}/flags",
            "Parameters": {"On": True, "Names": ["/a", "/b"]},
            "Tags": [{"Key": "team", "Value": team}],
        }
        return {"Resources": {"Part": {"Type": "AWS::CloudFormation::Stack", "Properties": properties}}}

    assert deploy(lab, root("red"))["StackStatus"] == "CREATE_COMPLETE"
    assert retention(lab) == {"/b": 30}
    assert deploy(lab, root("blue"))["StackStatus"] == "UPDATE_COMPLETE"
    assert nested_stacks(lab)[0]["Tags"] == [{"Key": "team", "Value": "blue"}]
