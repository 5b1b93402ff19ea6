"""The simulation agrees with exact formulas wherever their assumptions hold, to 1%."""

import math

import numpy as np
import pytest

from analysis.estimate.traffic import cold_share
from simulation import kernel
from simulation.arrivals import shaped
from simulation.erlang import cheapest_level, erlang_b
from simulation.pool import Provisioned, Samples
from tests.simulation.support import PRICES, counters, exponential

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("rate_rps", "service_s", "idle_s", "days"),
    [(0.002, 0.1, 600.0, 4000), (0.02, 3.0, 60.0, 500), (1.0, 2.0, 20.0, 20), (5.0, 1.0, 5.0, 4)],
)
def test_cold_share_of_poisson_arrivals_agrees_with_the_first_passage_formula(rate_rps, service_s, idle_s, days):
    # The formula neglects that a cold start keeps its environment busy for longer, so here it takes no longer.
    samples = Samples(exponential(1000 * service_s))
    found = counters(samples, shaped(rate_rps * DAY_S), until_s=days * DAY_S, idle_s=idle_s)
    share = found[kernel.COLD] / found[kernel.CALLS]
    expected = cold_share(rate_rps, service_s, idle_s)
    noise = 3 * math.sqrt(expected / found[kernel.CALLS])
    assert share == pytest.approx(expected, rel=0.01, abs=noise)


@pytest.mark.parametrize(("level", "load"), [(1, 0.5), (5, 4.0), (20, 16.0), (60, 64.0)])
def test_what_provisioned_concurrency_turns_away_agrees_with_erlang_b(level, load):
    service_s = 0.5
    samples = Samples(exponential(1000 * service_s))
    arrivals = shaped(load / service_s * DAY_S)
    until_s = 2e6 / (load / service_s)
    found = counters(samples, arrivals, until_s=until_s, from_s=-100.0, strategy=Provisioned((level,)))
    turned_away = 1 - found[kernel.IN_PROVISIONED] / found[kernel.CALLS]
    assert turned_away == pytest.approx(erlang_b(level, load), rel=0.01)
    assert found[kernel.PROVISIONED_S] == pytest.approx(level * until_s)


def test_the_mean_number_under_way_is_the_offered_load():
    found = counters(Samples(exponential(200.0)), shaped(10 * DAY_S), until_s=2 * DAY_S)
    busy_s = (found[kernel.WARM_BILLED_MS] + found[kernel.COLD_BILLED_MS]) / 1000
    assert busy_s / (2 * DAY_S) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(("servers", "load", "blocked"), [(1, 1.0, 0.5), (2, 1.0, 0.2), (10, 5.0, 0.018385)])
def test_erlang_b_has_its_tabulated_values(servers, load, blocked):
    assert erlang_b(servers, load) == pytest.approx(blocked, rel=1e-4)


def test_provisioned_concurrency_saves_eleven_percent_of_steady_compute_at_a_billion_requests_a_month():
    rate_rps = 1e9 / (730 * 3600)
    level, saving = cheapest_level([rate_rps * 0.060], 1769, "x86_64", PRICES)
    assert 15 <= level <= 25
    assert saving == pytest.approx(0.11, abs=0.01)


def test_provisioned_concurrency_never_pays_for_rare_requests():
    assert cheapest_level([0.05], 1769, "x86_64", PRICES) == (0, 0.0)


def test_the_cheapest_level_is_the_best_of_all_levels():
    loads = [2.0, 9.0, 30.0, 30.0]
    level, saving = cheapest_level(loads, 1024, "arm64", PRICES)
    on_demand, used, idle = (
        PRICES[f"arm64_{key}"]
        for key in ("gb_second_usd", "provisioned_duration_gb_second_usd", "provisioned_gb_second_usd")
    )

    def cost(size):
        shares = [(load, erlang_b(size, load)) for load in loads]
        return sum(idle * size + load * ((1 - b) * used + b * on_demand) for load, b in shares)

    costs = [cost(size) for size in range(60)]
    assert level == int(np.argmin(costs))
    assert saving == pytest.approx(1 - min(costs) / (on_demand * sum(loads)))
