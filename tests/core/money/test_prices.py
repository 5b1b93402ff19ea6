"""The price table is read whole, overridden by key, and refused by key."""

import pytest

from core.errors import ConfigurationError
from core.money.prices import read_prices
from core.paths import PRICES_TOML


def test_a_call_costs_compute_and_fees_as_on_the_price_page():
    # AWS's own example arithmetic: 1 GB for 1 s is one GB-second.
    prices = read_prices({"x86_64_gb_second_usd": 1e-5})
    assert prices.call_usd(1024, 1000, "x86_64", through_gateway=False) == pytest.approx(1e-5 + 2e-7)
    assert prices.call_usd(512, 1000, "x86_64", through_gateway=True) == pytest.approx(0.5e-5 + 2e-7 + 3.5e-6)


def test_a_missing_price_is_refused_by_its_key(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(PRICES_TOML.read_text().replace("requests_per_million_usd = 0.20\n", ""))
    with pytest.raises(ConfigurationError, match="no price requests_per_million_usd"):
        _ = read_prices(path=path).request_usd


def test_prices_can_be_overridden_and_the_report_can_say_so():
    found = read_prices({"requests_per_million_usd": 0.28})
    assert found["requests_per_million_usd"] == 0.28
    assert found.overrides == {"requests_per_million_usd": 0.28}
    assert found.as_of
    assert "aws.amazon.com" in found.sources["lambda"]


def test_an_unknown_price_is_refused_with_the_keys_there_are():
    with pytest.raises(ConfigurationError, match=r"unknown key `request_usd`; allowed: .*requests_per_million_usd"):
        read_prices({"request_usd": 1.0})


def test_a_broken_price_table_is_named(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text("as_of = 3")
    with pytest.raises(ConfigurationError, match=r"prices\.toml cannot be read"):
        read_prices(path=path)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -0.1])
def test_a_price_that_is_no_amount_is_refused_by_its_key_wherever_it_stands(value, tmp_path):
    with pytest.raises(ConfigurationError, match=r"benchmark\.toml \[prices\] rest_api_per_million_usd is .*finite"):
        read_prices({"rest_api_per_million_usd": value})
    path = tmp_path / "prices.toml"
    path.write_text(PRICES_TOML.read_text().replace("ecr_gb_month_usd = 0.10", f"ecr_gb_month_usd = {value}"))
    with pytest.raises(ConfigurationError, match=r"prices\.toml \[values\] ecr_gb_month_usd is .*finite"):
        read_prices(path=path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("x86_64_third_tier_from_gb_seconds", 1e9), ("x86_64_second_tier_from_gb_seconds", 2e10)],
)
def test_a_third_tier_below_the_second_is_refused_by_the_key_that_was_given(key, value):
    with pytest.raises(ConfigurationError, match=f"{key} is {value:,.0f}"):
        read_prices({key: value})
    both = {"arm64_second_tier_from_gb_seconds": 1e9, "arm64_third_tier_from_gb_seconds": 1e9}
    assert read_prices(both).overrides == both, "a second tier of no width is a price list with two tiers"
