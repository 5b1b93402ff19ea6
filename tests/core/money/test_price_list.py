"""AWS's price list becomes the prices of a run, or the table stays."""

import json

import boto3
import pytest
from botocore.stub import Stubber

from core.errors import CloudError, RecordError
from core.money.price_list import PRICES_FILE, fetch_prices, parse_products, prices_of_run, store_prices
from core.money.prices import ListedPrices, read_prices
from core.run.run_directory import RunDirectory

REGION = "eu-central-1"


def product(*tiers, group="", usage=""):
    """One product in the list's format aws_v1; `tiers` are pairs of where a tier begins and its price."""
    dimensions = {
        f"SKU.TERM.{place}": {"beginRange": str(begin), "endRange": "Inf", "pricePerUnit": {"USD": str(price)}}
        for place, (begin, price) in enumerate(reversed(tiers))
    }
    return {
        "product": {"sku": "SKU", "attributes": {"group": group, "usagetype": usage, "regionCode": REGION}},
        "terms": {"OnDemand": {"SKU.TERM": {"priceDimensions": dimensions}}},
    }


PRODUCTS = [
    product((0, 2e-7), group="AWS-Lambda-Requests", usage="EUC1-Request"),
    product((0, 1.7e-5), (6e9, 1.6e-5), (1.5e10, 1.4e-5), group="AWS-Lambda-Duration", usage="EUC1-Lambda-GB-Second"),
    product((0, 4.2e-6), group="AWS-Lambda-Provisioned-Concurrency", usage="EUC1-Lambda-Provisioned-Concurrency"),
    product((0, 3.7e-6), (3.33e8, 3.06e-6), usage="EUC1-ApiGatewayRequest"),
    product((0, 1.2e-6), usage="EUC1-ApiGatewayHttpRequest"),
    product((0, 5e-5), group="AWS-Lambda-Edge-Duration", usage="Lambda-Edge-GB-Second"),
]


class ListedCloud:
    """A cloud whose price list holds these products."""

    def __init__(self, products, error=""):
        self.products, self.error = products, error

    def client(self, service, *, region):
        client = boto3.client(service, region_name=region, aws_access_key_id="test", aws_secret_access_key="test")
        stubber = Stubber(client)
        for code in ("AWSLambda", "AmazonApiGateway"):
            filters = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": REGION}]
            if self.error:
                stubber.add_client_error("get_products", self.error)
                continue
            mine = [
                one for one in self.products if bool(one["product"]["attributes"]["group"]) == (code == "AWSLambda")
            ]
            answer = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(one) for one in mine]}
            stubber.add_response("get_products", answer, {"ServiceCode": code, "Filters": filters})
        stubber.activate()
        return client


def test_every_tier_of_the_list_has_the_key_of_the_table():
    assert parse_products(PRODUCTS) == pytest.approx(
        {
            "requests_per_million_usd": 0.2,
            "x86_64_gb_second_usd": 1.7e-5,
            "x86_64_second_tier_from_gb_seconds": 6e9,
            "x86_64_second_tier_gb_second_usd": 1.6e-5,
            "x86_64_third_tier_from_gb_seconds": 1.5e10,
            "x86_64_third_tier_gb_second_usd": 1.4e-5,
            "x86_64_provisioned_gb_second_usd": 4.2e-6,
            "rest_api_per_million_usd": 3.7,
            "rest_api_second_tier_from_requests": 3.33e8,
            "rest_api_second_tier_per_million_usd": 3.06,
            "http_api_per_million_usd": 1.2,
        }
    )


def test_prices_of_a_region_are_stored_with_the_run_and_read_from_it(tmp_path):
    run = RunDirectory(tmp_path)
    listed = fetch_prices(ListedCloud(PRODUCTS), REGION)
    store_prices(run, listed)
    store_prices(run, ListedPrices("2099-01-01", REGION, {}))  # as a resumed run would
    prices = prices_of_run(run, {"requests_per_million_usd": 0.1})
    assert (prices.region, prices.as_of) == (REGION, listed.as_of)
    assert prices["x86_64_gb_second_usd"] == 1.7e-5
    assert prices["requests_per_million_usd"] == 0.1
    assert prices["ecr_gb_month_usd"] == read_prices()["ecr_gb_month_usd"]
    assert "ecr_gb_month_usd" in prices.of_table
    assert not {"x86_64_gb_second_usd", "requests_per_million_usd", "free_requests"} & set(prices.of_table)


def test_a_run_without_stored_prices_has_those_of_the_table(tmp_path):
    assert prices_of_run(RunDirectory(tmp_path), {}) == read_prices()


def test_a_list_without_lambda_or_permission_is_an_error_with_its_reason():
    with pytest.raises(CloudError, match="no requests_per_million_usd for eu-central-1"):
        fetch_prices(ListedCloud(PRODUCTS[3:]), REGION)
    with pytest.raises(CloudError, match="AccessDeniedException"):
        fetch_prices(ListedCloud(PRODUCTS, error="AccessDeniedException"), REGION)


@pytest.mark.parametrize("text", ["{", "[]", '{"as_of": "x"}', '{"as_of": "x", "region": "y", "values": 3}'])
def test_a_damaged_file_of_prices_is_named(text, tmp_path):
    (tmp_path / PRICES_FILE).write_text(text)
    with pytest.raises(RecordError, match="cannot be read"):
        prices_of_run(RunDirectory(tmp_path), {})
