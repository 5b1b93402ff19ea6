"""The gateway's own answers and their overrides. Pure.

https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lab.services.apigateway.api import GatewayResponse
from lab.services.apigateway.proxy_response import Response

_VARIABLE: Final = re.compile(
    r"\$(?:(context|stageVariables)\.([A-Za-z0-9_.]+)|\{(context|stageVariables)\.([\w.]+)\})"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEADER_PREFIX: Final = "gatewayresponse.header."


@dataclass(frozen=True)
class Failure:
    """Why the gateway itself answers: type, default status, message and the value of x-amzn-ErrorType.

    `body` is the default body where AWS's is not `{"message": ...}`.
    """

    response_type: str
    status: int
    message: str
    error_type: str
    body: str | None = None


# The space after the colon differs between AWS's 4xx and 5xx bodies; some clients compare bytes.
UNKNOWN_PATH: Final = Failure(
    "MISSING_AUTHENTICATION_TOKEN", 403, "Missing Authentication Token", "MissingAuthenticationTokenException"
)
INVALID_SIGNATURE: Final = Failure(
    "INVALID_SIGNATURE",
    403,
    "Credential should be scoped to correct service: 'execute-api'. ",
    "InvalidSignatureException",
)
FORBIDDEN: Final = Failure("ACCESS_DENIED", 403, "Forbidden", "ForbiddenException")
INVALID_API_KEY: Final = Failure("INVALID_API_KEY", 403, "Forbidden", "ForbiddenException")
THROTTLED: Final = Failure("THROTTLED", 429, "Too Many Requests", "TooManyRequestsException")
BODY_TOO_LARGE: Final = Failure(
    "REQUEST_TOO_LARGE",
    413,
    "HTTP content length exceeded 10485760 bytes.",
    "RequestTooLargeException",
    body="HTTP content length exceeded 10485760 bytes.",
)
PAYLOAD_TOO_LARGE: Final = Failure("REQUEST_TOO_LARGE", 413, "Request Too Long", "RequestTooLargeException")
TIMEOUT: Final = Failure("INTEGRATION_TIMEOUT", 504, "Endpoint request timed out", "InternalServerErrorException")
# "If the function runs but returns an error, or returns a response in the wrong format, API Gateway returns a 502."
# https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway-errors.html
BAD_ANSWER: Final = Failure("DEFAULT_5XX", 502, "Internal server error", "InternalServerErrorException")
# "If the Lambda API rejects the invocation request, API Gateway returns a 500 error code" (same page). A throttle is
# such a rejection: docs/adr/0050 has the evidence.
INVOKE_REJECTED: Final = Failure("INTEGRATION_FAILURE", 500, "Internal server error", "InternalServerErrorException")
CONFIGURATION: Final = Failure("API_CONFIGURATION_ERROR", 500, "Internal server error", "InternalServerErrorException")


def substitute(template: str, context: Mapping[str, str], stage_variables: Mapping[str, str]) -> str:
    """Replace `$context.*` and `$stageVariables.*` in one pass; an unknown one becomes empty.

    "Simple variable substitution" is all that AWS does with these templates: no Velocity.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gatewayResponse-definition.html
    """

    def value(found: re.Match[str]) -> str:
        scope, name = found[1] or found[3], found[2] or found[4]
        # A sentence may end right after a variable.
        bare = name.rstrip(".")
        known = context if scope == "context" else stage_variables
        return known.get(bare, "") + name[len(bare) :]

    return _VARIABLE.sub(value, template)


def answer(
    failure: Failure,
    overrides: Mapping[str, GatewayResponse],
    accept: str | None,
    context: Mapping[str, str],
    stage_variables: Mapping[str, str],
) -> Response:
    """The response for a failure: the API's own override, else its DEFAULT_4XX or DEFAULT_5XX, else AWS's default."""
    override = overrides.get(failure.response_type) or overrides.get(
        "DEFAULT_4XX" if failure.status < 500 else "DEFAULT_5XX"
    )
    headers = [("x-amzn-ErrorType", failure.error_type)]
    if override is None:
        if failure.body is not None:
            return Response(failure.status, [("Content-Type", "text/plain"), *headers], failure.body.encode())
        return Response(failure.status, [("Content-Type", "application/json"), *headers], _default_body(failure))
    known = {
        **context,
        "error.message": failure.message,
        "error.messageString": json.dumps(failure.message),
        "error.responseType": failure.response_type,
    }
    content_type, template = _template(override.templates, accept)
    for name, value in override.headers.items():
        text = _header_value(value, known, stage_variables)
        if text is not None:
            headers.append((name.removeprefix(_HEADER_PREFIX), _CONTROL.sub(" ", text)))
    body = _default_body(failure) if template is None else substitute(template, known, stage_variables).encode()
    return Response(override.status or failure.status, [("Content-Type", content_type), *headers], body)


def _default_body(failure: Failure) -> bytes:
    separators = (",", ":") if failure.status < 500 else (", ", ": ")
    return json.dumps({"message": failure.message}, separators=separators).encode()


def _template(templates: Mapping[str, str], accept: str | None) -> tuple[str, str | None]:
    wanted = [part.split(";", 1)[0].strip() for part in (accept or "").split(",")]
    for media_type in (*wanted, "application/json"):
        if media_type in templates:
            return media_type, templates[media_type]
    for media_type, template in templates.items():
        return media_type, template
    return "application/json", None


def _header_value(mapped: str, context: Mapping[str, str], stage_variables: Mapping[str, str]) -> str | None:
    """A mapping expression of a gateway response's header: `'static'`, `context.x` or `stageVariables.x`."""
    if len(mapped) >= 2 and mapped[0] == mapped[-1] == "'":
        return mapped[1:-1]
    if mapped.startswith("context."):
        return context.get(mapped.removeprefix("context."))
    if mapped.startswith("stageVariables."):
        return stage_variables.get(mapped.removeprefix("stageVariables."))
    return None
