"""The REST API data plane: from a request to a stage to its response, over the Invoker."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from core.aws.endpoint_access import API_KEY_HEADER
from lab.contracts import ACCOUNT_ID, Invoker, InvokeResult, MetricSink
from lab.dataplane.rules import split_qualifier
from lab.services.apigateway import gateway_responses as own
from lab.services.apigateway.api import Integration, Method
from lab.services.apigateway.gateway_responses import Failure
from lab.services.apigateway.moto_apis import MotoApis, Stage
from lab.services.apigateway.proxy_event import Identity, Request, build_event
from lab.services.apigateway.proxy_response import MalformedResponseError, Response, map_response
from lab.services.apigateway.routing import Match
from lab.services.apigateway.throttling import Buckets

_log: Final = logging.getLogger(__name__)
_STAGE_VARIABLE: Final = re.compile(r"\$\{stageVariables\.(\w+)\}")
_SIGNATURE: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/ ,]+/\d{8}/[a-z0-9-]+/execute-api/aws4_request, ?"
    r"SignedHeaders=[^ ,]*\bhost\b[^ ,]*, ?Signature=[0-9a-f]{64}"
)
_NAMESPACE: Final = "AWS/ApiGateway"
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class _FailedError(Exception):
    """The gateway answers by itself."""

    def __init__(self, failure: Failure, reason: str = "") -> None:
        super().__init__(reason or failure.message)
        self.failure = failure
        self.reason = reason


class Gateway:
    """Serves every stage of every REST API in the control plane.

    One instance belongs to one event loop. It keeps no request: a function that runs past the integration timeout goes
    on in the data plane, its answer is dropped.
    """

    def __init__(self, catalogue: MotoApis, invoker: Invoker, metrics: MetricSink) -> None:
        self._catalogue = catalogue
        self._invoker = invoker
        self._metrics = metrics
        self._buckets = Buckets()

    async def handle(self, api_id: str, stage_name: str, request: Request) -> Response:
        """Answer one request; never raises for anything that a caller or a function did."""
        identity = new_identity(request)
        stage = self._catalogue.stage(api_id, stage_name)
        if stage is None:
            # On AWS the host name of an unknown API does not resolve; an unknown stage of a known one answers this.
            response = own.answer(own.FORBIDDEN, {}, None, {}, {})
            return _finish(response, identity, request)
        match = stage.routes.match(request.http_method, request.raw_path)
        latency = _Latency()
        try:
            response, identity = await self._run(stage, match, request, identity, latency)
        except _FailedError as error:
            if error.reason:
                _log.warning("%s/%s %s: %s", api_id, stage_name, request.raw_path, error.reason)
            response = own.answer(
                error.failure,
                stage.deployment.gateway_responses,
                request.header("accept"),
                _context(stage, match, request, identity),
                stage.variables,
            )
        self._record(stage, match.method if match else None, response.status, request, latency)
        return _finish(response, identity, request)

    async def _run(
        self, stage: Stage, match: Match | None, request: Request, identity: Identity, latency: _Latency
    ) -> tuple[Response, Identity]:
        if match is None:
            raise _FailedError(own.UNKNOWN_PATH)
        method = match.method
        if request.body_too_large:
            raise _FailedError(own.BODY_TOO_LARGE)
        if method.authorization == "AWS_IAM":
            _check_signature(request.header("authorization"))
        elif method.authorization != "NONE":
            raise _FailedError(own.CONFIGURATION, f"authorization {method.authorization} is not modeled by the lab")
        identity = self._admit(stage, method, request, identity)
        integration = method.integration
        if integration.why_unsupported:
            raise _FailedError(own.CONFIGURATION, f"not modeled by the lab: {integration.why_unsupported}")
        event = build_event(request, match, stage.deployment, stage.name, stage.variables, identity)
        result = await self._invoke(integration, stage.variables, event, identity, latency)
        if result.function_error is not None:
            raise _FailedError(own.BAD_ANSWER)
        try:
            mapped = map_response(result.payload, request.header("accept"), stage.deployment.binary_media_types)
        except MalformedResponseError as error:
            raise _FailedError(own.BAD_ANSWER, f"malformed Lambda proxy response: {error}") from None
        return mapped, identity

    def _admit(self, stage: Stage, method: Method, request: Request, identity: Identity) -> Identity:
        """Apply API key and throttles, the narrowest first, as AWS orders them. Raises _FailedError."""
        api_id, now = stage.deployment.api_id, request.received_at
        if method.api_key_required:
            value = request.header(API_KEY_HEADER)
            key_id = self._catalogue.key_id(stage.deployment.region, value) if value else None
            plan = self._catalogue.usage_plan(stage.deployment.region, key_id, api_id, stage.name) if key_id else None
            if plan is None:
                raise _FailedError(own.INVALID_API_KEY)
            if plan.why_unsupported:
                raise _FailedError(own.CONFIGURATION, f"not modeled by the lab: {plan.why_unsupported}")
            if plan.throttle is not None and not self._buckets.take(("plan", plan.plan_id, key_id), plan.throttle, now):
                raise _FailedError(own.THROTTLED)
            identity = replace(identity, api_key=value, api_key_id=key_id)
        if stage.method_settings:
            limit = stage.throttle(method)
            if limit is not None and not self._buckets.take(
                ("stage", api_id, stage.name, method.resource_path, method.http_method), limit, now
            ):
                raise _FailedError(own.THROTTLED)
        if not self._buckets.take(("account", stage.deployment.region), stage.account_throttle, now):
            raise _FailedError(own.THROTTLED)
        return identity

    async def _invoke(
        self,
        integration: Integration,
        variables: Mapping[str, str],
        event: dict[str, Any],
        identity: Identity,
        latency: _Latency,
    ) -> InvokeResult:
        arn, qualifier = split_qualifier(
            _STAGE_VARIABLE.sub(lambda found: variables.get(found[1], ""), integration.function_arn)
        )
        payload = _encode(event).encode()
        started = time.monotonic()
        try:
            async with asyncio.timeout(integration.timeout_ms / 1000):
                result = await self._invoker.invoke(arn, payload, qualifier=qualifier, trace_id=identity.trace_id)
        except TimeoutError:
            raise _FailedError(own.TIMEOUT) from None
        finally:
            latency.integration_ms = (time.monotonic() - started) * 1000
        if result.error_code is not None:
            if result.status == 413:
                raise _FailedError(own.PAYLOAD_TOO_LARGE)  # the caller's mistake: nothing to log
            raise _FailedError(own.INVOKE_REJECTED, f"Invoke answered {result.error_code}")
        return result

    def _record(self, stage: Stage, method: Method | None, status: int, request: Request, latency: _Latency) -> None:
        """AWS/ApiGateway's metrics.

        https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
        """
        api = {"ApiName": stage.deployment.api_name}
        dimensions: list[dict[str, str]] = [api, {**api, "Stage": stage.name}]
        if method is not None and stage.method_settings and stage.has_detailed_metrics(method):
            dimensions.append({**dimensions[1], "Resource": method.resource_path, "Method": method.http_method})
        now_s = time.time()
        values = [
            ("Count", "Count", 1.0),
            ("4XXError", "Count", float(400 <= status < 500)),
            ("5XXError", "Count", float(status >= 500)),
            ("Latency", "Milliseconds", (time.monotonic() - request.received_at) * 1000),
        ]
        if latency.integration_ms is not None:
            values.append(("IntegrationLatency", "Milliseconds", latency.integration_ms))
        for names in dimensions:
            self._metrics.put(_NAMESPACE, names, now_s, values)


class _Latency:
    """Time spent behind the gateway, filled in on the way."""

    integration_ms: float | None = None


def _check_signature(authorization: str | None) -> None:
    """Refuse a request without a signature of this service; whose it is stays open, as a lab knows no secrets."""
    if authorization is None:
        raise _FailedError(own.UNKNOWN_PATH)
    if not _SIGNATURE.fullmatch(authorization):
        raise _FailedError(own.INVALID_SIGNATURE)


def new_identity(request: Request) -> Identity:
    """Fresh ids; a trace root that the caller sent is kept."""
    sent = request.header("x-amzn-trace-id")
    root = f"Root=1-{int(request.received_epoch_s):08x}-{os.urandom(12).hex()}"
    return Identity(
        request_id=str(uuid.uuid4()),
        extended_request_id=base64.b64encode(os.urandom(11)).decode("ascii"),
        trace_id=sent if sent and sent.startswith("Root=") and sent.isprintable() else root,
    )


def _context(stage: Stage, match: Match | None, request: Request, identity: Identity) -> dict[str, str]:
    return {
        "accountId": ACCOUNT_ID,
        "apiId": stage.deployment.api_id,
        "deploymentId": stage.deployment.deployment_id,
        "domainName": f"{stage.deployment.api_id}.execute-api.localhost",
        "domainPrefix": stage.deployment.api_id,
        "extendedRequestId": identity.extended_request_id,
        "httpMethod": request.http_method,
        "identity.sourceIp": request.source_ip,
        "identity.userAgent": request.header("user-agent") or "",
        "identity.apiKeyId": identity.api_key_id or "",
        "path": request.context_path(stage.name),
        "protocol": request.protocol,
        "requestId": identity.request_id,
        "requestTimeEpoch": str(int(request.received_epoch_s * 1000)),
        "resourceId": match.method.resource_id if match else "",
        "resourcePath": match.method.resource_path if match else "",
        "stage": stage.name,
        "xrayTraceId": identity.trace_id.removeprefix("Root="),
    }


def _finish(response: Response, identity: Identity, request: Request) -> Response:
    """Add what every answer carries; a response to HEAD, a 204 and a 304 have no body."""
    headers = response.headers
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers = [("Content-Type", "application/json"), *headers]
    headers = [
        *headers,
        ("x-amzn-RequestId", identity.request_id),
        ("x-amz-apigw-id", identity.extended_request_id),
        ("X-Amzn-Trace-Id", identity.trace_id),
    ]
    body = b"" if request.http_method == "HEAD" or response.status in {204, 304} else response.body
    return Response(response.status, headers, body)
