"""Pings keep as few environments as the closed form says."""

import numpy as np
import pytest

from simulation import kernel
from simulation.arrivals import Moments
from simulation.pool import Samples, WarmPings
from tests.simulation.support import calls, counters

ROUND_S, SPREAD_S = 600.0, 60.0
NOBODY = Moments(np.array([1.0]), 2.0)


def overlap_share(count: int, busy_s: float, spread_s: float) -> float:
    """Return the share of rounds in which at least two of `count` pings overlap.

    Each fires at a uniform moment of the spread and keeps its environment for `busy_s`. All gaps between n uniform
    moments of an interval are longer than d, a part of it, with probability (1 - (n - 1) d)^n.
    H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 6.4.
    """
    return 1 - max(0.0, 1 - (count - 1) * busy_s / spread_s) ** count


def second_environment_starts(count: int, busy_s: float, spread_s: float, rounds_idle: int) -> float:
    """Return how many pings per round start a second environment, for pings that seldom overlap.

    A ping that overlaps another finds the second environment idle if they overlapped in one of the last
    `rounds_idle` rounds, for which an idle environment lives.
    """
    share = overlap_share(count, busy_s, spread_s)
    return float(share * (1 - share) ** rounds_idle)


@pytest.mark.parametrize(("count", "busy_s", "rounds_idle"), [(2, 0.6, 3), (3, 0.5, 2), (5, 0.2, 4)])
def test_the_second_environment_is_started_as_often_as_the_closed_form_says(count, busy_s, rounds_idle):
    samples = Samples(calls([1000 * busy_s]))
    rounds = 60_000
    found = counters(
        samples,
        NOBODY,
        until_s=rounds * ROUND_S,
        idle_s=(rounds_idle + 0.5) * ROUND_S,
        strategy=WarmPings(count, every_minutes=ROUND_S / 60, spread_s=SPREAD_S),
    )
    expected = rounds * second_environment_starts(count, busy_s, SPREAD_S, rounds_idle)
    assert found[kernel.PINGS_COLD] == pytest.approx(expected, rel=0.12)
    assert found[kernel.PINGS] == pytest.approx(count * rounds, rel=0.001)


def test_pings_that_must_overlap_always_do_and_a_single_one_never_does():
    assert overlap_share(1, 10.0, 60.0) == 0.0
    assert overlap_share(4, 30.0, 60.0) == 1.0
