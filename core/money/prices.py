"""The typed reader of `prices.toml`, the dated price table; any key can be overridden by [prices] of benchmark.toml."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core.errors import ConfigurationError
from core.paths import PRICES_TOML

MB_PER_GB: Final = 1024


def gb_seconds(memory_mb: float, billed_ms: float) -> float:
    """Return the GB-seconds of one call; Lambda's GB has 1024 MB."""
    return memory_mb / MB_PER_GB * billed_ms / 1000


@dataclass(frozen=True)
class ListedPrices:
    """Prices that AWS's price list gave for a region, by keys of prices.toml."""

    as_of: str
    region: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Prices:
    """A price list in USD; `values` holds the keys of [values] of prices.toml, overrides applied."""

    as_of: str
    region: str
    sources: Mapping[str, str]
    values: Mapping[str, float]
    overrides: Mapping[str, float]
    of_table: tuple[str, ...] = ()  # keys that a price list of another region did not give: those of us-east-1

    def __getitem__(self, key: str) -> float:
        try:
            return self.values[key]
        except KeyError:
            raise ConfigurationError(
                f"the price table has no price {key}", hint=f"Add it to [values] of {PRICES_TOML.name}."
            ) from None

    def gb_second_usd(self, architecture: str, *, provisioned: bool = False) -> float:
        """Return the price of compute in the first tier; in a `provisioned` environment, it has one price only."""
        return self[f"{architecture}_{'provisioned_duration_' if provisioned else ''}gb_second_usd"]

    @property
    def request_usd(self) -> float:
        return self["requests_per_million_usd"] / 1e6

    @property
    def gateway_request_usd(self) -> float:
        return self["rest_api_per_million_usd"] / 1e6

    def call_usd(
        self, memory_mb: float, billed_ms: float, architecture: str, *, through_gateway: bool, provisioned: bool = False
    ) -> float:
        """Return compute, request fee and REST API fee of one call, first tier.

        Source: https://aws.amazon.com/lambda/pricing/ and https://aws.amazon.com/api-gateway/pricing/
        """
        compute = gb_seconds(memory_mb, billed_ms) * self.gb_second_usd(architecture, provisioned=provisioned)
        return compute + self.request_usd + (self.gateway_request_usd if through_gateway else 0.0)


def read_prices(
    overrides: Mapping[str, float] | None = None, path: Path = PRICES_TOML, *, listed: ListedPrices | None = None
) -> Prices:
    """Read the dated price table, and apply `listed` and then the overrides of [prices] in benchmark.toml.

    Raises ConfigurationError.
    """
    overrides = dict(overrides or {})
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        values = {key: float(value) for key, value in table["values"].items()}
        as_of, region, sources = str(table["as_of"]), str(table["region"]), dict(table["sources"])
    except (OSError, tomllib.TOMLDecodeError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"the price table {path} cannot be read: {error!r}", hint="Restore it from the repository."
        ) from None
    if unknown := sorted(set(overrides) - set(values)):
        raise ConfigurationError(
            f"benchmark.toml [prices]: unknown key `{unknown[0]}`; allowed: {', '.join(sorted(values))}"
        )
    prices = Prices(as_of, region, sources, values | overrides, overrides)
    if listed is not None:
        missing = tuple(
            key for key in values if not key.startswith("free_") and key not in {**listed.values, **overrides}
        )
        prices = Prices(
            listed.as_of,
            listed.region,
            {"price_list": "AWS Price List API"} | sources,
            values | dict(listed.values) | overrides,
            overrides,
            of_table=missing if listed.region != region else (),
        )
    _refuse_impossible(prices, path)
    return prices


def _refuse_impossible(prices: Prices, path: Path) -> None:
    """Raise ConfigurationError, with the key, for an invalid amount or a tier that begins below another."""

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
