"""What users of neighbouring projects reported, tried here; the address names the report.

More are tried elsewhere; each file names its own:
- https://github.com/locustio/locust/issues/1557 (a load's clock began with the web page): tests/loadtests/test_load.py
- Locust's options: tests/loadtests/test_plan.py
- hot swap in nested stacks: tests/lab/services/cloudformation/test_cdk.py
- names of functions: tests/lab/services/test_function_names.py
- schedules: tests/lab/services/scheduler/test_expressions.py and test_refused_schedules.py
- lines of logs: tests/analysis/ingest/test_platform_logs.py
- results of power tuning: tests/analysis/commands/test_other_tools.py
"""

import base64
import json
import time
import urllib.request

import pytest

from analysis.ingest.platform_logs import Report, parse_event
from tests.lab.robustness.support import deploy, invoke, new_name
from tests.lab_support import running_lab

pytestmark = pytest.mark.slow  # a lab of its own, and timeouts

HANDLER = """
import json, os, time

def handler(event, context):
    do = event.get("do") or (event.get("queryStringParameters") or {}).get("do")
    if do == "raise":
        raise RuntimeError("failure")
    if do == "exit":
        os._exit(42)
    if do == "sleep":
        time.sleep(60)
    if do == "bare":
        return {"statusCode": 200}
    if "headers" in event:
        return {"statusCode": 200, "body": json.dumps(event)}
    return event
"""


@pytest.fixture(scope="module")
def function(images, tmp_path_factory):
    """A lab, a function, and the address of a REST API before it."""
    directory = tmp_path_factory.mktemp("reports")
    (directory / "Dockerfile").write_text(
        'ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY handler.py .\nCMD ["handler.handler"]\n'
    )
    (directory / "handler.py").write_text(HANDLER)
    with running_lab(variables=images) as lab:
        name = new_name()
        api = deploy(lab, name, directory=directory)
        yield lab, name, f"{lab.url}/_aws/execute-api/{api}/v1"


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("raise", "failure"),  # https://github.com/aws/aws-lambda-runtime-interface-emulator/issues/20: no error header
        ("exit", "Runtime exited with error: exit status 42"),  # .../issues/86: an empty answer
    ],
)
def test_a_function_that_fails_says_so_in_header_and_payload(function, do, message):
    lab, name, _ = function
    error, payload = invoke(lab, name, {"do": do})
    assert error == "Unhandled"
    assert message in payload["errorMessage"]


def test_a_timeout_is_an_error_in_header_and_payload(function):
    """https://github.com/aws/aws-lambda-runtime-interface-emulator/issues/21: it looked like a success."""
    lab, name, _ = function
    client = lab.client("lambda")
    client.update_function_configuration(FunctionName=name, Timeout=1)
    try:
        error, payload = invoke(lab, name, {"do": "sleep"})
    finally:  # the init inside the next call may take longer than a second
        client.update_function_configuration(FunctionName=name, Timeout=900)
    assert error == "Unhandled"
    assert "Task timed out after 1.00 seconds" in payload["errorMessage"]


def test_no_payload_is_an_empty_object(function):
    """https://github.com/aws/aws-lambda-dotnet/pull/834, https://github.com/localstack/localstack/issues/8383"""
    lab, name, _ = function
    answer = lab.client("lambda").invoke(FunctionName=name)
    assert json.load(answer["Payload"]) == {}


@pytest.mark.parametrize(("kind", "status"), [("RequestResponse", 200), ("Event", 202), ("DryRun", 204)])
def test_each_kind_of_invocation_has_its_own_status(function, kind, status):
    """https://github.com/localstack/localstack/issues/823"""
    lab, name, _ = function
    assert lab.client("lambda").invoke(FunctionName=name, InvocationType=kind)["StatusCode"] == status


def test_an_answer_without_a_body_is_an_empty_one(function):
    """https://github.com/localstack/localstack/issues/10310: it was a 502."""
    with urllib.request.urlopen(f"{function[2]}/x?do=bare", timeout=600) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def test_every_value_of_the_query_arrives_decoded_once(function):
    """https://github.com/aws/aws-sam-cli/issues/736, .../issues/3194, https://github.com/aws/aws-cdk/issues/19827"""
    with urllib.request.urlopen(f"{function[2]}/x?a=hello&b=1&b=2&c=-+x&d=%252B", timeout=600) as answer:
        event = json.load(answer)
    assert event["queryStringParameters"] == {"a": "hello", "b": "2", "c": "- x", "d": "%2B"}
    assert event["multiValueQueryStringParameters"] == {"a": ["hello"], "b": ["1", "2"], "c": ["- x"], "d": ["%2B"]}


def test_events_of_one_millisecond_come_once_each_page_by_page(function):
    """https://github.com/getmoto/moto/issues/3882, https://github.com/faiscadev/fakecloud/pull/2005"""
    logs = function[0].client("logs")
    logs.create_log_group(logGroupName="/pages")
    logs.create_log_stream(logGroupName="/pages", logStreamName="s")
    now_ms = int(time.time() * 1000)
    events = [{"timestamp": now_ms, "message": f"line {number}"} for number in range(5)]
    logs.put_log_events(logGroupName="/pages", logStreamName="s", logEvents=events)
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName="/pages", PaginationConfig={"PageSize": 1})
    assert [event["message"] for page in pages for event in page["events"]] == [one["message"] for one in events]


def test_a_tail_in_json_has_lines_that_parsers_take(function):
    """https://github.com/alexcasalboni/aws-lambda-power-tuning/issues/232, 253, 261 and 305"""
    lab, name, _ = function
    lab.client("lambda").update_function_configuration(FunctionName=name, LoggingConfig={"LogFormat": "JSON"})
    answer = lab.client("lambda").invoke(FunctionName=name, LogType="Tail")
    lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    (report,) = [one for line in lines for one in parse_event(line) if isinstance(one, Report)]
    assert report.duration_ms > 0
