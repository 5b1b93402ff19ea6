"""What plain moto does where the lab mends it; run as a program, prints {gap: still there} as JSON.

A process of its own, because the lab's extensions change moto for the whole process that loads them.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable

import boto3
from moto import mock_aws
from moto.awslambda.urls import url_paths as lambda_paths
from moto.cloudformation import parsing

ROLE = "arn:aws:iam::123456789012:role/r"
URI = "123456789012.dkr.ecr.us-east-1.amazonaws.com/r:t"
FUNCTION = {
    "Type": "AWS::Lambda::Function",
    "Properties": {
        "FunctionName": "f",
        "PackageType": "Image",
        "Code": {"ImageUri": URI},
        "Role": ROLE,
        "LoggingConfig": {"LogFormat": "JSON"},
    },
}
GAPS: dict[str, Callable[[], bool]] = {}


def gap(function: Callable[[], bool]) -> Callable[[], bool]:
    GAPS[function.__name__] = function
    return function


def client(service: str):
    return boto3.client(service, region_name="us-east-1")


def fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:  # noqa: BLE001 - whatever moto raises
        return True
    return False


def stack(resources: dict, *, name: str = "s") -> None:
    client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources}))


def change_set(name: str, resources: dict) -> None:
    client("cloudformation").create_change_set(
        StackName=name,
        ChangeSetName="same-name",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Resources": resources, "Outputs": {"O": {"Value": "v"}}}),
    )


LOGS = {"L": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/g", "RetentionInDays": 1}}}


@gap
def types_are_unknown() -> bool:
    wanted = (
        "ApiGateway::Stage", "ApiGateway::Account", "ApiGateway::GatewayResponse", "ApiGateway::ApiKey",
        "ApiGateway::UsagePlan", "ApiGateway::UsagePlanKey", "Lambda::EventInvokeConfig", "Scheduler::Schedule",
        "Scheduler::ScheduleGroup",
    )  # fmt: skip
    return not any(f"AWS::{name}" in parsing.get_model_map() for name in wanted)


@gap
def types_have_no_update() -> bool:
    wanted = (
        "ApiGateway::RestApi",
        "ApiGateway::Method",
        "ApiGateway::Resource",
        "Lambda::Permission",
        "Logs::LogGroup",
    )
    models = [parsing.get_model_map()[f"AWS::{name}"] for name in wanted]
    return all(hasattr(model.update_from_cloudformation_json, "__isabstractmethod__") for model in models)


@gap
def a_change_set_is_found_by_its_name_alone() -> bool:
    change_set("one", LOGS)
    found = client("cloudformation").describe_change_set(StackName="other", ChangeSetName="same-name")
    return found["StackName"] == "one"


@gap
def an_executed_change_set_shows_no_outputs() -> bool:
    change_set("one", LOGS)
    client("cloudformation").execute_change_set(StackName="one", ChangeSetName="same-name")
    return "Outputs" not in client("cloudformation").describe_stacks(StackName="one")["Stacks"][0]


@gap
def a_change_set_is_applied_in_template_order() -> bool:
    api = {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "a"}}
    deployment = {
        "Type": "AWS::ApiGateway::Deployment",
        "DependsOn": "Method",
        "Properties": {"RestApiId": {"Ref": "Api"}},
    }
    method = {
        "Type": "AWS::ApiGateway::Method",
        "Properties": {
            "RestApiId": {"Ref": "Api"},
            "ResourceId": {"Fn::GetAtt": ["Api", "RootResourceId"]},
            "HttpMethod": "GET",
            "AuthorizationType": "NONE",
            "Integration": {
                "Type": "AWS_PROXY",
                "IntegrationHttpMethod": "POST",
                "Uri": "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/f/invocations",
            },
        },
    }
    change_set("api", {"Deployment": deployment, "Method": method, "Api": api})
    return fails(lambda: client("cloudformation").execute_change_set(StackName="api", ChangeSetName="same-name"))


@gap
def a_function_loses_package_type_and_logging() -> bool:
    stack({"F": FUNCTION})
    found = client("lambda").get_function_configuration(FunctionName="f")
    return found["PackageType"] == "Zip" and "LoggingConfig" not in found


@gap
def a_function_has_no_revision() -> bool:
    client("lambda").create_function(FunctionName="f", PackageType="Image", Code={"ImageUri": URI}, Role=ROLE)
    return "RevisionId" not in client("lambda").get_function_configuration(FunctionName="f")


@gap
def any_memory_size_is_taken() -> bool:
    client("lambda").create_function(
        FunctionName="f", PackageType="Image", Code={"ImageUri": URI}, Role=ROLE, MemorySize=20_000
    )
    return client("lambda").get_function_configuration(FunctionName="f")["MemorySize"] == 20_000


@gap
def the_first_event_invoke_configuration_stays() -> bool:
    client("lambda").create_function(FunctionName="f", PackageType="Image", Code={"ImageUri": URI}, Role=ROLE)
    for attempts in (1, 0):
        client("lambda").put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=attempts)
    return client("lambda").get_function_event_invoke_config(FunctionName="f")["MaximumRetryAttempts"] == 1


@gap
def there_are_no_account_settings() -> bool:
    return not any("account-settings" in path for path in lambda_paths)


@gap
def an_unknown_schedule_group_is_a_key_error() -> bool:
    try:
        client("scheduler").delete_schedule_group(Name="missing")
    except KeyError:
        return True
    except Exception:  # noqa: BLE001 - whatever else moto raises
        return False
    return False


@gap
def a_schedule_updated_without_state_has_none() -> bool:
    settings = {
        "Name": "s",
        "ScheduleExpression": "rate(1 minute)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": "arn:aws:lambda:us-east-1:123456789012:function:f", "RoleArn": ROLE},
    }
    client("scheduler").create_schedule(**settings)
    client("scheduler").update_schedule(**settings)
    return "State" not in client("scheduler").get_schedule(Name="s")


@gap
def a_schedule_group_that_is_there_is_replaced_by_an_empty_one() -> bool:
    client("scheduler").create_schedule_group(Name="g")
    return not fails(lambda: client("scheduler").create_schedule_group(Name="g"))


@gap
def a_schedule_group_leaves_its_tags_to_the_next() -> bool:
    scheduler = client("scheduler")
    arn = scheduler.create_schedule_group(Name="g", Tags=[{"Key": "a", "Value": "b"}])["ScheduleGroupArn"]
    scheduler.delete_schedule_group(Name="g")
    scheduler.create_schedule_group(Name="g")
    return scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"] != []


@gap
def a_deleted_key_stays_in_its_usage_plan() -> bool:
    gateway = client("apigateway")
    key, plan = gateway.create_api_key(name="k")["id"], gateway.create_usage_plan(name="p")["id"]
    gateway.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")
    gateway.delete_api_key(apiKey=key)
    return gateway.get_usage_plan_keys(usagePlanId=plan)["items"] != []


@gap
def an_image_that_is_not_there_is_taken() -> bool:
    client("lambda").create_function(FunctionName="f", PackageType="Image", Code={"ImageUri": URI}, Role=ROLE)
    return client("lambda").get_function(FunctionName="f")["Code"]["ImageUri"] == URI


@gap
def a_json_pattern_matches_everything() -> bool:
    logs = client("logs")
    logs.create_log_group(logGroupName="/g")
    logs.create_log_stream(logGroupName="/g", logStreamName="s")
    event = {"timestamp": int(time.time() * 1000), "message": "no json"}
    logs.put_log_events(logGroupName="/g", logStreamName="s", logEvents=[event])
    return len(logs.filter_log_events(logGroupName="/g", filterPattern="{ $.a = 1 }")["events"]) == 1


@gap
def the_pattern_of_a_log_groups_name_is_passed_over() -> bool:
    logs = client("logs")
    logs.create_log_group(logGroupName="/one")
    logs.create_log_group(logGroupName="/two")
    return len(logs.describe_log_groups(logGroupNamePattern="wo")["logGroups"]) == 2


@gap
def a_binary_media_type_in_a_patchs_path_is_not_found() -> bool:
    api = client("apigateway").create_rest_api(name="a")["id"]
    patch = [{"op": "add", "path": "/binaryMediaTypes/image~1png"}]
    found = client("apigateway").update_rest_api(restApiId=api, patchOperations=patch)
    return found.get("binaryMediaTypes") != ["image/png"]


@gap
def there_are_no_percentiles() -> bool:
    now = dt.datetime.now(dt.UTC)
    cloudwatch = client("cloudwatch")
    cloudwatch.put_metric_data(Namespace="N", MetricData=[{"MetricName": "m", "Value": 1, "Timestamp": now}])
    stat = {"Metric": {"Namespace": "N", "MetricName": "m"}, "Period": 60, "Stat": "p99"}
    return fails(
        lambda: cloudwatch.get_metric_data(
            MetricDataQueries=[{"Id": "q", "MetricStat": stat}],
            StartTime=now - dt.timedelta(minutes=5),
            EndTime=now + dt.timedelta(minutes=5),
        )
    )


def main() -> None:
    found = {}
    for name, probe in GAPS.items():
        with mock_aws():
            client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
            found[name] = probe()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
