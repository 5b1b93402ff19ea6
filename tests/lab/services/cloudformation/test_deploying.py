"""CloudFormation in the lab, as the CDK command line drives it: change sets."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest

from core.paths import REPOSITORY
from tests.lab.robustness.support import wait_until
from tests.lab_support import Lab

ACCOUNT = "123456789012"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/assets:one"


@pytest.fixture(autouse=True)
def image(request: pytest.FixtureRequest) -> None:
    """The image that the templates' functions run."""
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").push_image("assets:one")


def function_template(memory_mb: int = 512) -> dict[str, Any]:
    """A function with its log group, as the Functions stack has them; the log group stands last on purpose."""
    return {
        "Resources": {
            "Config": {
                "Type": "AWS::Lambda::EventInvokeConfig",
                "Properties": {
                    "FunctionName": {"Ref": "Function"},
                    "Qualifier": "$LATEST",
                    "MaximumRetryAttempts": 0,
                    "MaximumEventAgeInSeconds": 60,
                },
            },
            "Function": {
                "Type": "AWS::Lambda::Function",
                "DependsOn": ["Role"],
                "Properties": {
                    "FunctionName": "deployed",
                    "PackageType": "Image",
                    "Code": {"ImageUri": IMAGE},
                    "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                    "MemorySize": memory_mb,
                    "Timeout": 120,
                    "Architectures": ["x86_64"],
                    "Environment": {"Variables": {"COLOUR": "red"}},
                    "ImageConfig": {"Command": ["handler.other"]},
                    "LoggingConfig": {
                        "LogFormat": "JSON",
                        "SystemLogLevel": "DEBUG",
                        "ApplicationLogLevel": "WARN",
                        "LogGroup": {"Ref": "Logs"},
                    },
                    "Tags": [{"Key": "project", "Value": "lab"}],
                },
            },
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []},
                    "Policies": [{"PolicyName": "Write", "PolicyDocument": {"Version": "2012-10-17", "Statement": []}}],
                },
            },
            "Logs": {
                "Type": "AWS::Logs::LogGroup",
                "Properties": {"LogGroupName": "/aws/lambda/deployed", "RetentionInDays": 14},
            },
        },
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Function", "Arn"]}}},
    }


def api_template(memory_mb: str = "512") -> dict[str, Any]:
    """A REST API whose deployment stands before its methods, as the CDK may write them."""
    uri = {
        "Fn::Join": [
            "",
            [
                "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/",
                f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:deployed",
                "/invocations",
            ],
        ]
    }
    return {
        "Resources": {
            "Stage": {
                "Type": "AWS::ApiGateway::Stage",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "DeploymentId": {"Ref": "Deployment"},
                    "StageName": "v1",
                    "Variables": {"colour": "red"},
                    "MethodSettings": [
                        {
                            "ResourcePath": "/*",
                            "HttpMethod": "*",
                            "ThrottlingRateLimit": 5,
                            "ThrottlingBurstLimit": 7,
                            "MetricsEnabled": True,
                        },
                        {"ResourcePath": "/~1model~1{memory}", "HttpMethod": "GET", "ThrottlingRateLimit": 1},
                    ],
                },
            },
            "Deployment": {
                "Type": "AWS::ApiGateway::Deployment",
                "DependsOn": ["Method", "Options"],
                "Properties": {"RestApiId": {"Ref": "Api"}, "Description": "first"},
            },
            "Options": {
                "Type": "AWS::ApiGateway::Method",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "ResourceId": {"Ref": "Memory"},
                    "HttpMethod": "OPTIONS",
                    "AuthorizationType": "NONE",
                    "Integration": {
                        "Type": "MOCK",
                        "RequestTemplates": {"application/json": '{"statusCode": 204}'},
                        "IntegrationResponses": [
                            {
                                "StatusCode": "204",
                                "ResponseParameters": {"method.response.header.Allow": "'GET'"},
                            }
                        ],
                    },
                    "MethodResponses": [{"StatusCode": "204"}],
                },
            },
            "Method": {
                "Type": "AWS::ApiGateway::Method",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "ResourceId": {"Ref": "Memory"},
                    "HttpMethod": "GET",
                    "AuthorizationType": "NONE",
                    "ApiKeyRequired": True,
                    "Integration": {
                        "Type": "AWS_PROXY",
                        "IntegrationHttpMethod": "POST",
                        "Uri": uri,
                        "TimeoutInMillis": 1500,
                    },
                },
            },
            "Memory": {
                "Type": "AWS::ApiGateway::Resource",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "ParentId": {"Ref": "Model"},
                    "PathPart": memory_mb,
                },
            },
            "Model": {
                "Type": "AWS::ApiGateway::Resource",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "ParentId": {"Fn::GetAtt": ["Api", "RootResourceId"]},
                    "PathPart": "model",
                },
            },
            "Unknown": {
                "Type": "AWS::ApiGateway::GatewayResponse",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "ResponseType": "MISSING_AUTHENTICATION_TOKEN",
                    "StatusCode": "404",
                    "ResponseTemplates": {"application/json": "{}"},
                },
            },
            "Key": {
                "Type": "AWS::ApiGateway::ApiKey",
                "Properties": {"Name": "key", "Value": "a-key-of-more-than-twenty", "Enabled": True},
            },
            "Plan": {
                "Type": "AWS::ApiGateway::UsagePlan",
                "DependsOn": "Stage",
                "Properties": {
                    "UsagePlanName": "plan",
                    "Throttle": {"RateLimit": 3, "BurstLimit": 4},
                    "Quota": {"Limit": 100, "Period": "DAY"},
                    "ApiStages": [{"ApiId": {"Ref": "Api"}, "Stage": {"Ref": "Stage"}}],
                },
            },
            "PlanKey": {
                "Type": "AWS::ApiGateway::UsagePlanKey",
                "Properties": {"KeyId": {"Ref": "Key"}, "KeyType": "API_KEY", "UsagePlanId": {"Ref": "Plan"}},
            },
            "Account": {
                "Type": "AWS::ApiGateway::Account",
                "Properties": {"CloudWatchRoleArn": "arn:aws:iam::1:role/r"},
            },
            "Permission": {
                "Type": "AWS::Lambda::Permission",
                "Properties": {
                    "Action": "lambda:InvokeFunction",
                    "FunctionName": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:deployed",
                    "Principal": "apigateway.amazonaws.com",
                    "SourceArn": {"Fn::Sub": "arn:aws:execute-api:us-east-1:" + ACCOUNT + ":${Api}/*/GET/model/512"},
                },
            },
            "Api": {
                "Type": "AWS::ApiGateway::RestApi",
                "Properties": {
                    "Name": "api",
                    "EndpointConfiguration": {"Types": ["REGIONAL"]},
                    "BinaryMediaTypes": ["image/jpeg"],
                },
            },
        },
        "Outputs": {
            "Url": {
                "Value": {"Fn::Sub": "https://${Api}.execute-api.us-east-1.amazonaws.com/${Stage}/"},
                "Export": {"Name": "url-of-api"},
            }
        },
    }


def schedule_template(minutes: int = 10) -> dict[str, Any]:
    """A schedule in a group of its own, off."""
    return {
        "Resources": {
            "Schedule": {
                "Type": "AWS::Scheduler::Schedule",
                "Properties": {
                    "Name": "cold",
                    "GroupName": {"Ref": "Group"},
                    "ScheduleExpression": f"rate({minutes} minutes)",
                    "ScheduleExpressionTimezone": "Etc/UTC",
                    "State": "DISABLED",
                    "EndDate": "2030-01-01T00:00:00Z",
                    "FlexibleTimeWindow": {"Mode": "OFF"},
                    "Target": {
                        "Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:deployed",
                        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r",
                        "Input": "{}",
                        "RetryPolicy": {"MaximumRetryAttempts": "0", "MaximumEventAgeInSeconds": 60},
                    },
                },
            },
            "Group": {"Type": "AWS::Scheduler::ScheduleGroup", "Properties": {"Name": "cold-group"}},
        }
    }


@pytest.fixture
def lab(module_lab: Lab) -> Iterator[Lab]:
    """The lab of this module, emptied after each test."""
    yield module_lab
    cloudformation, logs = module_lab.client("cloudformation"), module_lab.client("logs")
    for stack in cloudformation.describe_stacks()["Stacks"]:
        cloudformation.delete_stack(StackName=stack["StackName"])
    for group in logs.describe_log_groups()["logGroups"]:
        logs.delete_log_group(logGroupName=group["logGroupName"])


def deploy(lab: Lab, stack: str, template: dict[str, Any], parameters: dict[str, str] | None = None) -> str:
    """Create and execute a change set, as `cdk deploy` does; returns the stack's status."""
    cloudformation = lab.client("cloudformation")
    kind = "UPDATE"
    try:
        cloudformation.describe_stacks(StackName=stack)
    except botocore.exceptions.ClientError:
        kind = "CREATE"
    where = {"StackName": stack, "ChangeSetName": "cdk-deploy-change-set"}
    cloudformation.delete_change_set(**where)
    with pytest.raises(cloudformation.exceptions.ChangeSetNotFoundException):
        cloudformation.describe_change_set(**where)
    cloudformation.create_change_set(
        **where,
        ChangeSetType=kind,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in (parameters or {}).items()],
    )
    assert cloudformation.describe_change_set(**where)["Status"] == "CREATE_COMPLETE"
    cloudformation.execute_change_set(**where)
    return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]


def destroy(lab: Lab, stack: str) -> None:
    cloudformation = lab.client("cloudformation")
    cloudformation.delete_stack(StackName=stack)
    with pytest.raises(botocore.exceptions.ClientError, match="does not exist"):
        cloudformation.describe_stacks(StackName=stack)


def test_a_function_deploys_as_aws_would_show_it(lab: Lab) -> None:
    assert deploy(lab, "functions", function_template()) == "CREATE_COMPLETE"
    client = lab.client("lambda")
    client.get_waiter("function_active_v2").wait(FunctionName="deployed")
    found = client.get_function(FunctionName="deployed")
    configuration = found["Configuration"]
    assert configuration["PackageType"] == "Image"
    assert configuration["State"] == "Active"
    assert configuration["MemorySize"] == 512
    assert configuration["Architectures"] == ["x86_64"]
    assert configuration["ImageConfigResponse"]["ImageConfig"]["Command"] == ["handler.other"]
    assert configuration["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "WARN",
        "SystemLogLevel": "DEBUG",
        "LogGroup": "/aws/lambda/deployed",
    }
    assert found["Code"]["ImageUri"] == IMAGE
    assert found["Code"]["ResolvedImageUri"].startswith(IMAGE.rpartition(":")[0] + "@sha256:")
    assert found["Tags"] == {"project": "lab"}
    asynchronous = client.get_function_event_invoke_config(FunctionName="deployed")
    assert asynchronous["MaximumRetryAttempts"] == 0
    assert asynchronous["MaximumEventAgeInSeconds"] == 60
    groups = lab.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/deployed")["logGroups"]
    assert [group["retentionInDays"] for group in groups] == [14]
    outputs = lab.client("cloudformation").describe_stacks(StackName="functions")["Stacks"][0]["Outputs"]
    assert outputs[0]["OutputValue"] == configuration["FunctionArn"]


def test_a_second_deployment_changes_what_changed_and_destroying_leaves_nothing(lab: Lab) -> None:
    deploy(lab, "functions", function_template())
    client, logs, iam = lab.client("lambda"), lab.client("logs"), lab.client("iam")
    before = client.get_function_configuration(FunctionName="deployed")

    changed = function_template(1024)
    properties = changed["Resources"]["Function"]["Properties"]
    properties["Environment"]["Variables"] = {"COLOUR": "blue"}
    del properties["ImageConfig"]
    changed["Resources"]["Logs"]["Properties"]["RetentionInDays"] = 30
    changed["Resources"]["Config"]["Properties"]["MaximumRetryAttempts"] = 2
    changed["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyName"] = "Other"
    assert deploy(lab, "functions", changed) == "UPDATE_COMPLETE"

    client.get_waiter("function_updated_v2").wait(FunctionName="deployed")
    after = client.get_function_configuration(FunctionName="deployed")
    assert after["MemorySize"] == 1024
    assert after["Environment"]["Variables"] == {"COLOUR": "blue"}
    assert "ImageConfigResponse" not in after
    assert after["RevisionId"] != before["RevisionId"]
    assert client.get_function_event_invoke_config(FunctionName="deployed")["MaximumRetryAttempts"] == 2
    assert logs.describe_log_groups(logGroupNamePrefix="/aws/")["logGroups"][0]["retentionInDays"] == 30
    role = after["Role"].rpartition("/")[2]
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["Other"]

    destroy(lab, "functions")
    assert client.list_functions()["Functions"] == []
    assert logs.describe_log_groups()["logGroups"] == []
    assert iam.list_roles()["Roles"] == []


def test_an_api_deploys_in_the_order_of_its_dependencies_changes_and_goes(lab: Lab) -> None:
    deploy(lab, "functions", function_template())
    assert deploy(lab, "api", api_template()) == "CREATE_COMPLETE"
    client = lab.client("apigateway")
    (api,) = client.get_rest_apis()["items"]
    assert api["endpointConfiguration"]["types"] == ["REGIONAL"]
    assert api["binaryMediaTypes"] == ["image/jpeg"]
    (output,) = lab.client("cloudformation").describe_stacks(StackName="api")["Stacks"][0]["Outputs"]
    assert output["OutputValue"] == f"http://{api['id']}.execute-api.localhost:{lab.port}/v1/"
    assert [e["Name"] for e in lab.client("cloudformation").list_exports()["Exports"]] == ["url-of-api"]

    stage = client.get_stage(restApiId=api["id"], stageName="v1")
    assert stage["deploymentId"] == client.get_deployments(restApiId=api["id"])["items"][0]["id"]
    assert stage["methodSettings"]["*/*"]["throttlingBurstLimit"] == 7
    assert stage["methodSettings"]["~1model~1{memory}/GET"]["throttlingRateLimit"] == 1
    resources = {r["path"]: r for r in client.get_resources(restApiId=api["id"])["items"]}
    assert set(resources) == {"/", "/model", "/model/512"}
    get = client.get_method(restApiId=api["id"], resourceId=resources["/model/512"]["id"], httpMethod="GET")
    assert get["apiKeyRequired"] is True
    assert get["methodIntegration"]["timeoutInMillis"] == 1500
    options = client.get_method(restApiId=api["id"], resourceId=resources["/model/512"]["id"], httpMethod="OPTIONS")
    assert options["methodIntegration"]["type"] == "MOCK"
    (plan,) = client.get_usage_plans()["items"]
    assert plan["throttle"] == {"burstLimit": 4, "rateLimit": 3.0}
    assert [key["value"] for key in client.get_usage_plan_keys(usagePlanId=plan["id"])["items"]] == [
        "a-key-of-more-than-twenty"
    ]
    policy = json.loads(lab.client("lambda").get_policy(FunctionName="deployed")["Policy"])
    assert len(policy["Statement"]) == 1

    changed = api_template("1024")
    changed["Resources"]["Deployment2"] = copy.deepcopy(changed["Resources"].pop("Deployment"))
    changed["Resources"]["Stage"]["Properties"]["DeploymentId"] = {"Ref": "Deployment2"}
    changed["Resources"]["Stage"]["Properties"]["Variables"] = {"colour": "blue"}
    del changed["Resources"]["Options"]
    changed["Resources"]["Deployment2"]["DependsOn"] = ["Method"]
    assert deploy(lab, "api", changed) == "UPDATE_COMPLETE"
    resources = {r["path"]: r for r in client.get_resources(restApiId=api["id"])["items"]}
    assert set(resources) == {"/", "/model", "/model/1024"}
    assert set(resources["/model/1024"]["resourceMethods"]) == {"GET"}
    moved = client.get_stage(restApiId=api["id"], stageName="v1")
    assert moved["variables"] == {"colour": "blue"}
    assert moved["deploymentId"] != stage["deploymentId"]
    assert [d["id"] for d in client.get_deployments(restApiId=api["id"])["items"]] == [moved["deploymentId"]]

    destroy(lab, "api")
    assert client.get_rest_apis()["items"] == []
    assert client.get_api_keys()["items"] == []
    assert client.get_usage_plans()["items"] == []
    assert lab.client("cloudformation").list_exports()["Exports"] == []
    with pytest.raises(botocore.exceptions.ClientError, match="ResourceNotFound"):
        lab.client("lambda").get_policy(FunctionName="deployed")


def test_a_schedule_deploys_is_enabled_by_hand_and_goes_with_its_group(lab: Lab) -> None:
    assert deploy(lab, "schedules", schedule_template()) == "CREATE_COMPLETE"
    client = lab.client("scheduler")
    schedule = client.get_schedule(GroupName="cold-group", Name="cold")
    assert schedule["State"] == "DISABLED"
    assert schedule["EndDate"].year == 2030
    assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}

    # What the cold experiment does: everything as it was, with dates and the state of its own.
    again = {k: schedule[k] for k in ("ScheduleExpression", "FlexibleTimeWindow", "Target", "Name", "GroupName")}
    now = int(time.time())
    client.update_schedule(**again, State="ENABLED", StartDate=now + 60, EndDate=now + 7200)
    enabled = client.get_schedule(GroupName="cold-group", Name="cold")
    assert enabled["State"] == "ENABLED"
    assert int(enabled["StartDate"].timestamp()) == now + 60
    assert int(enabled["EndDate"].timestamp()) == now + 7200

    assert deploy(lab, "schedules", schedule_template(20)) == "UPDATE_COMPLETE"
    assert client.get_schedule(GroupName="cold-group", Name="cold")["ScheduleExpression"] == "rate(20 minutes)"
    destroy(lab, "schedules")
    assert client.list_schedules()["Schedules"] == []
    assert [group["Name"] for group in client.list_schedule_groups()["ScheduleGroups"]] == ["default"]


def test_what_somebody_deleted_by_hand_does_not_keep_its_stack(lab: Lab) -> None:
    deploy(lab, "functions", function_template())
    deploy(lab, "schedules", schedule_template())
    lab.client("lambda").delete_function(FunctionName="deployed")
    lab.client("logs").delete_log_group(logGroupName="/aws/lambda/deployed")
    lab.client("scheduler").delete_schedule(GroupName="cold-group", Name="cold")
    destroy(lab, "functions")
    destroy(lab, "schedules")


def test_a_failing_creation_rolls_back_and_says_why(lab: Lab) -> None:
    template = api_template()
    assert deploy(lab, "api", template) == "ROLLBACK_COMPLETE"  # the function of the permission is not there
    assert lab.client("apigateway").get_rest_apis()["items"] == []
    events = lab.client("cloudformation").describe_stack_events(StackName="api")["StackEvents"]
    failed = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert [event["LogicalResourceId"] for event in failed] == ["Permission"]
    assert "deployed" in failed[0]["ResourceStatusReason"]


def test_a_failing_update_brings_back_what_was(lab: Lab) -> None:
    deploy(lab, "functions", function_template())
    wrong = function_template(memory_mb=99)
    wrong["Resources"]["Added"] = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/added"}}
    assert deploy(lab, "functions", wrong) == "UPDATE_ROLLBACK_COMPLETE"
    assert lab.client("lambda").get_function_configuration(FunctionName="deployed")["MemorySize"] == 512
    names = [g["logGroupName"] for g in lab.client("logs").describe_log_groups()["logGroups"]]
    assert names == ["/aws/lambda/deployed"]
    assert deploy(lab, "functions", function_template(2048)) == "UPDATE_COMPLETE"


def test_a_change_of_a_parameter_alone_reaches_what_refers_to_it(lab: Lab) -> None:
    template = function_template()
    template["Parameters"] = {"Memory": {"Type": "Number"}}
    template["Resources"]["Function"]["Properties"]["MemorySize"] = {"Ref": "Memory"}
    deploy(lab, "functions", template, {"Memory": "640"})
    client = lab.client("lambda")
    assert client.get_function_configuration(FunctionName="deployed")["MemorySize"] == 640
    deploy(lab, "functions", template, {"Memory": "768"})
    assert client.get_function_configuration(FunctionName="deployed")["MemorySize"] == 768


def test_deploying_the_same_again_makes_a_change_set_without_changes(lab: Lab) -> None:
    deploy(lab, "functions", function_template())
    cloudformation = lab.client("cloudformation")
    where = {"StackName": "functions", "ChangeSetName": "again"}
    cloudformation.create_change_set(**where, ChangeSetType="UPDATE", TemplateBody=json.dumps(function_template()))
    found = cloudformation.describe_change_set(**where)
    assert found["Status"] == "FAILED"
    assert "didn't contain changes" in found["StatusReason"]


def test_a_resource_with_retain_outlives_its_stack(lab: Lab) -> None:
    template = function_template()
    template["Resources"]["Logs"]["DeletionPolicy"] = "Retain"
    deploy(lab, "functions", template)
    destroy(lab, "functions")
    assert len(lab.client("logs").describe_log_groups()["logGroups"]) == 1


def test_a_stack_in_review_takes_a_second_change_set(lab: Lab) -> None:
    cloudformation = lab.client("cloudformation")
    body = json.dumps(function_template())
    names = ("first", "second")
    for name in names:
        cloudformation.create_change_set(
            StackName="functions", ChangeSetName=name, ChangeSetType="CREATE", TemplateBody=body
        )
    (stack,) = cloudformation.describe_stacks()["Stacks"]
    assert stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    change_sets = [cloudformation.describe_change_set(StackName="functions", ChangeSetName=n) for n in names]
    assert [change_set["StackId"] for change_set in change_sets] == [stack["StackId"]] * 2
    with pytest.raises(cloudformation.exceptions.AlreadyExistsException, match="second"):
        cloudformation.create_change_set(
            StackName="functions", ChangeSetName="second", ChangeSetType="CREATE", TemplateBody=body
        )
    cloudformation.execute_change_set(StackName="functions", ChangeSetName="second")
    with pytest.raises(cloudformation.exceptions.ChangeSetNotFoundException):
        cloudformation.describe_change_set(StackName="functions", ChangeSetName="first")
    with pytest.raises(botocore.exceptions.ClientError, match=r"execution status of \[EXECUTE_COMPLETE\]"):
        cloudformation.execute_change_set(StackName="functions", ChangeSetName="second")
    assert [s["StackStatus"] for s in cloudformation.describe_stacks()["Stacks"]] == ["CREATE_COMPLETE"]


def test_a_type_that_nobody_models_is_accepted_and_said(lab: Lab) -> None:
    template = {
        "Resources": {
            "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {}},
            "Policy": {
                "Type": "AWS::S3::BucketPolicy",
                "Properties": {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": {}},
            },
        },
        "Outputs": {"Policy": {"Value": {"Ref": "Policy"}}},
    }
    assert deploy(lab, "other", template) == "CREATE_COMPLETE"
    (output,) = lab.client("cloudformation").describe_stacks(StackName="other")["Stacks"][0]["Outputs"]
    assert output["OutputValue"] not in {"", "None"}
    said = "AWS::S3::BucketPolicy is not modeled"
    wait_until(lambda: any(said in line for line in lab.log), said)


def test_a_stack_prints_the_address_at_which_its_api_answers(lab: Lab) -> None:
    deploy(lab, "functions", function_template())
    template = api_template()
    url = ["https://", {"Ref": "Api"}, ".execute-api.us-east-1.", {"Ref": "AWS::URLSuffix"}, "/", {"Ref": "Stage"}, "/"]
    template["Outputs"]["Joined"] = {"Value": {"Fn::Join": ["", url]}}
    assert deploy(lab, "api", template) == "CREATE_COMPLETE"
    (stack,) = lab.client("cloudformation").describe_stacks(StackName="api")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    api = lab.client("apigateway").get_rest_apis()["items"][0]
    assert outputs["Url"] == outputs["Joined"] == f"http://{api['id']}.execute-api.localhost:{lab.port}/v1/"

    listed = subprocess.run(
        [sys.executable, "-m", "lab", "urls", "--port", str(lab.port)], cwd=REPOSITORY, capture_output=True, check=True
    )
    assert listed.stdout.decode() == f"{outputs['Url']}  {api['name']} v1\n"
    # As a name below localhost may not resolve here, ask the port with the name alone.
    for host in (f"{api['id']}.execute-api.localhost", f"{api['id']}.execute-api.localhost:{lab.port}"):
        with socket.create_connection(("127.0.0.1", lab.port), timeout=600) as connection:
            connection.sendall(f"GET /v1/unknown HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert b"x-amzn-ErrorType" in connection.makefile("rb").read()


def test_a_missing_image_is_refused_and_rolled_back_with_all_that_changed_beside_it(lab: Lab) -> None:
    missing = function_template(1024)
    missing["Resources"]["Function"]["Properties"]["Code"] = {"ImageUri": f"{IMAGE}-missing"}
    assert deploy(lab, "never", missing) == "ROLLBACK_COMPLETE"
    deploy(lab, "functions", function_template())
    assert deploy(lab, "functions", missing) == "UPDATE_ROLLBACK_COMPLETE"
    found = lab.client("lambda").get_function(FunctionName="deployed")
    assert found["Code"]["ImageUri"] == IMAGE
    assert found["Configuration"]["MemorySize"] == 512
    for stack in ("never", "functions"):
        events = lab.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
        reasons = [event.get("ResourceStatusReason") or "" for event in events]
        assert any(f"{IMAGE}-missing does not exist. Provide a valid source image." in reason for reason in reasons)
