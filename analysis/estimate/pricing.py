"""What invocations cost, by AWS's price list. No I/O.

Lambda bills the duration of a call rounded up to the next millisecond, times the memory size in GB of 1024 MB. INIT is
part of the billed duration of an image function's cold start, so it is never added again. Sources of the prices:
core/prices.toml. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from analysis.summary import PriceNote
from core.prices import MB_PER_GB, Prices, gb_seconds

SECONDS_PER_MONTH: Final = 730 * 3600.0  # AWS's own calculators count 730 hours a month
# CloudWatch counts so many bytes an event on top of its message.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
LOG_EVENT_OVERHEAD_BYTES: Final = 26
BYTES_PER_GB: Final = 1024**3


def price_note(prices: Prices) -> PriceNote:
    """Return what the report says of the price list."""
    return PriceNote(
        as_of=prices.as_of,
        region=prices.region,
        source="; ".join(prices.sources.values()),
        overrides=dict(prices.overrides),
        values=dict(prices.values),
    )


def compute_usd(amount_gb_seconds: float, architecture: str, prices: Prices) -> float:
    """Compute of one month in one account, tier by tier."""
    second = prices[f"{architecture}_second_tier_from_gb_seconds"]
    third = prices[f"{architecture}_third_tier_from_gb_seconds"]
    first_part = min(amount_gb_seconds, second)
    second_part = min(max(amount_gb_seconds - second, 0.0), third - second)
    third_part = max(amount_gb_seconds - third, 0.0)
    return (
        first_part * prices[f"{architecture}_gb_second_usd"]
        + second_part * prices[f"{architecture}_second_tier_gb_second_usd"]
        + third_part * prices[f"{architecture}_third_tier_gb_second_usd"]
    )


def lambda_month_usd(
    requests: float, amount_gb_seconds: float, architecture: str, prices: Prices, *, free_tier: bool = False
) -> tuple[float, float]:
    """Compute and request charges of a month in USD. The free tier counts only where it is asked for."""
    if free_tier:
        amount_gb_seconds = max(0.0, amount_gb_seconds - prices["free_gb_seconds"])
        requests = max(0.0, requests - prices["free_requests"])
    return compute_usd(amount_gb_seconds, architecture, prices), requests / 1e6 * prices["requests_per_million_usd"]


def provisioned_usd(memory_mb: float, environments: float, seconds: float, architecture: str, prices: Prices) -> float:
    """What keeping environments provisioned costs, before any request."""
    return environments * memory_mb / MB_PER_GB * seconds * prices[f"{architecture}_provisioned_gb_second_usd"]


def provisioned_duration_usd(amount_gb_seconds: float, architecture: str, prices: Prices) -> float:
    """What requests in provisioned environments cost on top, before the request fee."""
    return amount_gb_seconds * prices[f"{architecture}_provisioned_duration_gb_second_usd"]


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

    @property
    def total(self) -> float:
        return self.compute + self.init + self.request + self.gateway + self.logs


def call_cost(
    memory_mb: float,
    architecture: str,
    prices: Prices,
    *,
    billed_ms: float,
    init_ms: float,
    log_bytes: float,
    through_gateway: bool,
) -> CallCost:
    """Price of one call. `init_ms` is that part of `billed_ms` which was INIT; it is shown apart, not added."""
    price = prices.gb_second_usd(architecture)
    init_ms = min(init_ms, billed_ms)
    return CallCost(
        compute=gb_seconds(memory_mb, billed_ms - init_ms) * price,
        init=gb_seconds(memory_mb, init_ms) * price,
        request=prices.request_usd,
        gateway=prices.gateway_request_usd if through_gateway else 0.0,
        logs=logs_usd(log_bytes, prices),
    )
