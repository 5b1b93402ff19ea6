"""What invocations cost, by AWS's price list. Only `read_prices` does I/O.

Lambda bills the duration of a call rounded up to the next millisecond, times the memory size in GB of 1024 MB. INIT is
part of the billed duration of an image function's cold start, so it is never added again. Sources of the prices:
core/prices.toml. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from analysis.summary import PriceNote
from core.errors import ConfigurationError
from core.paths import PRICES_TOML

MB_PER_GB: Final = 1024
SECONDS_PER_MONTH: Final = 730 * 3600.0  # AWS's own calculators count 730 hours a month
# CloudWatch counts so many bytes an event on top of its message.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
LOG_EVENT_OVERHEAD_BYTES: Final = 26
BYTES_PER_GB: Final = 1024**3


@dataclass(frozen=True)
class Prices:
    """A price list in USD; `values` holds the keys of [values] of prices.toml, overrides applied."""

    as_of: str
    region: str
    sources: Mapping[str, str]
    values: Mapping[str, float]
    overrides: Mapping[str, float]

    def __getitem__(self, key: str) -> float:
        return self.values[key]

    def gb_second_usd(self, architecture: str) -> float:
        """Compute in the first tier."""
        return self.values[f"{architecture}_gb_second_usd"]

    def note(self) -> PriceNote:
        return PriceNote(
            as_of=self.as_of,
            region=self.region,
            source="; ".join(self.sources.values()),
            overrides=dict(self.overrides),
            values=dict(self.values),
        )


def read_prices(overrides: Mapping[str, float] | None = None, path: Path = PRICES_TOML) -> Prices:
    """The dated price table with the overrides of [prices] in benchmark.toml. Raises ConfigurationError."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        values = {key: float(value) for key, value in table["values"].items()}
        prices = Prices(str(table["as_of"]), str(table["region"]), dict(table["sources"]), values, {})
    except (OSError, tomllib.TOMLDecodeError, KeyError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"the price table {path} cannot be read: {error!r}", hint="Restore it from the repository."
        ) from None
    unknown = sorted(set(overrides or {}) - set(values))
    if unknown:
        raise ConfigurationError(
            f"benchmark.toml [prices]: unknown key `{unknown[0]}`; allowed: {', '.join(sorted(values))}"
        )
    found = Prices(prices.as_of, prices.region, prices.sources, values | dict(overrides or {}), dict(overrides or {}))
    _refuse_impossible(found, path)
    return found


def _refuse_impossible(prices: Prices, path: Path) -> None:
    """Raise ConfigurationError, with the key, for a price that is no amount or a tier that begins below another."""

    def where(key: str) -> str:
        return f"benchmark.toml [prices] {key}" if key in prices.overrides else f"{path} [values] {key}"

    for key, value in prices.values.items():
        if not math.isfinite(value) or value < 0:
            raise ConfigurationError(f"{where(key)} is {value:g}; a price is a finite number from 0 on")
    for architecture in ("x86_64", "arm64"):
        second, third = (f"{architecture}_{tier}_tier_from_gb_seconds" for tier in ("second", "third"))
        if prices[third] < prices[second]:
            key = third if third in prices.overrides or second not in prices.overrides else second
            raise ConfigurationError(
                f"{where(key)} is {prices[key]:,.0f}, so the third tier ({prices[third]:,.0f} GB-s) begins below "
                f"the second ({prices[second]:,.0f} GB-s)",
                hint="Give both tiers of an architecture, in ascending order.",
            )


def gb_seconds(memory_mb: float, billed_ms: float) -> float:
    return memory_mb / MB_PER_GB * billed_ms / 1000


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
        request=prices["requests_per_million_usd"] / 1e6,
        gateway=prices["rest_api_per_million_usd"] / 1e6 if through_gateway else 0.0,
        logs=logs_usd(log_bytes, prices),
    )
