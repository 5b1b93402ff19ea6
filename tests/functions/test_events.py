"""Events of every kind of sender: `image` is honoured or refused, and nothing else happens."""

from __future__ import annotations

import importlib.util
import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.paths import REPOSITORY

# The function stands alone, so its modules are not importable from here.
_spec = importlib.util.spec_from_file_location("events", REPOSITORY / "functions" / "inference" / "events.py")
assert _spec is not None
assert _spec.loader is not None
events = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(events)

REST = {"httpMethod": "GET", "requestContext": {"stage": "v1"}}
HTTP_API = {"version": "2.0", "rawQueryString": "", "requestContext": {"http": {"method": "GET"}}}
BALANCER = {"httpMethod": "GET", "requestContext": {"elb": {"targetGroupArn": "arn:x"}}}
EVENTBRIDGE = {"detail-type": "Scheduled Event", "source": "aws.scheduler"}


def query(event: dict[str, Any], **parameters: object) -> dict[str, Any]:
    return {**event, "queryStringParameters": parameters or None}


@pytest.mark.parametrize(
    "event",
    [
        query(REST, image="a b.jpg"),
        {**REST, "multiValueQueryStringParameters": {"image": ["a b.jpg", "a b.jpg"]}},
        query(HTTP_API, image="a b.jpg"),
        query(BALANCER, image="a%20b.jpg"),
        query(BALANCER, image="a+b.jpg"),
        {**BALANCER, "multiValueQueryStringParameters": {"image": ["a%20b.jpg"]}},
        {**EVENTBRIDGE, "detail": {"image": "a b.jpg"}},
        {**EVENTBRIDGE, "detail": '{"image": "a b.jpg"}'},
        {**EVENTBRIDGE, "detail": "{}", "image": "a b.jpg"},
        {"queryStringParameters": {"image": "a b.jpg"}},
        query(REST, image="a b.jpg") | {"image": "a b.jpg"},
        {"image": "a b.jpg", "trigger": "schedule"},
    ],
)
def test_the_picture_asked_for_is_found_whoever_asks(event: dict[str, Any]) -> None:
    assert events.requested_picture(event) == "a b.jpg"


@pytest.mark.parametrize("event", [query(REST, image=""), query(BALANCER, image=""), query(HTTP_API, image="")])
def test_an_empty_name_is_a_name_and_no_random_picture(event: dict[str, Any]) -> None:
    assert events.requested_picture(event) == ""


@pytest.mark.parametrize(
    "event",
    [None, {}, {"trigger": "schedule"}, query(REST), query(HTTP_API), query(BALANCER), {**EVENTBRIDGE, "detail": "{}"}],
)
def test_an_event_without_a_name_leaves_the_choice(event: object) -> None:
    assert events.requested_picture(event) is None


@pytest.mark.parametrize(
    ("event", "word"),
    [
        ([], "list"),
        ("MobileNet", "str"),
        (17, "int"),
        (True, "bool"),
        ({"image": 5}, "int"),
        ({"image": ["generated-0.jpg"]}, "list"),
        ({"Records": [{"body": '{"image": "a.jpg"}'}]}, "Records"),
        (query(REST) | {"queryStringParameters": ["image"]}, "list"),
        (query(HTTP_API) | {"queryStringParameters": "image=x"}, "str"),
        (query(REST, image={"a": 1}), "dict"),
        ({**REST, "multiValueQueryStringParameters": {"image": ["a.jpg", "b.jpg"]}}, "2 times"),
        (query(REST, image="a.jpg") | {"image": "b.jpg"}, "2 times"),
        ({**EVENTBRIDGE, "detail": {"image": "a.jpg"}, "image": "b.jpg"}, "2 times"),
        ({**EVENTBRIDGE, "detail": {"image": 5}}, "int"),
        ({**EVENTBRIDGE, "detail": "image=a.jpg"}, "not JSON"),
        ({**EVENTBRIDGE, "detail": '{"image": ' + "[" * 100_000}, "not JSON"),
    ],
)
def test_a_malformed_event_is_refused_with_what_was_found(event: object, word: str) -> None:
    with pytest.raises(events.RequestError, match=word):
        events.requested_picture(event)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = ("image", "httpMethod", "requestContext", "rawQueryString", "detail-type", "detail", "Records", "version")
SHAPED = st.dictionaries(
    st.sampled_from((*KEYS, "queryStringParameters", "multiValueQueryStringParameters", "multiValueHeaders")),
    JSON | st.dictionaries(st.sampled_from(("image", "elb", "http")), JSON),
)


@settings(deadline=None)  # a busy machine is no failure
@given(JSON | SHAPED)
def test_any_event_names_a_picture_leaves_the_choice_or_is_refused_with_a_reason(event: object) -> None:
    refused = ""
    try:
        answer = events.response(event, HTTPStatus.OK, {"image": events.requested_picture(event)})
    except events.RequestError as error:
        refused = str(error)
        answer = events.response(event, HTTPStatus.BAD_REQUEST, {"error": refused})
    assert answer.get("statusCode", 200) == (400 if refused else 200)
    assert json.loads(json.dumps(answer)) == answer


PLACES = (
    lambda name: query(REST, image=name),
    lambda name: query(HTTP_API, image=name),
    lambda name: query(BALANCER, image=quote_plus(name)),
    lambda name: {**EVENTBRIDGE, "detail": {"image": name}},
    lambda name: {**EVENTBRIDGE, "detail": json.dumps({"image": name})},
    lambda name: {"image": name},
)


@settings(deadline=None)
@given(st.sampled_from(PLACES), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_is_found_in_the_event_of_any_sender(place: Any, name: str) -> None:
    assert events.requested_picture(place(name)) == name


def test_the_answer_has_the_form_that_its_sender_expects() -> None:
    body = {"image": "a.jpg"}
    assert events.response({}, HTTPStatus.OK, body) == body
    assert events.response({}, HTTPStatus.BAD_REQUEST, body) == {"statusCode": 400, **body}
    for event in (REST, HTTP_API, BALANCER):
        answer = events.response(event, HTTPStatus.OK, body)
        assert (answer["statusCode"], json.loads(answer["body"])) == (200, body)
        assert answer["headers"] == {"Content-Type": "application/json"}
    several = events.response({**BALANCER, "multiValueHeaders": {}}, HTTPStatus.BAD_REQUEST, body)
    assert several["multiValueHeaders"] == {"Content-Type": ["application/json"]}
    assert several["statusDescription"] == "400 Bad Request"
    assert "headers" not in several
