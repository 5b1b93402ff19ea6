"""The event that a Lambda proxy integration hands to the function (payload format 1.0). Pure.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html#api-gateway-simple-proxy-for-lambda-input-format
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from lab.contracts import ACCOUNT_ID
from lab.services.apigateway.api import Deployment
from lab.services.apigateway.routing import Match

# The gateway keeps these to itself. "Important notes": header restrictions of REST APIs.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html
_NOT_FORWARDED: Final = frozenset(
    (
        "connection",
        "content-length",
        "content-md5",
        "expect",
        "max-forwards",
        "proxy-authenticate",
        "server",
        "te",
        "transfer-encoding",
        "trailer",
        "upgrade",
        "www-authenticate",
    )
)


@dataclass(frozen=True)
class Request:
    """One HTTP request to a stage, free of any server library.

    `raw_path` starts after the stage and is still URL-encoded, `query` is the raw query string, `headers` are in order
    and in the case they came in. `received_at` is on the monotonic clock, `received_epoch_s` on the wall clock.
    """

    http_method: str
    raw_path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str
    scheme: str
    port: int
    received_at: float
    received_epoch_s: float
    body_too_large: bool = False  # `body` is then empty

    def header(self, name: str) -> str | None:
        """The last value of a header, `name` in lower case."""
        found = None
        for key, value in self.headers:
            if key.lower() == name:
                found = value
        return found

    @property
    def path(self) -> str:
        """The path after the stage, still URL-encoded; several slashes after the stage are one, others stay.

        https://github.com/localstack/localstack/issues/11253 and .../pull/11304 show what AWS passes.
        """
        return "/" + self.raw_path.lstrip("/")

    def context_path(self, stage: str) -> str:
        """`$context.path`: the path as it was sent, with the stage."""
        return f"/{stage}{self.raw_path}"


@dataclass(frozen=True)
class Identity:
    """What the gateway gives a request: ids, the trace, the API key used."""

    request_id: str
    extended_request_id: str
    trace_id: str
    api_key: str | None = None
    api_key_id: str | None = None


def is_binary(media_type: str | None, binary_media_types: frozenset[str]) -> bool:
    """Whether a payload of this media type is binary by the API's list, which may hold `image/*` and `*/*`."""
    if not binary_media_types:
        return False
    if "*/*" in binary_media_types:
        return True
    if not media_type:
        return False
    kind = media_type.split(";", 1)[0].strip().lower()
    return kind in binary_media_types or kind.split("/", 1)[0] + "/*" in binary_media_types


def build_event(
    request: Request,
    match: Match,
    deployment: Deployment,
    stage: str,
    stage_variables: Mapping[str, str],
    identity: Identity,
) -> dict[str, Any]:
    """The proxy event; a map that would be empty is null, as AWS sends it."""
    headers, multi_headers = _headers(request, identity)
    query, multi_query = _query(request.query)
    body, encoded = _body(request, deployment.binary_media_types)
    return {
        "resource": match.method.resource_path,
        "path": request.path,
        "httpMethod": request.http_method,
        "headers": headers,
        "multiValueHeaders": multi_headers,
        "queryStringParameters": query,
        "multiValueQueryStringParameters": multi_query,
        "pathParameters": match.path_parameters or None,
        "stageVariables": dict(stage_variables) or None,
        "requestContext": _request_context(request, match, deployment, stage, identity),
        "body": body,
        "isBase64Encoded": encoded,
    }


def _headers(request: Request, identity: Identity) -> tuple[dict[str, str], dict[str, list[str]]]:
    single: dict[str, str] = {}
    multi: dict[str, list[str]] = {}
    spelling: dict[str, str] = {}
    forwarded_for = request.source_ip
    for key, value in request.headers:
        lower = key.lower()
        if lower in _NOT_FORWARDED or lower in {"x-amzn-trace-id", "x-forwarded-port", "x-forwarded-proto"}:
            continue
        if lower == "x-forwarded-for":
            forwarded_for = f"{value}, {request.source_ip}"
            continue
        name = spelling.setdefault(lower, key)
        single[name] = value  # the last one counts
        multi.setdefault(name, []).append(value)
    for name, value in (
        ("X-Amzn-Trace-Id", identity.trace_id),
        ("X-Forwarded-For", forwarded_for),
        ("X-Forwarded-Port", str(request.port)),
        ("X-Forwarded-Proto", request.scheme),
    ):
        single[name] = value
        multi[name] = [value]
    return single, multi


def _query(raw: str) -> tuple[dict[str, str] | None, dict[str, list[str]] | None]:
    if not raw:
        return None, None
    single: dict[str, str] = {}
    multi: dict[str, list[str]] = {}
    for key, value in parse_qsl(raw, keep_blank_values=True):
        single[key] = value
        multi.setdefault(key, []).append(value)
    return single or None, multi or None


def _body(request: Request, binary_media_types: frozenset[str]) -> tuple[str | None, bool]:
    if not request.body:
        return None, False
    if is_binary(request.header("content-type") or "application/json", binary_media_types):
        return base64.b64encode(request.body).decode("ascii"), True
    return request.body.decode("utf-8", "replace"), False


def _request_context(
    request: Request, match: Match, deployment: Deployment, stage: str, identity: Identity
) -> dict[str, Any]:
    caller: dict[str, Any] = {
        "cognitoIdentityPoolId": None,
        "accountId": None,
        "cognitoIdentityId": None,
        "caller": None,
        "sourceIp": request.source_ip,
        "principalOrgId": None,
        "accessKey": None,
        "cognitoAuthenticationType": None,
        "cognitoAuthenticationProvider": None,
        "userArn": None,
        "userAgent": request.header("user-agent"),
        "user": None,
    }
    if identity.api_key is not None:
        caller["apiKey"] = identity.api_key
        caller["apiKeyId"] = identity.api_key_id
    return {
        "resourceId": match.method.resource_id,
        "resourcePath": match.method.resource_path,
        "httpMethod": request.http_method,
        "extendedRequestId": identity.extended_request_id,
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(request.received_epoch_s)),
        "path": request.context_path(stage),
        "accountId": ACCOUNT_ID,
        "protocol": request.protocol,
        "stage": stage,
        "domainPrefix": deployment.api_id,
        "requestTimeEpoch": int(request.received_epoch_s * 1000),
        "requestId": identity.request_id,
        "identity": caller,
        "domainName": f"{deployment.api_id}.execute-api.localhost",
        "deploymentId": deployment.deployment_id,
        "apiId": deployment.api_id,
    }
