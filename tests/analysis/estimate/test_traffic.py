"""The traffic model gives what a simulation of it gives, and the costs follow from it."""

import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from analysis.estimate.costs import CostModel
from analysis.estimate.traffic import (
    DAYS_PER_MONTH,
    CallProfile,
    Service,
    Traffic,
    call_mix,
    cold_share,
    daily_cold_share,
    first_passage_survival,
    needed_environments,
)
from core.configuration import read_configuration
from core.money.charges import SECONDS_PER_MONTH
from core.money.prices import read_prices

prices = read_prices()
GOAL = read_configuration().goal.model_copy(update={"max_cold_share": 0.05})
SERVICE = Service(warm_s=1.5, cold_s=3.0)
PROFILE = CallProfile("v", 1769, "x86_64", warm_billed_ms=60.0, cold_billed_ms=3500.0, log_bytes=1200.0)


def simulate(rate_rps, service_s, idle_s, calls, seed):
    """The share of cold starts of a last-in-first-out pool of environments."""
    random = np.random.default_rng(seed)
    busy, idle, cold, now = [], [], 0, 0.0
    for gap, service in zip(random.exponential(1 / rate_rps, calls), random.exponential(service_s, calls), strict=True):
        now += gap
        while busy and busy[0] <= now:
            idle.append(heapq.heappop(busy))
        if idle and now - idle[-1] <= idle_s:
            idle.pop()
        else:
            cold += 1
            idle.clear()
        heapq.heappush(busy, now + service)
    return cold / calls


@pytest.mark.parametrize(
    ("rate_rps", "service_s", "idle_s"), [(0.01, 0.2, 60), (1, 0.5, 5), (3, 1, 4), (10, 0.5, 20), (2, 2, 10)]
)
def test_the_cold_share_is_that_of_a_simulation(rate_rps, service_s, idle_s):
    simulated = simulate(rate_rps, service_s, idle_s, 150_000, seed=1)
    assert cold_share(rate_rps, service_s, idle_s) == pytest.approx(simulated, rel=0.08)


@given(st.integers(0, 8), st.floats(0.05, 5), st.floats(0.05, 3), st.floats(0.1, 30))
def test_first_passage_is_that_of_the_absorbed_chain(level, rate_rps, service_s, time_s):
    generator = np.zeros((level + 1, level + 1))
    for state in range(level + 1):
        generator[state, state] = -(rate_rps + state / service_s)
        if state < level:
            generator[state, state + 1] = rate_rps
        if state:
            generator[state, state - 1] = state / service_s
    wanted = expm(generator * time_s)[level].sum()
    assert first_passage_survival(level, rate_rps, service_s, time_s) == pytest.approx(wanted, abs=1e-7)


def test_a_rare_request_is_cold_when_the_gap_is_longer_than_the_idle_time():
    assert cold_share(1 / 3600, 0.1, 600) == pytest.approx(np.exp(-1 / 6), rel=1e-3)
    assert cold_share(0.0, 0.1, 600) == 1.0


@given(st.floats(1e-4, 200), st.floats(0.01, 2), st.floats(10, 3600))
def test_more_idle_time_and_more_kept_environments_mean_fewer_cold_starts(rate_rps, service_s, idle_s):
    share = cold_share(rate_rps, service_s, idle_s)
    assert 0 <= share <= 1
    assert cold_share(rate_rps, service_s, idle_s * 2) <= share + 1e-9
    assert cold_share(rate_rps, service_s, idle_s, kept_warm=1) <= share + 1e-12


def test_enough_environments_are_enough_and_one_fewer_is_not():
    traffic = Traffic.of(200_000, "business_hours", 10)
    needed = needed_environments(traffic, SERVICE, 0.0001)
    assert needed > 1
    assert daily_cold_share(traffic, SERVICE, kept_warm=needed) <= 0.0001
    assert daily_cold_share(traffic, SERVICE, kept_warm=needed - 1) > 0.0001


def model(traffic, **more):
    return CostModel(prices, traffic, GOAL, **more)


@pytest.mark.parametrize("shape", ["flat", "business_hours", [0.0] * 12 + [1.0] * 12])
def test_the_days_shape_distributes_its_requests(shape):
    traffic = Traffic.of(24_000, shape, 10)
    assert sum(traffic.hourly_rates_rps) * 3600 == pytest.approx(24_000)
    assert traffic.scaled(1e6).requests_per_month == pytest.approx(1e6)


def test_on_demand_costs_calls_warm_and_cold_by_their_share():
    traffic = Traffic.of(100, "flat", 5)
    cost = model(traffic).month("on_demand", PROFILE)
    requests = traffic.requests_per_month
    cold = cost.expected_cold_share
    assert cold == pytest.approx(np.exp(-100 / 86_400 * 300), rel=0.01)
    seconds = requests * (cold * 3.5 + (1 - cold) * 0.06)
    assert cost.parts["compute"] == pytest.approx(seconds * 1769 / 1024 * prices["x86_64_gb_second_usd"])
    assert cost.parts["requests"] == pytest.approx(requests * 0.2e-6)
    assert cost.usd == pytest.approx(sum(cost.parts.values()))


def test_provisioned_concurrency_is_paid_for_all_month_and_pings_by_the_ping():
    traffic = Traffic.of(100, "flat", 10)
    kept = model(traffic).month("provisioned_concurrency", PROFILE)
    assert kept.environments == 1
    rate = prices["x86_64_provisioned_gb_second_usd"]
    assert kept.parts["provisioned"] == pytest.approx(SECONDS_PER_MONTH * 1769 / 1024 * rate)
    assert kept.expected_cold_share < 0.001
    pinged = model(traffic).month("warm_pings", PROFILE)
    assert pinged.expected_cold_share == pytest.approx(kept.expected_cold_share)
    assert pinged.parts["pings"] == pytest.approx(SECONDS_PER_MONTH / 480 * 1e-6)
    assert pinged.usd < kept.usd


def test_a_break_even_point_is_where_the_costs_cross():
    traffic = Traffic.of(1000, "flat", 10)
    found = next(model(traffic).break_even("on_demand", "warm_pings", PROFILE, lowest=10))
    at = found.requests_per_month

    def saving(requests):
        there = model(traffic.scaled(requests))
        costs = [there.month(strategy, PROFILE).usd for strategy in ("on_demand", "warm_pings")]
        return costs[0] - costs[1]

    assert saving(at * 1.02) > 0
    assert saving(at * 0.95) < 0


def test_break_even_counts_the_free_tier_where_it_is_asked_for():
    traffic = Traffic.of(1000, "flat", 10)
    pair = ("on_demand", "warm_pings", PROFILE)
    paid = next(model(traffic).break_even(*pair, lowest=10))
    free = next(model(traffic, free_tier=True).break_even(*pair, lowest=10))
    assert free.requests_per_month != paid.requests_per_month, "cold starts that cost nothing save nothing"


def test_a_break_even_point_that_is_not_there_says_why():
    traffic = Traffic.of(1000, "business_hours", 10)
    never = next(model(traffic).break_even("on_demand", "provisioned_concurrency", PROFILE, highest=1e7))
    assert never.requests_per_month is None
    assert "never" in never.reason
    unknown = CallProfile("v", 1769, "x86_64", 60.0, None, 1200.0)
    found = next(model(traffic).break_even("on_demand", "warm_pings", unknown))
    assert found.requests_per_month is None
    assert "no cold start" in found.reason
    assert model(traffic).month("on_demand", unknown).usd is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate_rps", [40.0, 400.0, 4000.0])
def test_a_load_of_thousands_at_once_has_a_cold_share_too(rate_rps):
    found = cold_share(rate_rps, 20.0, 600.0)
    assert 0 <= found < 0.01
    assert cold_share(rate_rps, 20.0, 600.0, kept_warm=5) <= found * (1 + 1e-9)


def test_provisioned_concurrency_pays_at_its_cheapest_level_under_heavy_steady_traffic():
    traffic = Traffic.of(1e9 / DAYS_PER_MONTH, "flat", 10)
    months = {
        strategy: model(traffic).month(strategy, PROFILE) for strategy in ("on_demand", "provisioned_concurrency")
    }
    keys = ("compute", "provisioned", "provisioned_duration")
    compute = {name: sum(month.parts.get(key, 0.0) for key in keys) for name, month in months.items()}
    assert 1 - compute["provisioned_concurrency"] / compute["on_demand"] == pytest.approx(0.11, abs=0.01)
    found = next(model(traffic).break_even("on_demand", "provisioned_concurrency", PROFILE))
    assert 1e6 < found.requests_per_month < 1e9


def test_any_number_of_pings_keeps_one_environment():
    traffic = Traffic.of(200_000, "flat", 10)
    pinged = model(traffic).month("warm_pings", PROFILE)
    assert pinged.environments == 1
    assert pinged.expected_cold_share == daily_cold_share(traffic, PROFILE.service, kept_warm=1)


def test_bursts_make_cold_starts_and_callers_who_are_not_alone_more_frequent():
    steady, bursty = (Traffic.of(33_000, "business_hours", 10, burstiness) for burstiness in (1.0, 1000.0))
    mixes = [call_mix(traffic, PROFILE.service) for traffic in (steady, bursty)]
    for mix in mixes:
        assert mix.cold + mix.alone + mix.concurrent == pytest.approx(1.0)
    assert mixes[1].cold > 3 * mixes[0].cold
    assert mixes[1].concurrent > 3 * mixes[0].concurrent
    assert needed_environments(bursty, PROFILE.service, 1e-3) > needed_environments(steady, PROFILE.service, 1e-3)
    assert bursty.peak_rps == pytest.approx(steady.peak_rps + 999 / 120)


def test_every_crossing_of_two_strategies_is_a_break_even_point():
    traffic = Traffic.of(1000, "flat", 10)
    found = list(model(traffic).break_even("on_demand", "warm_pings", PROFILE, lowest=10, highest=1e8))
    crossings = [point for point in found if point.requests_per_month is not None]
    assert len(crossings) >= 2, "pings pay where gaps are long enough to lose an environment, and not beyond"
    for before, after in itertools.pairwise(crossings):
        assert before.requests_per_month < after.requests_per_month
        assert (before.cheaper_below, before.cheaper_above) == (after.cheaper_above, after.cheaper_below)
    for point in crossings:
        for factor, cheaper in ((0.97, point.cheaper_below), (1.03, point.cheaper_above)):
            there = model(traffic.scaled(point.requests_per_month * factor))
            usd = {strategy: there.month(strategy, PROFILE).usd for strategy in ("on_demand", "warm_pings")}
            assert min(usd, key=usd.get) == cheaper
