"""Exact intervals of quantiles."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from core.statistics.intervals import (
    CONFIDENCE,
    interval_ranks,
    median_half_width_percent,
    quantile_interval,
    smallest_n,
)


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.1, 36)])
def test_a_quantile_needs_as_many_samples_as_its_far_tail_asks_for(quantile, n):
    assert smallest_n(quantile) == n
    assert interval_ranks(n, quantile) is not None
    assert interval_ranks(n - 1, quantile) is None


def test_ranks_of_the_median_are_those_of_published_tables():
    # Conover, Practical Nonparametric Statistics, and every table of the sign test: n = 6, 10, 20, 100.
    assert [interval_ranks(n, 0.5) for n in (6, 10, 20, 100)] == [(1, 6), (2, 9), (6, 15), (40, 61)]


@given(
    n=st.integers(1, 5000),
    quantile=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99]),
)
def test_the_chosen_ranks_cover_at_least_the_confidence_and_are_the_narrowest_that_do(n, quantile):
    ranks = interval_ranks(n, quantile)
    if ranks is None:
        assert n < smallest_n(quantile)
        return
    lower, upper = ranks
    tail = (1 - CONFIDENCE) / 2
    slack = 1e-9
    below = binom(n, quantile)
    assert 1 <= lower <= upper <= n
    assert below.cdf(lower - 1) <= tail + slack
    assert below.sf(upper - 1) <= tail + slack
    assert below.cdf(upper - 1) - below.cdf(lower - 1) >= CONFIDENCE - 2 * slack
    assert below.cdf(lower) > tail - slack
    assert below.sf(upper - 2) > tail - slack


def test_too_few_samples_give_no_interval_but_say_how_many_it_needs():
    assert quantile_interval([1.0, 2.0, 3.0], 0.5) == (None, "needs n >= 6")
    assert median_half_width_percent([1.0, 2.0, 3.0]) is None


def test_intervals_of_heavy_tailed_samples_hold_the_true_median_as_often_as_promised():
    source = random.Random(7)
    true_median = 2 ** (1 / 1.5)
    held = 0
    for _ in range(2000):
        interval, _ = quantile_interval(sorted(source.paretovariate(1.5) for _ in range(20)), 0.5)
        held += interval.lower <= true_median <= interval.upper
    assert held / 2000 >= 0.94


def test_half_width_is_relative_to_the_median():
    assert median_half_width_percent([100.0] * 10) == 0
    assert median_half_width_percent([90, 90, 95, 100, 100, 100, 105, 110, 110, 110]) == 10.0
    assert median_half_width_percent([0.0] * 10) is None


@pytest.mark.parametrize("quantile", [0, 1, -0.1, 1.5])
def test_a_quantile_outside_its_range_is_refused(quantile):
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval_ranks(10, quantile)
