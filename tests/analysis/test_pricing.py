"""Prices are AWS's: its own published examples come out to the cent."""

import pytest

from analysis.pricing import (
    MB_PER_GB,
    call_cost,
    compute_usd,
    gb_seconds,
    lambda_month_usd,
    logs_usd,
    provisioned_duration_usd,
    provisioned_usd,
    read_prices,
)
from benchmark.errors import ConfigurationError

prices = read_prices()


# https://aws.amazon.com/lambda/pricing/, the examples of US East (N. Virginia), with the free tier.
@pytest.mark.parametrize(
    ("requests", "memory_mb", "duration_ms", "compute", "fee"),
    [
        (3e6, 512, 1000, 18.33, 0.40),  # 1,100,000 GB-s; the page's older rate of 0.00001667 rounds to 18.34
        (30e6, 128, 200, 5.83, 5.80),  # 350,000 GB-s
        (3e6, 1536, 120, 2.33, 0.40),  # 140,000 GB-s: the mobile application, 2.73 USD in all
    ],
)
def test_the_published_examples_of_a_month_come_out(requests, memory_mb, duration_ms, compute, fee):
    amount = requests * gb_seconds(memory_mb, duration_ms)
    found = lambda_month_usd(requests, amount, "x86_64", prices, free_tier=True)
    assert found == (pytest.approx(compute, abs=0.005), pytest.approx(fee, abs=0.005))


def test_the_published_example_of_provisioned_concurrency_comes_out():
    # The same page: 1,000 environments of 1024 MB for two hours, 1.2 million requests of one second.
    kept = provisioned_usd(1024, 1000, 7200, "x86_64", prices)
    duration = provisioned_duration_usd(1.2e6 * gb_seconds(1024, 1000), "x86_64", prices)
    requests = 1.2e6 / 1e6 * prices["requests_per_million_usd"]
    assert kept == pytest.approx(30.00, abs=0.005)
    assert duration == pytest.approx(11.67, abs=0.005)
    assert kept + duration + requests == pytest.approx(41.91, abs=0.01)


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_each_tier_is_charged_for_what_lies_in_it(architecture):
    second = prices[f"{architecture}_second_tier_from_gb_seconds"]
    third = prices[f"{architecture}_third_tier_from_gb_seconds"]
    rates = [
        prices[f"{architecture}_gb_second_usd"],
        prices[f"{architecture}_second_tier_gb_second_usd"],
        prices[f"{architecture}_third_tier_gb_second_usd"],
    ]
    assert rates == sorted(rates, reverse=True)
    assert compute_usd(second, architecture, prices) == pytest.approx(second * rates[0])
    step = compute_usd(second + 1e6, architecture, prices) - compute_usd(second, architecture, prices)
    assert step == pytest.approx(1e6 * rates[1], rel=1e-6)
    step = compute_usd(third + 1e6, architecture, prices) - compute_usd(third, architecture, prices)
    assert step == pytest.approx(1e6 * rates[2], rel=1e-6)


def test_init_is_a_part_of_the_billed_time_and_never_added_to_it():
    without = call_cost(1024, "x86_64", prices, billed_ms=2344, init_ms=0, log_bytes=0, through_gateway=False)
    shown = call_cost(1024, "x86_64", prices, billed_ms=2344, init_ms=1293.83, log_bytes=0, through_gateway=False)
    assert shown.total == pytest.approx(without.total)
    assert shown.init == pytest.approx(1293.83 / 1000 * prices["x86_64_gb_second_usd"])
    assert without.compute == pytest.approx(2.344 * prices["x86_64_gb_second_usd"])


def test_gateway_and_logs_are_counted_apart():
    cost = call_cost(512, "arm64", prices, billed_ms=10, init_ms=0, log_bytes=1024, through_gateway=True)
    assert cost.gateway == pytest.approx(3.5e-6)
    assert cost.request == pytest.approx(0.2e-6)
    assert cost.logs == pytest.approx(0.5 / MB_PER_GB / 1024)
    assert logs_usd(1024**3, prices) == pytest.approx(0.50)


def test_the_free_tier_counts_only_where_it_is_asked_for():
    assert lambda_month_usd(1e6, 400_000, "x86_64", prices, free_tier=True) == (0.0, 0.0)
    compute, fee = lambda_month_usd(1e6, 400_000, "x86_64", prices)
    assert compute == pytest.approx(6.67, abs=0.005)
    assert fee == pytest.approx(0.20)


def test_prices_can_be_overridden_and_the_report_can_say_so():
    found = read_prices({"requests_per_million_usd": 0.28})
    assert found["requests_per_million_usd"] == 0.28
    assert found.note().overrides == {"requests_per_million_usd": 0.28}
    assert found.note().as_of
    assert "aws.amazon.com" in found.note().source


def test_an_unknown_price_is_refused_with_the_keys_there_are():
    with pytest.raises(ConfigurationError, match=r"unknown key `request_usd`; allowed: .*requests_per_million_usd"):
        read_prices({"request_usd": 1.0})


def test_a_broken_price_table_is_named(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text("as_of = 3")
    with pytest.raises(ConfigurationError, match=r"prices\.toml cannot be read"):
        read_prices(path=path)
