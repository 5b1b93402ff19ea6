"""Classify the outcome of a call from its answer. No I/O.

A caller sees less than the logs do: the gateway answers 502 to a crash, to a kill for memory and to a function timeout
alike. This module states what the answer itself proves; the analysis refines it with the logs of the same request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from core import strict_json
from core.run.records import HandlerFacts, Outcome

MAX_ERROR_CHARACTERS: Final = 500
GATEWAY_ID_HEADER: Final = "x-amzn-requestid"  # of the gateway's own request, in lower case
NO_FACTS: Final = "the answer is not the inference function's"

THROTTLING_CODES: Final = frozenset(
    {"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "EC2ThrottledException"}
)
# What the platform calls a process it killed for its memory: by name, or by the signal.
_OUT_OF_MEMORY: Final = re.compile(r"Runtime\.OutOfMemory|signal: killed", re.IGNORECASE)
_INIT_TIMEOUT: Final = re.compile(r"Init(ialization)?[ _.-]?(phase )?(timed out|timeout)", re.IGNORECASE)
_TIMEOUT: Final = re.compile(r"Sandbox\.Timedout|Task timed out after", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What an answer proves."""

    outcome: Outcome
    error: str = ""
    handler: HandlerFacts | None = None


def classify_http(status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Classify an answer of the REST endpoint.

    `headers` are looked up by lower-case names. 429 is the gateway's own limit; a 500 with an error type, which the
    gateway sets and a function does not, is a refused Invoke, under load a throttled one; 502 is a function that
    failed; 504 is the gateway's integration timeout, while the function may keep running.
    https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway-errors.html
    """
    if 200 <= status < 300:
        return _ok(body)
    by_gateway = headers.get("x-amzn-errortype", "").split(":")[0]
    text = _shorten(" ".join(part for part in (f"HTTP {status}", by_gateway, _message(body)) if part))
    if status == 429 or by_gateway in THROTTLING_CODES:
        return Answer("throttled", text)
    if status == 504 and "network error" not in text.lower():
        return Answer("gateway_timeout", text)
    if status == 500 and by_gateway:
        return Answer("throttled", f"{text}: the gateway's Invoke was refused")
    return Answer("error", text)


def classify_invoke(payload: bytes, function_error: str | None) -> Answer:
    """Classify the answer of a synchronous Invoke: its payload, and the X-Amz-Function-Error header if there is one."""
    if function_error is None:
        answer = _ok(payload)
        # A handler that refuses a direct invoke answers an object with a status instead of raising.
        document = _object(payload)
        status = document.get("statusCode")
        if answer.handler is None and isinstance(status, int) and status >= 400:
            return Answer("error", _shorten(f"status {status} {_message(payload)}"))
        return answer
    document = _object(payload)
    error_type, message = str(document.get("errorType") or ""), str(document.get("errorMessage") or "")
    text = _shorten(": ".join(part for part in (error_type or function_error, message) if part))
    return Answer(classify_function_error(error_type, message), text)


def classify_function_error(error_type: str, message: str) -> Outcome:
    """Classify a failed invocation by the platform's error type and message, from a payload or a log.

    A kill for memory shows as Runtime.OutOfMemory, or as Runtime.ExitError with "signal: killed".
    """
    text = f"{error_type} {message}"
    if _OUT_OF_MEMORY.search(text):
        return "out_of_memory"
    if _INIT_TIMEOUT.search(text):
        return "init_timeout"
    if _TIMEOUT.search(text):
        return "timeout"
    return "error"


def classify_api_error(code: str) -> Outcome:
    """Classify an AWS error code by which Invoke itself was refused."""
    return "throttled" if code in THROTTLING_CODES else "error"


def parse_handler_facts(body: bytes) -> HandlerFacts | None:
    """Read the handler's facts out of an ok answer, or None where the answer holds none."""
    document = _object(body)
    try:
        return HandlerFacts.model_validate(
            {name: document[name] for name in HandlerFacts.model_fields if name in document}
        )
    except ValidationError:
        return None


def _ok(body: bytes) -> Answer:
    handler = parse_handler_facts(body)
    return Answer("ok", "" if handler else NO_FACTS, handler)


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = strict_json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _message(body: bytes) -> str:
    document = _object(body)
    message = document.get("error") or document.get("message") or document.get("Message")
    return str(message) if message else body[:MAX_ERROR_CHARACTERS].decode(errors="replace")


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_ERROR_CHARACTERS else f"{line[: MAX_ERROR_CHARACTERS - 1]}…"
