"""Price a deployment per month while nobody measures. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.configuration import Configuration
from core.money.charges import SECONDS_PER_MONTH, network_rest_usd, snapstart_usd
from core.money.prices import MB_PER_GB, Prices
from experiments.checks.spend import capacity_usd
from experiments.plan import Step

# Compressed; assumed, as images are built by the deployment: TensorFlow's measure about that much.
IMAGE_GB: Final = 0.5
LOG_GB_PER_CALL: Final = 2e-6
ALARMED_METRICS: Final = 2  # Errors and Throttles of each function


@dataclass(frozen=True)
class RestCost:
    """One line of the estimate."""

    what: str
    monthly_usd: float
    how: str


def rest_costs(configuration: Configuration, planned: Sequence[Step], prices: Prices) -> list[RestCost]:
    """Return what costs money at rest, and what one would expect to and does not."""
    images = len(configuration.container_images)
    functions = len(configuration.variants)
    calls = sum(step.cold_calls + step.warm_calls for step in planned)
    logged_gb = calls * LOG_GB_PER_CALL
    days = configuration.function.log_retention_days
    operations = configuration.operations
    lines = [
        RestCost(
            "images in ECR",
            images * IMAGE_GB * prices["ecr_gb_month_usd"],
            f"{images} x {IMAGE_GB:g} GB assumed; each changed image adds one until `cdk gc`",
        ),
        RestCost(
            "logs",
            logged_gb * prices["logs_stored_gb_month_usd"],
            f"{logged_gb:.2g} GB of one run, kept {days} days; ingesting them costs "
            f"{logged_gb * prices['logs_ingested_gb_usd']:.2f} USD once",
        ),
    ]
    if snapshots := [variant for variant in configuration.variants if variant.start == "snapstart"]:
        gb = sum(variant.memory_mb for variant in snapshots) / MB_PER_GB
        usd = sum(snapstart_usd(variant.memory_mb, SECONDS_PER_MONTH, 0, prices)[0] for variant in snapshots)
        lines.append(
            RestCost("SnapStart snapshots", usd, f"{len(snapshots)} of {gb:.1f} GB together, cached while deployed")
        )
    if kept := [variant for variant in configuration.variants if variant.start == "provisioned"]:
        number = configuration.provisioned.concurrency
        usd = capacity_usd(configuration, SECONDS_PER_MONTH, prices)
        up_to = f", up to {configuration.provisioned.highest} by scaling" if configuration.provisioned.is_scaled else ""
        how = f"{number} in each of {len(kept)} functions{up_to}, whether called or not"
        lines.append(RestCost("provisioned environments", usd, how))
    if operations.dashboard:
        count = len(configuration.dashboards)
        lines.append(
            RestCost("dashboard", count * prices["dashboard_month_usd"], f"{count}; an account's first 3 are free")
        )
    if operations.load_tasks:
        usd = network_rest_usd(SECONDS_PER_MONTH / 3600, prices)
        lines.append(RestCost("NAT gateway", usd, "of the load tasks, with its public address"))
    if operations.notify_email:
        metrics = ALARMED_METRICS * functions
        lines.append(
            RestCost(
                "alarms",
                metrics * prices["alarm_metric_month_usd"],
                f"{metrics} metrics; an account's first 10 are free",
            )
        )
    nothing = f"{functions} functions, {len(configuration.groups)} REST API, schedules that are off, roles"
    return [*lines, RestCost("everything else", 0.0, nothing)]
