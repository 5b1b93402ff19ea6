import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.run.outcomes import (
    MAX_ERROR_CHARACTERS,
    classify_api_error,
    classify_function_error,
    classify_http,
    classify_invoke,
    parse_handler_facts,
)
from core.run.records import OUTCOMES

FACTS = {
    "schema_version": 1,
    "model": "mobilenet",
    "engine": "tensorflow",
    "architecture": "x86_64",
    "weights": "random",
    "memory_mb": 1024,
    "request_id": "8f2c",
    "environment_id": "e1",
    "call_number": 1,
    "cold": True,
    "image": "a.jpg",
    "inference_ms": 9.5,
    "decode_ms": 2.0,
    "handler_ms": 12.0,
    "phases": {"import_ms": 1.0, "load_ms": 2.0, "first_inference_ms": 3.0},
}


def test_an_answer_of_the_function_is_ok_and_carries_its_facts():
    body = json.dumps(FACTS | {"top5": [], "event": "inference"}).encode()
    answer = classify_http(200, body, {})
    assert answer.outcome == "ok"
    assert answer.error == ""
    assert answer.handler.environment_id == "e1"
    assert classify_invoke(body, None) == answer


def test_an_ok_answer_that_is_not_the_functions_says_so():
    answer = classify_http(200, b"<html>", {})
    assert answer.outcome == "ok"
    assert answer.handler is None
    assert "not the inference function" in answer.error


@pytest.mark.parametrize(
    ("status", "body", "headers", "outcome"),
    [
        (429, b'{"message": "Too Many Requests"}', {"x-amzn-errortype": "TooManyRequestsException"}, "throttled"),
        (429, b'{"message": "Limit Exceeded"}', {}, "throttled"),
        # AWS answers so when Lambda refuses the gateway's Invoke, which under load means a throttle.
        (
            500,
            b'{"message": "Internal server error"}',
            {"x-amzn-errortype": "InternalServerErrorException"},
            "throttled",
        ),
        (500, b'{"error": "corrupt JPEG"}', {}, "error"),
        (502, b'{"message": "Internal server error"}', {"x-amzn-errortype": "InternalServerErrorException"}, "error"),
        (504, b'{"message": "Endpoint request timed out"}', {}, "gateway_timeout"),
        (504, b'{"message": "Network error communicating with endpoint"}', {}, "error"),
        (503, b'{"message": "Service Unavailable"}', {}, "error"),
        (404, b'{"error": "no such endpoint", "allowed": {}}', {}, "error"),
        (400, b'{"error": "no such image", "allowed": ["a.jpg"]}', {}, "error"),
    ],
)
def test_answers_of_the_gateway_are_told_apart(status, body, headers, outcome):
    answer = classify_http(status, body, headers)
    assert answer.outcome == outcome
    assert answer.error.startswith(f"HTTP {status}")


@pytest.mark.parametrize(
    ("error_type", "message", "outcome"),
    [
        ("Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: signal: killed", "out_of_memory"),
        ("Runtime.OutOfMemory", "", "out_of_memory"),
        ("Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: exit status 1", "error"),
        ("Runtime.ExitError", "RequestId: 1 Error: Runtime exited without providing a reason", "error"),
        ("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 seconds", "timeout"),
        ("", "2026-11-24T10:00:00Z 1 Task timed out after 120.00 seconds", "timeout"),
        ("Runtime.InitTimeout", "", "init_timeout"),
        ("", "INIT_REPORT Init Duration: 9999.79 ms Phase: init Status: timeout: init timed out", "init_timeout"),
        ("ValueError", "bad image", "error"),
    ],
)
def test_function_errors_are_told_apart_by_type_and_message(error_type, message, outcome):
    assert classify_function_error(error_type, message) == outcome
    payload = json.dumps({"errorType": error_type, "errorMessage": message}).encode()
    assert classify_invoke(payload, "Unhandled").outcome == outcome


def test_a_refusal_by_the_handler_is_an_error_of_a_direct_invoke():
    answer = classify_invoke(b'{"statusCode": 400, "error": "no such image"}', None)
    assert answer.outcome == "error"
    assert "no such image" in answer.error


def test_a_refused_invoke_is_throttled_or_an_error():
    assert classify_api_error("TooManyRequestsException") == "throttled"
    assert classify_api_error("ResourceNotFoundException") == "error"


@given(st.integers(100, 599), st.binary(max_size=2000), st.dictionaries(st.just("x-amzn-errortype"), st.text()))
def test_any_answer_has_an_outcome_and_a_short_one_line_error(status, body, headers):
    for answer in (classify_http(status, body, headers), classify_invoke(body, "Unhandled")):
        assert answer.outcome in OUTCOMES
        assert len(answer.error) <= MAX_ERROR_CHARACTERS + 60
        assert "\n" not in answer.error


@given(st.sampled_from(sorted(FACTS)))
def test_facts_that_lack_a_field_are_no_facts(missing):
    assert parse_handler_facts(json.dumps({k: v for k, v in FACTS.items() if k != missing}).encode()) is None
