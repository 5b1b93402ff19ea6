"""Intervals cover what they say they cover, and what n does not carry is left out with its reason."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from analysis.estimate import estimates
from analysis.estimate.environments import Sample
from core.statistics.intervals import smallest_n

SIZES = (12, 50, 200, 1000)
ROUNDS = 600


def skewed_and_heavy(random, n):
    """Milliseconds with a long right side, and one in twenty from a tail without a variance."""
    body = 20 + random.lognormal(0, 1, n)
    tail = 50 * random.pareto(1.5, n)
    return np.where(random.random(n) < 0.05, body + tail, body)


@pytest.fixture(scope="module")
def truth():
    population = skewed_and_heavy(np.random.default_rng(99), 4_000_000)
    return {share: float(np.quantile(population, share)) for share in estimates.PERCENTILES.values()}


@pytest.mark.parametrize("n", SIZES)
def test_intervals_of_percentiles_and_of_differences_cover_at_least_94_percent(n, truth):
    random = np.random.default_rng(n)
    hits = dict.fromkeys([*truth, "difference", "ratio"], 0)
    given_at_all = dict.fromkeys(hits, 0)
    for _ in range(ROUNDS):
        a = np.sort(skewed_and_heavy(random, n))
        b = np.sort(1.3 * skewed_and_heavy(random, n))
        found = {share: estimates.percentile(a, share) for share in truth}
        comparison = estimates.compare_medians(b, a, random)
        found |= {"difference": comparison.difference, "ratio": comparison.ratio}
        for key, estimate in found.items():
            wanted = truth[key] if key in truth else 0.3 * truth[0.5] if key == "difference" else 1.3
            if estimate.low is not None:
                given_at_all[key] += 1
                hits[key] += estimate.low <= wanted <= estimate.high
    for key, count in given_at_all.items():
        if key in truth and n < smallest_n(key):
            assert count == 0
        else:
            assert count == ROUNDS
            assert hits[key] / ROUNDS >= 0.94, f"{key} at n = {n}"


@pytest.mark.parametrize(("n", "tail", "at_least"), [(12, 0, 0.90), (50, 0, 0.90), (12, 50, 0.84), (50, 50, 0.84)])
def test_the_interval_of_a_mean_is_approximate_and_covers_about_what_the_methods_say(n, tail, at_least):
    random = np.random.default_rng(n)
    wanted = 20 + float(np.exp(2 + 0.6**2 / 2)) + 0.05 * tail / 1.5
    hits = 0
    for _ in range(300):
        slow = np.where(random.random(n) < 0.05, tail * random.pareto(2.5, n), 0)
        estimate = estimates.mean(Sample.of(20 + random.lognormal(2, 0.6, n) + slow), random)
        assert estimate.approximate
        hits += estimate.low <= wanted <= estimate.high
    assert hits / 300 >= at_least


def test_the_largest_sample_of_many_is_known_by_its_share():
    assert estimates.largest_share(estimates.clean([1.0, 1.0, 2.0])) == pytest.approx(0.5)
    assert estimates.largest_share(estimates.clean([])) == 0
    assert estimates.largest_share(estimates.clean([0.0])) == 0


def test_the_bootstrap_of_medians_without_resampling_has_the_distribution_of_the_one_with_resampling():
    random = np.random.default_rng(5)
    for n in (6, 7, 12, 25):
        ordered = np.sort(random.lognormal(3, 1, n))
        quick = estimates.bootstrap_medians(ordered, random, 40_000)
        plain = np.median(random.choice(ordered, (40_000, n)), axis=1)
        for share in (0.05, 0.25, 0.5, 0.75, 0.95):
            at = np.quantile(plain, share)
            assert abs((quick <= at).mean() - (plain <= at).mean()) < 0.015


finite = st.floats(0, 1e6)
samples = st.lists(finite, min_size=1, max_size=40).map(estimates.clean)


@given(samples, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_a_percentile_lies_within_its_interval_or_says_why_it_has_none(ordered, share):
    found = estimates.percentile(ordered, share)
    assert found.n == len(ordered)
    if found.low is None:
        assert found.reason == f"needs n >= {smallest_n(share)}"
        assert (found.value is None) == (share != 0.5)
    else:
        assert found.low <= found.value <= found.high


@given(samples, samples)
def test_cliffs_delta_is_that_of_all_pairs(a, b):
    pairs = list(itertools.product(a, b))
    wanted = (sum(x > y for x, y in pairs) - sum(x < y for x, y in pairs)) / len(pairs)
    assert estimates.cliffs_delta(a, b) == pytest.approx(wanted)
    assert estimates.cliffs_delta(b, a) == pytest.approx(-wanted)


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_interval_of_a_share_is_clopper_and_pearsons(hits, more):
    n = hits + more
    found = estimates.share(hits, n)
    wanted = binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert found.low == pytest.approx(wanted.low, abs=1e-9)
    assert found.high == pytest.approx(wanted.high, abs=1e-9)


def test_nothing_measured_is_none_with_a_reason():
    nothing = estimates.clean([])
    random = np.random.default_rng(1)
    for found in (
        estimates.percentile(nothing, 0.5),
        estimates.share(0, 0),
        estimates.mean(Sample.of([]), random),
        estimates.compare_medians(nothing, nothing, random).difference,
    ):
        assert found.value is None
        assert found.reason


def test_nulls_are_left_out_and_nothing_else():
    assert estimates.clean([3.0, None, 1.0, float("nan"), 1e9]).tolist() == [1.0, 3.0, 1e9]
    found = estimates.distribution("duration_ms", Sample.of([1.0] * 99 + [1e9]))
    assert found.n == 100
    assert found.maximum == 1e9
    assert found.mean == pytest.approx((99 + 1e9) / 100)


def test_holm_rejects_step_by_step():
    assert estimates.holm([0.04, 0.001, 0.03]) == [False, True, False]
    assert estimates.holm([0.01, 0.02, 0.04]) == [True, True, True]
    assert estimates.holm([]) == []
