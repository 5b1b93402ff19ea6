"""A deployed REST API as the gateway needs it: immutable, detached from the control plane that it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# "Integration timeout": 29 s by default for REST APIs.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
DEFAULT_TIMEOUT_MS: Final = 29_000
# "Payload size": 10 MB, not raisable (same page).
MAX_PAYLOAD_BYTES: Final = 10 * 1024 * 1024


@dataclass(frozen=True)
class Integration:
    """What stands behind a method: a function by its proxy integration, or what the lab does not model.

    `function_arn` may hold `${stageVariables.NAME}`.
    """

    function_arn: str = ""
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    why_unsupported: str = ""


@dataclass(frozen=True)
class Method:
    """One method of a resource; `http_method` may be ANY."""

    resource_id: str
    resource_path: str
    http_method: str
    integration: Integration
    api_key_required: bool = False
    authorization: str = "NONE"


@dataclass(frozen=True)
class GatewayResponse:
    """A declared override of one of the gateway's own answers; `status` None keeps the default."""

    status: int | None
    headers: Mapping[str, str]
    templates: Mapping[str, str]


@dataclass(frozen=True)
class Throttle:
    """A token bucket's numbers: `burst` tokens at most, `rate_rps` new ones a second."""

    rate_rps: float
    burst: int


@dataclass(frozen=True)
class UsagePlan:
    """A usage plan as it applies to one stage."""

    plan_id: str
    throttle: Throttle | None
    why_unsupported: str = ""


@dataclass(frozen=True)
class Deployment:
    """What `CreateDeployment` freezes: resources, methods, integrations, gateway responses, binary media types."""

    api_id: str
    api_name: str
    region: str
    deployment_id: str
    methods: Sequence[Method]
    gateway_responses: Mapping[str, GatewayResponse]
    binary_media_types: frozenset[str]
