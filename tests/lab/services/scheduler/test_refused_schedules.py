"""What AWS refuses is refused by the API and by CloudFormation, before anything is deployed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import botocore.exceptions
import pytest

from tests.lab_support import Lab

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
BROKEN = [
    {"ScheduleExpression": "rate(10 seconds)"},
    {"ScheduleExpression": "rate(0 minutes)"},
    {"ScheduleExpression": "rate(minutes)"},
    {"ScheduleExpression": "cron(0 9 * * *)"},
    {"ScheduleExpression": "cron(0 9 * * ? * *)"},
    {"ScheduleExpression": "cron(0 9 1 * MON *)"},
    {"ScheduleExpression": "cron(0 9 * * * *)"},
    {"ScheduleExpression": "cron(0 25 * * ? *)"},
    {"ScheduleExpression": "cron(0 9 ? * 8 *)"},
    {"ScheduleExpression": "at(2026-02-30T00:00:00)"},
    {"ScheduleExpression": "every day"},
    {"ScheduleExpressionTimezone": "Mars/Olympus"},
    {"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}},
    {"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 1441}},
    {"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 5}},
    {"FlexibleTimeWindow": {"Mode": "SOMETIMES"}},
    # https://github.com/getmoto/moto/pull/8178
    {"StartDate": "2020-01-01T00:00:00Z"},
    {"StartDate": "2030-01-02T00:00:00Z", "EndDate": "2030-01-01T00:00:00Z"},
    {"Target": {"Arn": FUNCTION, "RoleArn": "arn:aws:iam::1:role/r", "RetryPolicy": {"MaximumRetryAttempts": 186}}},
]
BROKEN_RULES = [
    *(case["ScheduleExpression"] for case in BROKEN if "ScheduleExpression" in case),
    "rate(1 hours)",
    "rate(5 hour)",
    "at(2030-01-01T00:00:00)",
]


def schedule(changes: dict[str, Any]) -> dict[str, Any]:
    return {
        "ScheduleExpression": "rate(10 minutes)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": FUNCTION, "RoleArn": "arn:aws:iam::1:role/r"},
    } | changes


@pytest.mark.parametrize("changes", BROKEN, ids=json.dumps)
def test_a_broken_schedule_is_refused_when_it_is_made_changed_and_deployed(
    module_lab: Lab, changes: dict[str, Any]
) -> None:
    client, name = module_lab.client("scheduler"), f"s-{uuid.uuid4().hex}"
    with pytest.raises(client.exceptions.ValidationException):
        client.create_schedule(Name=name, **schedule(changes))
    client.create_schedule(Name=name, **schedule({}))
    with pytest.raises(client.exceptions.ValidationException):
        client.update_schedule(Name=name, **schedule(changes))
    assert client.get_schedule(Name=name)["ScheduleExpression"] == "rate(10 minutes)"
    resource = {"Type": "AWS::Scheduler::Schedule", "Properties": schedule(changes)}
    assert deployed(module_lab, resource) == "ROLLBACK_COMPLETE"


@pytest.mark.parametrize("expression", BROKEN_RULES)
def test_a_broken_rule_is_refused_when_it_is_put_and_deployed(module_lab: Lab, expression: str) -> None:
    client = module_lab.client("events")
    with pytest.raises(botocore.exceptions.ClientError, match="ScheduleExpression is not valid"):
        client.put_rule(Name="broken", ScheduleExpression=expression)
    resource = {"Type": "AWS::Events::Rule", "Properties": {"ScheduleExpression": expression}}
    assert deployed(module_lab, resource) == "ROLLBACK_COMPLETE"


def deployed(lab: Lab, resource: dict[str, Any]) -> str:
    """The status of a stack that holds this resource alone."""
    cloudformation, name = lab.client("cloudformation"), f"stack-{uuid.uuid4().hex}"
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"R": resource}}))
    status: str = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    return status


@pytest.mark.parametrize("retries", ["ten", "", True, [1], {}, 1.5, 186, -1])
@pytest.mark.parametrize("where", ["RetryPolicy", "FlexibleTimeWindow"])
def test_a_number_that_is_none_is_the_callers_mistake(module_lab: Lab, where: str, retries: object) -> None:
    """boto3 checks types before it asks, other clients do not."""
    client = module_lab.client("scheduler", parameter_validation=False)
    wrong = schedule({})
    if where == "RetryPolicy":
        wrong["Target"] = {**wrong["Target"], "RetryPolicy": {"MaximumRetryAttempts": retries}}
    else:
        wrong["FlexibleTimeWindow"] = {
            "Mode": "FLEXIBLE",
            "MaximumWindowInMinutes": 1441 if retries == 186 else retries,
        }
    with pytest.raises(client.exceptions.ValidationException, match=r"MaximumRetryAttempts|MaximumWindowInMinutes"):
        client.create_schedule(Name=f"s-{uuid.uuid4().hex}", **wrong)


@pytest.mark.parametrize("retries", ["ten", True, 186])
def test_a_target_whose_retries_are_no_number_of_their_range_is_refused(module_lab: Lab, retries: object) -> None:
    client, name = module_lab.client("events", parameter_validation=False), f"r-{uuid.uuid4().hex}"
    client.put_rule(Name=name, ScheduleExpression="rate(10 minutes)")
    target = {"Id": "1", "Arn": FUNCTION, "RetryPolicy": {"MaximumRetryAttempts": retries}}
    with pytest.raises(botocore.exceptions.ClientError, match="MaximumRetryAttempts"):
        client.put_targets(Rule=name, Targets=[target])
    assert client.list_targets_by_rule(Rule=name)["Targets"] == []
