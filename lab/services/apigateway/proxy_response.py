"""From the function's answer to an HTTP response, as a Lambda proxy integration maps it. Pure.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html#api-gateway-simple-proxy-for-lambda-output-format
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any, Final

from core import strict_json
from lab.services.apigateway.proxy_event import is_binary

_KEYS: Final = frozenset(("isBase64Encoded", "statusCode", "headers", "multiValueHeaders", "body"))
# A function may not set these: the gateway answers with its own and shows the function's under another name.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html
_REMAPPED: Final = frozenset(
    (
        "authorization",
        "connection",
        "content-length",
        "content-md5",
        "date",
        "expect",
        "host",
        "max-forwards",
        "proxy-authenticate",
        "server",
        "trailer",
        "upgrade",
        "user-agent",
        "www-authenticate",
    )
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_HEADER: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class Response:
    """An HTTP response free of any server library; headers are in order and may repeat."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class MalformedResponseError(ValueError):
    """The function's answer is not a proxy response; API Gateway turns it into a 502."""


def map_response(payload: bytes, accept: str | None, binary_media_types: frozenset[str]) -> Response:
    """Map the function's JSON to a response.

    `accept` is the request's Accept header: a base64 body is decoded only if its first media type is binary by the
    API's list. Raises MalformedResponseError with what was wrong.
    """
    answer = _parse(payload)
    body = answer.get("body")
    if body is not None and not isinstance(body, str):
        raise MalformedResponseError(f"body is {type(body).__name__}; expected a string")
    content = (body or "").encode("utf-8", "surrogatepass")
    if answer.get("isBase64Encoded") and is_binary((accept or "").split(",", 1)[0], binary_media_types):
        try:
            content = base64.b64decode(body or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise MalformedResponseError(f"body is not base64: {error}") from None
    return Response(_status(answer.get("statusCode")), _headers(answer), content)


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        answer = strict_json.loads(payload)
    except ValueError as error:
        raise MalformedResponseError(f"the answer is not JSON: {error}") from None
    if not isinstance(answer, dict):
        raise MalformedResponseError(f"the answer is {type(answer).__name__}; expected an object")
    unknown = answer.keys() - _KEYS
    if unknown:
        raise MalformedResponseError(f"unknown keys {sorted(unknown)}; allowed are {sorted(_KEYS)}")
    return answer


def _status(value: object) -> int:
    if value is None:
        return 200
    try:
        status = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else -1
    except ValueError:
        status = -1
    if not 200 <= status <= 599:
        raise MalformedResponseError(f"statusCode is {value!r}; expected 200 to 599")
    return status


def _headers(answer: dict[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    multiple = answer.get("multiValueHeaders")
    if multiple is not None:
        if not isinstance(multiple, dict):
            raise MalformedResponseError("multiValueHeaders is not an object")
        for name, values in multiple.items():
            if not isinstance(values, list):
                raise MalformedResponseError(f"multiValueHeaders[{name!r}] is not a list")
            pairs.extend((name, _scalar(name, value)) for value in values)
    single = answer.get("headers")
    if single is not None:
        if not isinstance(single, dict):
            raise MalformedResponseError("headers is not an object")
        seen = {(name.lower(), value) for name, value in pairs}
        for name, value in single.items():
            text = _scalar(name, value)
            if (name.lower(), text) not in seen:
                pairs.append((name, text))
    return [
        (f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED else name, value)
        for name, value in pairs
        if name.lower() != "transfer-encoding"
    ]


def _scalar(name: str, value: object) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise MalformedResponseError(f"{name!r} is no header name")
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (str, int, float)):
        text = str(value)
    else:
        raise MalformedResponseError(f"header {name} is {type(value).__name__}; expected a string")
    if _NOT_IN_A_HEADER.search(text):
        raise MalformedResponseError(f"header {name} holds a control character")
    return text
