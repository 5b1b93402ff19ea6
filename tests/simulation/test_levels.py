"""What the simulation says of levels agrees with the formulas where both hold."""

import math

import pytest

from analysis.estimate.traffic import cold_share
from simulation.arrivals import shaped
from simulation.erlang import erlang_b
from simulation.levels import find_levels, share_within


@pytest.mark.parametrize(("rate_rps", "service_s", "idle_s"), [(1.0, 2.0, 20.0), (0.5, 3.0, 60.0)])
def test_cold_starts_by_level_are_those_of_the_first_passage_formula(rate_rps, service_s, idle_s):
    found = find_levels(shaped(86_400 * rate_rps), service_s, service_s, idle_s)
    for kept_warm in range(4):
        expected = cold_share(rate_rps, service_s, idle_s, kept_warm=kept_warm)
        assert found.cold_from(kept_warm) == pytest.approx(expected, rel=0.1, abs=4 * math.sqrt(expected / 50_000))
    assert found.alone == pytest.approx(math.exp(-rate_rps * service_s), rel=0.05)


def test_calls_within_the_provisioned_level_are_those_of_erlang_b():
    found = share_within(shaped(86_400), 3, 2.0, 2.0, 60.0)
    assert 1 - found == pytest.approx(erlang_b(3, 2.0), rel=0.05)
