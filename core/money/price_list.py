"""Prices of a region from AWS's Price List API, dated and stored with a run.

The list's products are told apart by their group (Lambda) or the end of their usage type (API Gateway), and each has
one price per tier.
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from core import strict_json
from core.aws.cloud import Cloud, cloud_errors
from core.errors import CloudError, RecordError
from core.money.prices import ListedPrices, Prices, read_prices
from core.run.run_directory import RunDirectory, write_atomically

PRICES_FILE: Final = "prices.json"
API_REGION: Final = "us-east-1"  # one of the few that serve the API, for the prices of every region
SERVICES: Final = ("AWSLambda", "AmazonApiGateway")
LATER_TIERS: Final = ("second", "third", "fourth")
# Group -> our key without its unit, our key's unit, and what a unit of the list is multiplied by.
_GROUPS: Final[dict[str, tuple[str, str, float]]] = {
    "AWS-Lambda-Requests": ("requests", "per_million_usd", 1e6),
    "AWS-Lambda-Duration": ("x86_64", "gb_second_usd", 1.0),
    "AWS-Lambda-Duration-ARM": ("arm64", "gb_second_usd", 1.0),
    "AWS-Lambda-Provisioned-Concurrency": ("x86_64_provisioned", "gb_second_usd", 1.0),
    "AWS-Lambda-Provisioned-Concurrency-ARM": ("arm64_provisioned", "gb_second_usd", 1.0),
    "AWS-Lambda-Duration-Provisioned": ("x86_64_provisioned_duration", "gb_second_usd", 1.0),
    "AWS-Lambda-Duration-Provisioned-ARM": ("arm64_provisioned_duration", "gb_second_usd", 1.0),
}
_USAGES: Final[dict[str, tuple[str, str, float]]] = {
    "ApiGatewayRequest": ("rest_api", "per_million_usd", 1e6),
    "ApiGatewayHttpRequest": ("http_api", "per_million_usd", 1e6),
}
_TIER_BEGINS: Final = {"per_million_usd": "requests", "gb_second_usd": "gb_seconds"}
NEEDED: Final = ("requests_per_million_usd", "x86_64_gb_second_usd", "rest_api_per_million_usd")


def fetch_prices(cloud: Cloud, region: str) -> ListedPrices:
    """Ask for the prices of a region as of today. Raises CloudError."""
    client = cloud.client("pricing", region=API_REGION)
    products: list[Mapping[str, Any]] = []
    with cloud_errors():
        for service in SERVICES:
            wanted = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": region}]
            for page in client.get_paginator("get_products").paginate(ServiceCode=service, Filters=wanted):
                products += [strict_json.loads(text) for text in page["PriceList"]]
    values = parse_products(products)
    if missing := [key for key in NEEDED if key not in values]:
        raise CloudError(f"the price list has no {missing[0]} for {region}")
    return ListedPrices(time.strftime("%Y-%m-%d", time.gmtime()), region, values)


def parse_products(products: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the prices by the keys of prices.toml; products that have none there are left out."""
    known = set(read_prices().values)
    found: dict[str, float] = {}
    for product in products:
        attributes = product["product"]["attributes"]
        usage = attributes.get("usagetype", "").rpartition("-")[2]
        names = _GROUPS.get(attributes.get("group", "")) or _USAGES.get(usage)
        if names is None:
            continue
        name, unit, factor = names
        tiers = sorted(
            (float(tier["beginRange"]), float(tier["pricePerUnit"]["USD"]) * factor)
            for term in product["terms"]["OnDemand"].values()
            for tier in term["priceDimensions"].values()
            if "USD" in tier["pricePerUnit"]
        )
        for place, (begin, price) in enumerate(tiers[: 1 + len(LATER_TIERS)]):
            prefix = name if place == 0 else f"{name}_{LATER_TIERS[place - 1]}_tier"
            found[f"{prefix}_{unit}"] = price
            if place:
                found[f"{prefix}_from_{_TIER_BEGINS[unit]}"] = begin
    return {key: value for key, value in found.items() if key in known}


def store_prices(run: RunDirectory, listed: ListedPrices) -> None:
    """Keep the prices with the run; a resumed one keeps those it started with."""
    if (run.root / PRICES_FILE).exists():
        return
    content = {"as_of": listed.as_of, "region": listed.region, "values": dict(listed.values)}
    write_atomically(run.root / PRICES_FILE, strict_json.dumps(content, indent=1) + "\n")


def prices_of_run(run: RunDirectory, overrides: Mapping[str, float]) -> Prices:
    """Return the prices that were stored with a run, or those of the table. Raises RecordError."""
    path = run.root / PRICES_FILE
    if not path.exists():
        return read_prices(overrides)
    try:
        listed = ListedPrices(**strict_json.loads(path.read_bytes()))
        return read_prices(overrides, listed=listed)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecordError(
            f"{path} cannot be read: {error}", hint="Delete it to use the price table of the project."
        ) from None
