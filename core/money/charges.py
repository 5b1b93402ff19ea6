"""Price invocations by AWS's price list. No I/O.

Lambda bills the duration of a call rounded up to the next millisecond, times the memory size in GB of 1024 MB. INIT is
part of the billed duration of an image function's cold start, so it is never added again. Sources of the prices:
core/prices.toml. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.aws.load_tasks import TASK_MEMORY_GB, TASK_VCPU
from core.money.prices import MB_PER_GB, Prices, gb_seconds

SECONDS_PER_MONTH: Final = 730 * 3600.0  # AWS's own calculators count 730 hours a month
# CloudWatch counts so many bytes an event on top of its message.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
LOG_EVENT_OVERHEAD_BYTES: Final = 26
BYTES_PER_GB: Final = 1024**3
# A request and its answer with headers, on a kept connection with TLS; assumed, about twice what the body has.
BYTES_PER_CALL: Final = 3_000
LEAST_CACHED_S: Final = 3 * 3600.0


FrontDoor = Literal["rest_api", "http_api", "function_url"]
FRONT_DOORS: Final[tuple[FrontDoor, ...]] = get_args(FrontDoor)
_FRONT_DOOR_TIERS: Final[dict[str, tuple[str, ...]]] = {
    "rest_api": ("second", "third", "fourth"),
    "http_api": ("second",),
}


def tiered_usd(amount: float, tiers: Sequence[tuple[float, float]]) -> float:
    """Return the price of an amount by tiers of (where the tier begins, price per unit), in ascending order."""
    ends = [begin for begin, _ in tiers[1:]] + [math.inf]
    return sum(max(0.0, min(amount, end) - begin) * price for (begin, price), end in zip(tiers, ends, strict=True))


def compute_usd(amount_gb_seconds: float, architecture: str, prices: Prices) -> float:
    """Return the price of a month's compute in one account, tier by tier."""
    tiers = [(0.0, prices[f"{architecture}_gb_second_usd"])] + [
        (
            prices[f"{architecture}_{tier}_tier_from_gb_seconds"],
            prices[f"{architecture}_{tier}_tier_gb_second_usd"],
        )
        for tier in ("second", "third")
    ]
    return tiered_usd(amount_gb_seconds, tiers)


def front_door_usd(requests: float, front_door: FrontDoor, prices: Prices) -> float:
    """Return what a month of requests through a front door costs, tier by tier; a Function URL costs nothing."""
    if front_door == "function_url":
        return 0.0
    tiers = [(0.0, prices[f"{front_door}_per_million_usd"])] + [
        (prices[f"{front_door}_{tier}_tier_from_requests"], prices[f"{front_door}_{tier}_tier_per_million_usd"])
        for tier in _FRONT_DOOR_TIERS[front_door]
    ]
    return tiered_usd(requests, tiers) / 1e6


def snapshot_usd(memory_mb: float, prices: Prices) -> float:
    """Return the least that a snapshot costs: Lambda charges for three hours, however soon its version is deleted.

    https://aws.amazon.com/lambda/pricing/
    """
    return snapstart_usd(memory_mb, LEAST_CACHED_S, 0, prices)[0]


def restore_usd(memory_mb: float, prices: Prices) -> float:
    """Return what one restore costs besides the time that its call is billed."""
    return snapstart_usd(memory_mb, 0, 1, prices)[1]


def snapstart_usd(memory_mb: float, cached_s: float, restores: float, prices: Prices) -> tuple[float, float]:
    """Return what a version's snapshot costs: cached for this long, and restored this often."""
    gb = memory_mb / MB_PER_GB
    cache = gb * cached_s * prices["snapstart_cache_gb_second_usd"]
    return cache, gb * restores * prices["snapstart_restore_gb_usd"]


def lambda_month_usd(
    requests: float, amount_gb_seconds: float, architecture: str, prices: Prices, *, free_tier: bool = False
) -> tuple[float, float]:
    """Compute and request charges of a month in USD. The free tier counts only where it is asked for."""
    if free_tier:
        amount_gb_seconds = max(0.0, amount_gb_seconds - prices["free_gb_seconds"])
        requests = max(0.0, requests - prices["free_requests"])
    return compute_usd(amount_gb_seconds, architecture, prices), requests / 1e6 * prices["requests_per_million_usd"]


def provisioned_usd(memory_mb: float, environments: float, seconds: float, architecture: str, prices: Prices) -> float:
    """Return the cost of keeping environments provisioned, before any request."""
    return environments * memory_mb / MB_PER_GB * seconds * prices[f"{architecture}_provisioned_gb_second_usd"]


def provisioned_duration_usd(amount_gb_seconds: float, architecture: str, prices: Prices) -> float:
    """Return the additional cost of requests in provisioned environments, before the request fee."""
    return amount_gb_seconds * prices.gb_second_usd(architecture, provisioned=True)


def logs_usd(bytes_in: float, prices: Prices) -> float:
    return bytes_in / BYTES_PER_GB * prices["logs_ingested_gb_usd"]


@dataclass(frozen=True)
class CallCost:
    """Parts of one call's price in USD, first tier."""

    compute: float
    init: float
    request: float
    gateway: float
    logs: float
    restore: float = 0.0
    provisioned: float = 0.0  # its share of what keeps environments provisioned

    @property
    def total(self) -> float:
        return self.compute + self.init + self.request + self.gateway + self.logs + self.restore + self.provisioned


def call_cost(
    memory_mb: float,
    architecture: str,
    prices: Prices,
    *,
    billed_ms: float,
    init_ms: float,
    log_bytes: float,
    through_gateway: bool,
    restore_usd: float = 0.0,
    provisioned_usd: float | None = None,
) -> CallCost:
    """Price of one call. `init_ms` is that part of `billed_ms` which was INIT; it is shown apart, not added.

    `provisioned_usd` is of a call in a provisioned environment, whose duration has its own price: the share of
    what keeps such environments that the call is to bear.
    """
    price = prices.gb_second_usd(architecture, provisioned=provisioned_usd is not None)
    init_ms = min(init_ms, billed_ms)
    return CallCost(
        compute=gb_seconds(memory_mb, billed_ms - init_ms) * price,
        init=gb_seconds(memory_mb, init_ms) * price,
        request=prices.request_usd,
        gateway=prices.gateway_request_usd if through_gateway else 0.0,
        logs=logs_usd(log_bytes, prices),
        restore=restore_usd,
        provisioned=provisioned_usd or 0.0,
    )


def load_tasks_usd(tasks: int, seconds: float, architecture: str, prices: Prices) -> float:
    """Return what Fargate tasks of a load cost for a time. https://aws.amazon.com/fargate/pricing/"""
    hourly_usd = (
        TASK_VCPU * prices[f"{architecture}_fargate_vcpu_hour_usd"]
        + TASK_MEMORY_GB * prices[f"{architecture}_fargate_gb_hour_usd"]
    )
    return tasks * seconds / 3600 * hourly_usd


def network_rest_usd(hours: float, prices: Prices) -> float:
    """Return what the network of the load tasks costs while it is deployed: a NAT gateway and its public address."""
    return hours * (prices["nat_gateway_hour_usd"] + prices["public_ipv4_hour_usd"])


def network_traffic_usd(calls: float, prices: Prices) -> float:
    """Return what the NAT gateway charges for calls and their answers."""
    return calls * BYTES_PER_CALL / BYTES_PER_GB * prices["nat_gateway_gb_usd"]
