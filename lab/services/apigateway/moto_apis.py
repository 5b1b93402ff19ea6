"""Reads REST APIs out of moto's backend, in this process: the gateway's only view of the control plane.

moto has no snapshot of a deployment. One is taken here when a stage is first asked for after its deployment changed;
later changes to resources and methods show after the next deployment, as on AWS. Stage variables, throttling, API keys
and usage plans are read live, as on AWS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from moto.apigateway.models import apigateway_backends

from lab.contracts import ACCOUNT_ID
from lab.services.apigateway.api import (
    DEFAULT_TIMEOUT_MS,
    Deployment,
    GatewayResponse,
    Integration,
    Method,
    Throttle,
    UsagePlan,
)
from lab.services.apigateway.routing import RoutingTable

_LAMBDA_URI: Final = re.compile(r"arn:[^:]+:apigateway:[^:]+:lambda:path/[^/]+/functions/(?P<arn>.+)/invocations$")
# What moto fills in, with all other settings, when any one of a method's is patched; nobody declared it.
_MOTO_DEFAULT: Final = Throttle(1000.0, 2000)


@dataclass(frozen=True)
class Stage:
    """A stage at the moment of a request."""

    deployment: Deployment
    routes: RoutingTable
    name: str
    variables: Mapping[str, str]
    method_settings: Mapping[str, Mapping[str, Any]]
    account_throttle: Throttle

    def throttle(self, method: Method) -> Throttle | None:
        """The stage's declared limit for a method: its own, else the one for all methods, else None."""
        for key in (_setting_key(method), "*/*"):
            settings = self.method_settings.get(key)
            if settings is None:
                continue
            rate, burst = settings.get("throttlingRateLimit"), settings.get("throttlingBurstLimit")
            if rate is None or burst is None or float(rate) < 0 or int(burst) < 0:
                continue
            declared = Throttle(float(rate), int(burst))
            if declared != _MOTO_DEFAULT or "cacheDataEncrypted" not in settings:
                return declared
        return None

    def has_detailed_metrics(self, method: Method) -> bool:
        settings = self.method_settings.get(_setting_key(method)) or self.method_settings.get("*/*") or {}
        return bool(settings.get("metricsEnabled"))


class MotoApis:
    """The control plane's view of REST APIs: moto's. Cheap: called for every request."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str], tuple[Any, str, Deployment, RoutingTable]] = {}

    def stage(self, api_id: str, name: str) -> Stage | None:
        found = self._find(api_id)
        if found is None:
            return None
        backend, region, api = found
        stage = api.stages.get(name)
        if stage is None:
            return None
        deployment_id = stage.deployment_id or ""
        key = (api_id, name)
        cached = self._cache.get(key)
        # The API object is compared too: a reset control plane may hand out the same ids again.
        if cached is None or cached[0] is not api or cached[1] != deployment_id:
            deployment = _read_deployment(api, region, deployment_id)
            cached = self._cache[key] = (api, deployment_id, deployment, RoutingTable(deployment.methods))
        limits = backend.account.throttle_settings
        return Stage(
            deployment=cached[2],
            routes=cached[3],
            name=name,
            variables=stage.variables or {},
            method_settings=stage.method_settings or {},
            account_throttle=Throttle(float(limits["rateLimit"]), int(limits["burstLimit"])),
        )

    def routes(self) -> Iterator[tuple[Stage, Method]]:
        """Every method of every stage that reaches a function."""
        for backend in list(apigateway_backends[ACCOUNT_ID].values()):
            for api in list(backend.apis.values()):
                for name in list(api.stages):
                    stage = self.stage(api.id, name)
                    for method in stage.deployment.methods if stage is not None else ():
                        if stage is not None and method.integration.function_arn:
                            yield stage, method

    def key_id(self, region: str, value: str) -> str | None:
        """Id of the enabled API key of this value."""
        keys = (key for key in list(self._backend(region).keys.values()) if key.value == value and key.enabled)
        return next((str(key.id) for key in keys), None)

    def usage_plan(self, region: str, key_id: str, api_id: str, stage: str) -> UsagePlan | None:
        backend = self._backend(region)
        for plan in list(backend.usage_plans.values()):
            if key_id not in backend.usage_plan_keys.get(plan.id, {}):
                continue
            for declared in plan.api_stages:
                if (declared.get("apiId"), declared.get("stage")) == (api_id, stage):
                    return _read_usage_plan(plan, declared)
        return None

    def _backend(self, region: str) -> Any:
        return apigateway_backends[ACCOUNT_ID][region]

    def _find(self, api_id: str) -> tuple[Any, str, Any] | None:
        for region, backend in list(apigateway_backends[ACCOUNT_ID].items()):
            api = backend.apis.get(api_id)
            if api is not None:
                return backend, region, api
        return None


def _setting_key(method: Method) -> str:
    # A slash inside the path is written ~1, as in a JSON pointer.
    return f"{method.resource_path.replace('/', '~1')}/{method.http_method}"


def _read_deployment(api: Any, region: str, deployment_id: str) -> Deployment:
    return Deployment(
        api_id=api.id,
        api_name=api.name,
        region=region,
        deployment_id=deployment_id,
        methods=tuple(_read_methods(api)),
        gateway_responses={
            kind: GatewayResponse(
                status=_integer(declared.status_code),
                headers=dict(declared.response_parameters or {}),
                templates=dict(declared.response_templates or {}),
            )
            for kind, declared in list(api.gateway_responses.items())
        },
        binary_media_types=frozenset(kind.lower() for kind in api.binaryMediaTypes or ()),
    )


def _read_methods(api: Any) -> Iterator[Method]:
    for resource in list(api.resources.values()):
        path = resource.get_path()
        for http_method, declared in list(resource.resource_methods.items()):
            yield Method(
                resource_id=resource.id,
                resource_path=path,
                http_method=http_method.upper(),
                integration=_read_integration(declared.method_integration),
                api_key_required=str(declared.api_key_required).lower() == "true",
                authorization=declared.authorization_type or "NONE",
            )


def _read_integration(declared: Any) -> Integration:
    if declared is None:
        return Integration(why_unsupported="the method has no integration")
    timeout_ms = _integer(declared.timeout_in_millis) or DEFAULT_TIMEOUT_MS
    uri = _LAMBDA_URI.fullmatch(declared.uri or "")
    if declared.integration_type == "AWS_PROXY" and uri is not None:
        return Integration(function_arn=uri["arn"], timeout_ms=timeout_ms)
    return Integration(why_unsupported=f"integration {declared.integration_type} with URI {declared.uri!r}")


def _read_usage_plan(plan: Any, declared_stage: Any) -> UsagePlan:
    limited = "a quota" if plan.quota else "throttles of single methods" if declared_stage.get("throttle") else ""
    return UsagePlan(plan.id, _throttle(plan.throttle), limited and f"{limited} in usage plan {plan.name}")


def _throttle(declared: Any) -> Throttle | None:
    rate, burst = (declared or {}).get("rateLimit"), (declared or {}).get("burstLimit")
    if rate is None and burst is None:
        return None
    # One of the two alone: AWS fills the other in so that it does not bind.
    rate_rps = float(rate) if rate is not None else float("inf")
    return Throttle(rate_rps, int(burst) if burst is not None else max(1, int(rate_rps)))


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
