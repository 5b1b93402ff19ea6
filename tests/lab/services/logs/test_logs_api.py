"""CloudWatch Logs by boto3 against a lab."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid

import botocore.exceptions
import pytest

from tests.lab_support import Lab


@pytest.fixture
def group(shared_lab: Lab) -> str:
    name = f"/test/{uuid.uuid4()}"
    shared_lab.client("logs").create_log_group(logGroupName=name)
    return name


def put(lab: Lab, group: str, stream: str, messages: list[str], *, at_ms: int | None = None) -> int:
    """Put events a millisecond apart into a new stream; returns the time of the first."""
    at_ms = at_ms or int(time.time() * 1000) - 60_000
    logs = lab.client("logs")
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    logs.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": at_ms + index, "message": text} for index, text in enumerate(messages)],
    )
    return at_ms


def test_twelve_thousand_events_come_in_pages_and_all_of_them(shared_lab: Lab, group: str) -> None:
    messages = [f"message {number}" for number in range(12_000)]
    put(shared_lab, group, "a", messages[:6000])
    put(shared_lab, group, "b", messages[6000:])
    pages = list(shared_lab.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group))
    assert [len(page["events"]) for page in pages] == [10_000, 2_000]
    events = [event for page in pages for event in page["events"]]
    assert sorted(event["message"] for event in events) == sorted(messages)
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    assert len({event["eventId"] for event in events}) == 12_000


def test_filters_take_streams_times_and_terms(shared_lab: Lab, group: str) -> None:
    report = json.dumps({"type": "platform.report", "record": {"requestId": "r1"}})
    start_ms = put(shared_lab, group, "2026/a", ["START", report, "a phrase of words"])
    put(shared_lab, group, "2026/b", ["START", "other"])
    logs = shared_lab.client("logs")

    def found(**options: object) -> list[str]:
        return [event["message"] for event in logs.filter_log_events(logGroupName=group, **options)["events"]]

    assert found(filterPattern='"platform.report"') == [report]
    assert found(filterPattern='"phrase of"') == ["a phrase of words"]
    assert found(filterPattern="START", logStreamNames=["2026/b"]) == ["START"]
    assert len(found()) == 5
    with pytest.raises(logs.exceptions.InvalidParameterException, match="use logStreamNames"):
        found(logStreamNamePrefix="2026/")
    arn = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["arn"]
    assert len(logs.filter_log_events(logGroupIdentifier=arn.removesuffix(":*"))["events"]) == 5
    assert found(logStreamNames=["2026/a"], startTime=start_ms + 1, endTime=start_ms + 1) == [report]
    with pytest.raises(logs.exceptions.InvalidParameterException, match="Invalid filter pattern"):
        found(filterPattern='{ $.type = "platform.report" }')
    with pytest.raises(logs.exceptions.InvalidParameterException, match="nextToken"):
        found(nextToken="made-up")


def test_streams_are_described_by_name_alone(shared_lab: Lab, group: str) -> None:
    for name in "cab":
        put(shared_lab, group, name, ["x"])
    logs = shared_lab.client("logs")
    paged = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, PaginationConfig={"PageSize": 2})
    assert [stream["logStreamName"] for page in paged for stream in page["logStreams"]] == ["a", "b", "c"]
    for wrong in ({"orderBy": "LastEventTime"}, {"descending": True}, {"logStreamNamePrefix": "a"}):
        with pytest.raises(logs.exceptions.InvalidParameterException, match="by name alone"):
            logs.describe_log_streams(logGroupName=group, **wrong)


def test_the_groups_settings_are_kept(shared_lab: Lab, group: str) -> None:
    logs = shared_lab.client("logs")
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    (found,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert found["retentionInDays"] == 7
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=group)


def test_groups_are_found_by_the_beginning_of_their_name(shared_lab: Lab) -> None:
    logs = shared_lab.client("logs")
    mark = uuid.uuid4().hex
    names = [f"/{mark}/{end}" for end in "cab"]
    for name in names:
        logs.create_log_group(logGroupName=name)
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=f"/{mark}", limit=2)
    found = [[group["logGroupName"] for group in page["logGroups"]] for page in pages]
    assert found == [sorted(names)[:2], sorted(names)[2:]]
    for wrong in ({"logGroupNamePattern": mark}, {"limit": 51}):
        with pytest.raises(botocore.exceptions.ClientError):
            logs.describe_log_groups(**wrong)


def test_deleting_a_group_deletes_its_events(shared_lab: Lab, group: str) -> None:
    put(shared_lab, group, "s", ["x"])
    logs = shared_lab.client("logs")
    logs.delete_log_group(logGroupName=group)
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.filter_log_events(logGroupName=group)
    logs.create_log_group(logGroupName=group)
    assert logs.filter_log_events(logGroupName=group)["events"] == []


@pytest.mark.parametrize("stream", ["missing"])
def test_what_is_not_there_is_named(shared_lab: Lab, group: str, stream: str) -> None:
    logs = shared_lab.client("logs")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.put_log_events(
            logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": int(time.time() * 1000), "message": "x"}]
        )


def test_events_out_of_order_or_too_old_are_refused_as_aws_refuses_them(shared_lab: Lab, group: str) -> None:
    logs = shared_lab.client("logs")
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    now_ms = int(time.time() * 1000)
    where = {"logGroupName": group, "logStreamName": "s"}
    with pytest.raises(logs.exceptions.InvalidParameterException, match="chronological"):
        logs.put_log_events(
            **where, logEvents=[{"timestamp": now_ms, "message": "a"}, {"timestamp": now_ms - 1, "message": "b"}]
        )
    answer = logs.put_log_events(
        **where,
        logEvents=[{"timestamp": now_ms - 15 * 86_400_000, "message": "old"}, {"timestamp": now_ms, "message": "new"}],
    )
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
    assert [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]] == ["new"]


def test_reading_and_deleting_one_stream_is_refused(shared_lab: Lab, group: str) -> None:
    logs = shared_lab.client("logs")
    for operation in (logs.get_log_events, logs.delete_log_stream):
        with pytest.raises(botocore.exceptions.ClientError, match="not modeled"):
            operation(logGroupName=group, logStreamName="s")


def test_insights_is_refused_instead_of_answered_wrongly(shared_lab: Lab, group: str) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="not modeled"):
        shared_lab.client("logs").start_query(logGroupName=group, startTime=0, endTime=1, queryString="fields @message")


@pytest.mark.parametrize("stream", ["", "a:b", "a*", "x" * 513, "half a character \ud800"])
def test_a_stream_of_no_valid_name_is_refused(shared_lab: Lab, group: str, stream: str) -> None:
    # By bare HTTP: the SDK would refuse some of them itself.
    request = urllib.request.Request(
        shared_lab.url,
        json.dumps({"logGroupName": group, "logStreamName": stream}).encode(),
        {
            "X-Amz-Target": "Logs_20140328.CreateLogStream",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/logs/aws4_request",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=600)
    assert refused.value.code == 400
    assert "InvalidParameterException" in refused.value.read().decode()
