"""Searches find what a look at every point would find."""

import pytest

from simulation.arrivals import shaped
from simulation.erlang import erlang_b
from simulation.month import Effort
from simulation.pool import Pool, Provisioned, Samples
from simulation.search import cheapest_level, highest_rate
from tests.simulation.support import a_month, calls

QUICK = Effort(replicates=4, min_requests=20_000, max_requests=50_000)
SAMPLES = Samples(calls([500.0] * 10), calls([5000.0] * 10))


def level_month(level):
    pool = Pool(idle_minutes=(10.0, 10.0), front_door="function_url")
    return a_month(SAMPLES, shaped(700_000), Provisioned((level,)), pool=pool, effort=QUICK)


def test_the_cheapest_level_is_that_of_a_scan():
    usd = {level: level_month(level).usd.value for level in range(1, 10)}
    assert cheapest_level(level_month, first=1).strategy.levels[0] == min(usd, key=usd.get)


def test_a_demand_on_callers_raises_the_level_to_what_holds_it():
    free = cheapest_level(level_month, first=1)
    target = free.missed_share.value / 2
    found = cheapest_level(level_month, first=1, max_missed_share=target)
    assert found.strategy.levels[0] > free.strategy.levels[0]
    assert found.missed_share.value <= target < level_month(found.strategy.levels[0] - 1).missed_share.value


def test_no_level_is_named_where_none_holds():
    wrong = Samples(calls([500.0], correct=False), calls([5000.0]))

    def of(level):
        return a_month(wrong, shaped(100), Provisioned((level,)), effort=QUICK)

    assert cheapest_level(of, first=1, max_missed_share=0.01) is None


@pytest.mark.parametrize(("servers", "service_s", "share"), [(4, 0.5, 0.01), (20, 0.2, 0.05), (100, 1.0, 0.01)])
def test_the_highest_rate_is_that_of_erlangs_formula_where_calls_beyond_the_concurrency_are_lost(
    servers, service_s, share
):
    samples = Samples(calls([1000 * service_s] * 5), calls([1000 * service_s] * 5))
    pool = Pool(idle_minutes=(10.0, 10.0), concurrency=servers)
    effort = Effort(replicates=4, min_requests=200_000, max_requests=200_000)

    def missed(rate_rps):
        return a_month(samples, shaped(86_400 * rate_rps), pool=pool, limit_ms=5000.0, effort=effort).missed_share.value

    truth = highest_rate(lambda rate_rps: erlang_b(servers, rate_rps * service_s), max_missed_share=share)
    assert highest_rate(missed, max_missed_share=share) == pytest.approx(truth, rel=0.05)


def test_a_rate_that_no_traffic_holds_is_0():
    assert highest_rate(lambda _: 1.0, max_missed_share=0.5) == 0
