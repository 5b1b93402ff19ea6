"""ECS in a lab: clusters and task definitions deploy by moto, and no task runs.

moto 5.2.5 answers RunTask with a task that says RUNNING and does nothing, which a load would wait for.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from moto.ecs.exceptions import EcsClientException
from moto.ecs.models import EC2ContainerServiceBackend
from moto.servicequotas.models import ServiceQuotasBackend

REFUSAL: Final = (
    "The lab runs no Fargate tasks. Load it from this machine: `inference-lab experiments load` without --on fargate, "
    "or `locust -f loadtests/locustfile.py --processes N`."
)
_FARGATE_VCPU: Final[dict[str, Any]] = {
    "ServiceCode": "fargate",
    "ServiceName": "AWS Fargate",
    "QuotaCode": "L-3032A538",
    "QuotaName": "Fargate On-Demand vCPU resource count",
    "Value": 0.0,
    "Unit": "None",
    "Adjustable": False,
    "GlobalQuota": False,
}


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise EcsClientException(REFUSAL)


def _get_service_quota(self: ServiceQuotasBackend, service_code: str, quota_code: str) -> dict[str, Any]:
    """`ServiceQuotasBackend.get_service_quota` with Fargate's: a lab may run no vCPU of it."""
    if (service_code, quota_code) == (_FARGATE_VCPU["ServiceCode"], _FARGATE_VCPU["QuotaCode"]):
        return _FARGATE_VCPU
    quota: dict[str, Any] = _motos_quota(self, service_code, quota_code)
    return quota


_motos_quota = ServiceQuotasBackend.get_service_quota


def install() -> None:
    """Put the refusal and the quota into moto."""
    EC2ContainerServiceBackend.run_task = _refuse
    EC2ContainerServiceBackend.start_task = _refuse
    ServiceQuotasBackend.get_service_quota = _get_service_quota
