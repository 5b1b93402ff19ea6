"""Tags of a template follow it through updates, and those that others gave stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.lab_support import Lab

API = {"RestApiId": {"Ref": "Api"}}
GET = {
    **API,
    "ResourceId": {"Fn::GetAtt": ["Api", "RootResourceId"]},
    "HttpMethod": "GET",
    "AuthorizationType": "NONE",
    "Integration": {"Type": "MOCK"},
}
# The resources that carry tags, and what they need.
TAGGED: dict[str, tuple[str, dict[str, Any]]] = {
    "Group": ("AWS::Scheduler::ScheduleGroup", {"Name": "tagged"}),
    "Logs": ("AWS::Logs::LogGroup", {"LogGroupName": "tagged"}),
    "Role": (
        "AWS::IAM::Role",
        {"RoleName": "tagged", "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
    ),
    "Function": ("AWS::Lambda::Function", {"FunctionName": "tagged", "PackageType": "Image"}),
    "Api": ("AWS::ApiGateway::RestApi", {"Name": "tagged"}),
    "Stage": ("AWS::ApiGateway::Stage", {**API, "StageName": "v1", "DeploymentId": {"Ref": "Deployment"}}),
    "Key": ("AWS::ApiGateway::ApiKey", {"Name": "tagged"}),
    "Plan": ("AWS::ApiGateway::UsagePlan", {"UsagePlanName": "tagged"}),
}


def template(image: str, tags: dict[str, str]) -> str:
    resources: dict[str, Any] = {
        "Get": {"Type": "AWS::ApiGateway::Method", "Properties": GET},
        "Deployment": {"Type": "AWS::ApiGateway::Deployment", "DependsOn": ["Get"], "Properties": API},
    }
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    for name, (kind, properties) in TAGGED.items():
        resources[name] = {"Type": kind, "Properties": {**properties, **({"Tags": listed} if tags else {})}}
    resources["Function"]["Properties"] |= {"Code": {"ImageUri": image}, "Role": {"Fn::GetAtt": ["Role", "Arn"]}}
    return json.dumps({"Resources": resources})


def listed(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def readers(lab: Lab) -> dict[str, Callable[[], dict[str, str]]]:
    """How each resource's tags are read."""
    gateway, functions, schedules = lab.client("apigateway"), lab.client("lambda"), lab.client("scheduler")
    logs, iam = lab.client("logs"), lab.client("iam")
    arn = functions.get_function(FunctionName="tagged")["Configuration"]["FunctionArn"]
    api, key, plan = (
        next(item["id"] for item in answer["items"] if item["name"] == "tagged")
        for answer in (gateway.get_rest_apis(), gateway.get_api_keys(), gateway.get_usage_plans())
    )
    group = schedules.get_schedule_group(Name="tagged")["Arn"]
    return {
        "Group": lambda: listed(schedules.list_tags_for_resource(ResourceArn=group)["Tags"]),
        "Logs": lambda: logs.list_tags_log_group(logGroupName="tagged")["tags"],
        "Role": lambda: listed(iam.list_role_tags(RoleName="tagged")["Tags"]),
        "Function": lambda: functions.list_tags(Resource=arn)["Tags"],
        "Api": lambda: gateway.get_rest_api(restApiId=api).get("tags", {}),
        "Stage": lambda: gateway.get_stage(restApiId=api, stageName="v1").get("tags", {}),
        "Key": lambda: gateway.get_api_key(apiKey=key).get("tags", {}),
        "Plan": lambda: gateway.get_usage_plan(usagePlanId=plan).get("tags", {}),
    }


def test_tags_of_a_template_are_added_changed_and_removed_with_it(shared_lab: Lab) -> None:
    cloudformation, image = shared_lab.client("cloudformation"), shared_lab.push_image()
    tags = {"kept": "1", "changed": "1", "removed": "1"}
    cloudformation.create_stack(StackName="tagged", TemplateBody=template(image, tags))
    assert cloudformation.describe_stacks(StackName="tagged")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    read = readers(shared_lab)
    assert read.keys() == TAGGED.keys()
    assert {name: reader() for name, reader in read.items()} == dict.fromkeys(TAGGED, tags)

    shared_lab.client("logs").tag_log_group(logGroupName="tagged", tags={"of others": "1"})
    shared_lab.client("iam").tag_role(RoleName="tagged", Tags=[{"Key": "of others", "Value": "1"}])
    functions = shared_lab.client("lambda")
    arn = functions.get_function(FunctionName="tagged")["Configuration"]["FunctionArn"]
    functions.tag_resource(Resource=arn, Tags={"of others": "1"})
    schedules = shared_lab.client("scheduler")
    group = schedules.get_schedule_group(Name="tagged")["Arn"]
    schedules.tag_resource(ResourceArn=group, Tags=[{"Key": "of others", "Value": "1"}])
    others = {name: {"of others": "1"} for name in ("Logs", "Role", "Function", "Group")}

    for tags in ({"kept": "1", "changed": "2", "added": "2"}, {}):
        cloudformation.update_stack(StackName="tagged", TemplateBody=template(image, tags))
        assert cloudformation.describe_stacks(StackName="tagged")["Stacks"][0]["StackStatus"] == "UPDATE_COMPLETE"
        assert {name: reader() for name, reader in read.items()} == {
            name: {**tags, **others.get(name, {})} for name in TAGGED
        }
