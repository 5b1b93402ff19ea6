"""Which picture an event asks for, and in what form its sender expects the answer. No I/O.

Shapes:
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html (function URLs: payload 2.0)
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal, NoReturn
from urllib.parse import unquote_plus

Kind = Literal["direct", "eventbridge", "rest", "http", "load_balancer"]

IMAGE: Final = "image"
# Batches of other services, such as a queue's: they carry no question for this function.
RECORDS: Final = "Records"


class RequestError(Exception):
    """The event is malformed or asks for something that is not available."""


def kind_of(event: object) -> Kind:
    """The kind of sender, by the fields that only its events have."""
    if not isinstance(event, dict):
        return "direct"
    context = event.get("requestContext")
    if isinstance(context, dict) and "elb" in context:
        return "load_balancer"
    if "httpMethod" in event:
        return "rest"
    if "rawQueryString" in event or (isinstance(context, dict) and "http" in context):
        return "http"
    if "detail-type" in event:
        return "eventbridge"
    return "direct"


def requested_picture(event: object) -> str | None:
    """The name under `image` of the event, its query string, or its detail; None if all of them leave it open.

    Raises RequestError for a malformed event, and for two names, as one of them would be ignored.
    """
    if event is None:
        return None
    if not isinstance(event, dict):
        raise RequestError(
            f'the event is {type(event).__name__}, expected an object such as {{}} or {{"image": "NAME"}}'
        )
    if RECORDS in event:
        raise RequestError(f"the event holds {RECORDS}; this function answers single requests, not batches")
    given = [*_from_query(event), event.get(IMAGE), _detail(event).get(IMAGE)]
    names = {_name(name) for name in given if name is not None}
    if len(names) > 1:
        raise RequestError(f"{IMAGE} is given {len(names)} times, with different names")
    return names.pop() if names else None


def _from_query(event: Mapping[str, Any]) -> list[object]:
    """Every `image` of the query string."""
    single = _object(event, "queryStringParameters").get(IMAGE)
    several = _object(event, "multiValueQueryStringParameters").get(IMAGE)
    names = [*(several if isinstance(several, list) else [several]), single]
    if kind_of(event) != "load_balancer":
        return names
    # A load balancer passes parameters on as they were sent, percent-encoded.
    return [unquote_plus(name) if isinstance(name, str) else name for name in names]


def _detail(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The detail of an EventBridge event: an object, or JSON text of one, as EventBridge Scheduler sends it."""
    detail = event.get("detail")
    if isinstance(detail, str) and IMAGE in detail:
        try:
            detail = json.loads(detail, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise RequestError(f"detail names {IMAGE} and is not JSON") from None
    return detail if isinstance(detail, dict) else {}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _object(event: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = event.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(f"{key} is {type(value).__name__}, expected an object or null")
    return value


def _name(value: object) -> str:
    if isinstance(value, str):
        return value
    raise RequestError(f"{IMAGE} is {type(value).__name__}, expected a name")


def response(event: object, status: HTTPStatus, body: dict[str, Any]) -> dict[str, Any]:
    """The answer in the form that the event's sender expects: HTTP's, or the body itself."""
    kind = kind_of(event)
    if kind in {"direct", "eventbridge"}:
        return body if status == HTTPStatus.OK else {"statusCode": int(status), **body}
    content_type = "application/json"
    answer: dict[str, Any] = {"statusCode": int(status), "body": json.dumps(body, allow_nan=False)}
    # A load balancer whose target group has multi-value headers accepts no others; its requests show it.
    if kind == "load_balancer" and isinstance(event, dict) and "multiValueHeaders" in event:
        headers: dict[str, Sequence[str]] = {"Content-Type": [content_type]}
        answer["multiValueHeaders"] = headers
    else:
        answer["headers"] = {"Content-Type": content_type}
    if kind == "load_balancer":
        answer |= {"statusDescription": f"{int(status)} {status.phrase}", "isBase64Encoded": False}
    return answer
