"""What AWS refuses is refused by the API and by CloudFormation, before anything is deployed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from typing import Any

import botocore.exceptions
import pytest

from tests.lab.robustness.support import wait_until
from tests.lab_support import Lab

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
BROKEN = [
    {"ScheduleExpression": "rate(10 seconds)"},
    {"ScheduleExpression": "rate(0 minutes)"},
    {"ScheduleExpression": "rate(minutes)"},
    {"ScheduleExpression": "cron(0 9 * * ? *)"},
    {"ScheduleExpression": "at(2030-01-01T00:00:00)"},
    {"ScheduleExpression": "every day"},
    {"ScheduleExpression": f"rate({'9' * 300} days)"},
    {"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}},
    {"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 5}},
    {"FlexibleTimeWindow": {"Mode": "SOMETIMES"}},
    # https://github.com/getmoto/moto/pull/8178
    {"StartDate": "2020-01-01T00:00:00Z"},
    {"StartDate": "2030-01-02T00:00:00Z", "EndDate": "2030-01-01T00:00:00Z"},
    {"Target": {"Arn": FUNCTION, "RoleArn": "arn:aws:iam::1:role/r", "RetryPolicy": {"MaximumRetryAttempts": 186}}},
    *(
        {"Target": {"Arn": FUNCTION, "RoleArn": "arn:aws:iam::1:role/r", "Input": text}}
        for text in ('{"a": NaN}', "[-Infinity]", "{'a': 1}", "now")
    ),
]


def schedule(changes: dict[str, Any]) -> dict[str, Any]:
    return {
        "ScheduleExpression": "rate(10 minutes)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": FUNCTION, "RoleArn": "arn:aws:iam::1:role/r"},
    } | changes


@pytest.mark.parametrize("changes", BROKEN, ids=json.dumps)
def test_a_broken_schedule_is_refused_when_it_is_made_changed_and_deployed(
    shared_lab: Lab, changes: dict[str, Any]
) -> None:
    client, name = shared_lab.client("scheduler"), f"s-{uuid.uuid4().hex}"
    with pytest.raises(client.exceptions.ValidationException):
        client.create_schedule(Name=name, **schedule(changes))
    client.create_schedule(Name=name, **schedule({}))
    with pytest.raises(client.exceptions.ValidationException):
        client.update_schedule(Name=name, **schedule(changes))
    assert client.get_schedule(Name=name)["ScheduleExpression"] == "rate(10 minutes)"
    resource = {"Type": "AWS::Scheduler::Schedule", "Properties": schedule(changes)}
    assert deployed(shared_lab, resource) == "ROLLBACK_COMPLETE"


def test_a_rule_with_a_schedule_is_refused_when_it_is_put_and_deployed(module_lab: Lab) -> None:
    client, expression = module_lab.client("events"), {"ScheduleExpression": "rate(10 minutes)"}
    with pytest.raises(botocore.exceptions.ClientError, match="ScheduleExpression is not modeled"):
        client.put_rule(Name="scheduled", **expression)
    assert deployed(module_lab, {"Type": "AWS::Events::Rule", "Properties": expression}) == "ROLLBACK_COMPLETE"


def test_a_schedule_that_would_delete_itself_is_refused(module_lab: Lab) -> None:
    client = module_lab.client("scheduler")
    with pytest.raises(client.exceptions.ValidationException, match="ActionAfterCompletion DELETE is not modeled"):
        client.create_schedule(Name=f"s-{uuid.uuid4().hex}", ActionAfterCompletion="DELETE", **schedule({}))


def deployed(lab: Lab, resource: dict[str, Any]) -> str:
    """The status of a stack that holds this resource alone."""
    cloudformation, name = lab.client("cloudformation"), f"stack-{uuid.uuid4().hex}"
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"R": resource}}))
    status: str = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    return status


@pytest.mark.parametrize("retries", ["ten", "", True, [1], {}, 1.5, 186, -1])
def test_a_number_that_is_none_is_the_callers_mistake(shared_lab: Lab, retries: object) -> None:
    """boto3 checks types before it asks, other clients do not."""
    client = shared_lab.client("scheduler", parameter_validation=False)
    wrong = schedule({})
    wrong["Target"] = {**wrong["Target"], "RetryPolicy": {"MaximumRetryAttempts": retries}}
    with pytest.raises(client.exceptions.ValidationException, match="MaximumRetryAttempts"):
        client.create_schedule(Name=f"s-{uuid.uuid4().hex}", **wrong)


def test_a_dead_letter_queue_that_gets_nothing_is_said(module_lab: Lab) -> None:
    name, queue = uuid.uuid4().hex, {"DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:123456789012:q"}}
    target = {"Arn": FUNCTION, "RoleArn": "arn:aws:iam::1:role/r", **queue}
    schedules = module_lab.client("scheduler")
    schedules.create_schedule(Name=f"made-{name}", **schedule({"Target": target}))
    schedules.create_schedule(Name=f"changed-{name}", **schedule({}))
    schedules.update_schedule(Name=f"changed-{name}", **schedule({"Target": target}))
    for whose in (f"schedule made-{name}", f"schedule changed-{name}"):
        said = f"{whose}: DeadLetterConfig is not modeled"
        wait_until(lambda said=said: sum(said in line for line in module_lab.log) == 1, said)


def test_a_pattern_that_calls_no_function_is_said(module_lab: Lab) -> None:
    name, rules = f"rule-{uuid.uuid4().hex}", module_lab.client("events")
    rules.put_rule(Name=name, EventPattern='{"source": ["aws.s3"]}')
    rules.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": FUNCTION}])
    wait_until(lambda: any(f"rule {name}: EventPattern is not modeled" in line for line in module_lab.log), name)


def test_an_input_that_is_not_for_a_function_may_be_any_text(module_lab: Lab) -> None:
    target = {"Arn": "arn:aws:sqs:us-east-1:123456789012:q", "RoleArn": "arn:aws:iam::1:role/r", "Input": "now"}
    module_lab.client("scheduler").create_schedule(Name=f"s-{uuid.uuid4().hex}", **schedule({"Target": target}))


@pytest.mark.parametrize(
    "date", [4e18, 1e300, -1e18, "nan", "inf", "-inf", "9" * 5000, "10000-01-01T00:00:00Z", [], {}]
)
@pytest.mark.parametrize("field", ["StartDate", "EndDate"])
def test_a_date_outside_the_calendar_is_refused(module_lab: Lab, field: str, date: object) -> None:
    """Not by boto3, which cannot write such a date down."""
    body = json.dumps(schedule({field: date}))
    sign = "AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/scheduler/aws4_request, SignedHeaders=a, Signature=b"
    request = urllib.request.Request(
        f"{module_lab.url}/schedules/s-{uuid.uuid4().hex}",
        data=body.encode(),
        headers={"Content-Type": "application/json", "Authorization": sign},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=600)
    assert refused.value.code == 400
    assert json.load(refused.value)["__type"] == "ValidationException"
