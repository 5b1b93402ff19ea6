"""Prices are AWS's: its own published examples come out to the cent."""

import pytest

from core.money.charges import (
    call_cost,
    compute_usd,
    front_door_usd,
    lambda_month_usd,
    logs_usd,
    provisioned_duration_usd,
    provisioned_usd,
    snapstart_usd,
)
from core.money.prices import MB_PER_GB, gb_seconds, read_prices

prices = read_prices()


# https://aws.amazon.com/lambda/pricing/, the examples for US East (N. Virginia), from a stored copy read on 2026-11-24.
@pytest.mark.parametrize(
    ("architecture", "requests", "memory_mb", "duration_ms", "free_tier", "compute", "fee"),
    [
        ("x86_64", 3e6, 1536, 120, True, 2.33, 0.40),  # mobile application backend
        ("x86_64", 7.44e6, 1024, 2000, False, 248.00, 1.49),  # streaming telemetry
        ("x86_64", 6e6, 4096, 280, True, 105.33, 1.00),  # customer support; its ephemeral storage left out
        (
            "x86_64",
            10e6,
            1024,
            2000,
            False,
            333.33,
            2.00,
        ),  # tenant isolation, without its surcharge; 333.34 on the page
        ("arm64", 2e6, 1024, 16_000, True, 421.34, 0.20),  # durable functions: 32 s a claim in two invocations
        ("x86_64", 30e6, 128, 200, True, 5.83, 5.80),  # an older edition of the page, 350,000 GB-s
    ],
)
def test_the_published_examples_of_a_month_come_out(
    architecture, requests, memory_mb, duration_ms, free_tier, compute, fee
):
    amount = requests * gb_seconds(memory_mb, duration_ms)
    found = lambda_month_usd(requests, amount, architecture, prices, free_tier=free_tier)
    assert found == (pytest.approx(compute, abs=0.005), pytest.approx(fee, abs=0.005))


@pytest.mark.parametrize(
    ("memory_mb", "environments", "hours", "requests", "duration_ms", "kept", "duration"),
    [
        (1536, 100, 8, 500_000, 100, 18.00, 0.73),  # launch of a mobile application
        (4096, 7, 24, 2_000_000, 280, 10.08, 21.78),  # a sale's customer support: with 0.40 for requests 32.26 in all
    ],
)
def test_the_published_examples_of_provisioned_concurrency_come_out(
    memory_mb, environments, hours, requests, duration_ms, kept, duration
):
    amount = requests * gb_seconds(memory_mb, duration_ms)
    assert provisioned_usd(memory_mb, environments, hours * 3600, "x86_64", prices) == pytest.approx(kept, abs=0.005)
    assert provisioned_duration_usd(amount, "x86_64", prices) == pytest.approx(duration, abs=0.005)


def test_snapstart_comes_to_the_published_total_with_round_inputs():
    # The page's total is 14.43 USD; its inputs could not be read. Of round ones (a common size, a month of 30, 30.4, or
    # 31 days, a number of restores with one digit that counts), these alone come to it: they are inferred, not quoted.
    cache, restores = snapstart_usd(1536, 31 * 86_400, 40_000, prices)
    assert cache + restores == pytest.approx(14.43, abs=0.005)


# https://aws.amazon.com/blogs/compute/introducing-tiered-pricing-for-aws-lambda/
@pytest.mark.parametrize(("architecture", "second", "third"), [("x86_64", 6e9, 15e9), ("arm64", 7.5e9, 18.75e9)])
def test_the_tiers_begin_where_aws_says_and_take_off_a_tenth_and_a_fifth(architecture, second, third):
    assert prices[f"{architecture}_second_tier_from_gb_seconds"] == second
    assert prices[f"{architecture}_third_tier_from_gb_seconds"] == third
    first = prices[f"{architecture}_gb_second_usd"]
    assert prices[f"{architecture}_second_tier_gb_second_usd"] == pytest.approx(0.9 * first, rel=1e-4)
    assert prices[f"{architecture}_third_tier_gb_second_usd"] == pytest.approx(0.8 * first, rel=1e-4)


def test_arm_is_a_fifth_cheaper_throughout():
    for key in ("gb_second_usd", "provisioned_gb_second_usd", "provisioned_duration_gb_second_usd"):
        assert prices[f"arm64_{key}"] == pytest.approx(0.8 * prices[f"x86_64_{key}"], rel=1e-4)


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


@pytest.mark.parametrize(
    ("front_door", "requests", "usd"),
    [
        ("rest_api", 1e6, 3.50),
        ("rest_api", 333e6, 1165.50),
        ("rest_api", 1e9, 1165.50 + 667 * 2.80),
        ("rest_api", 21e9, 1165.50 + 667 * 2.80 + 19_000 * 2.38 + 1000 * 1.51),
        ("http_api", 301e6, 300.90),
        ("function_url", 1e9, 0.0),
    ],
)
def test_a_front_door_is_charged_tier_by_tier(front_door, requests, usd):
    assert front_door_usd(requests, front_door, prices) == pytest.approx(usd)


def test_a_snapshot_costs_its_cache_and_its_restores():
    cache, restores = snapstart_usd(2048, 3600, 1e6, prices)
    assert cache == pytest.approx(2 * 3600 * 0.0000015046)
    assert restores == pytest.approx(2 * 1e6 * 0.0001397998)
