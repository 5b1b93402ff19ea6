"""Arrivals have the rate, the shape and the burstiness that were asked for."""

import math

import numpy as np
import pytest

from simulation.arrivals import Counts, Moments, blocks, shaped

DAY_S = 86_400.0


def times(arrivals, until_s, *, seed=1, **more):
    stream = blocks(arrivals, np.random.default_rng(seed), from_s=0.0, until_s=until_s, **more)
    return np.concatenate([np.empty(0), *(block.copy() for block in stream)])


def counts_per(window_s, moments, until_s):
    return np.bincount((moments // window_s).astype(int), minlength=math.floor(until_s / window_s))


@pytest.mark.parametrize("burstiness", [1.0, 5.0, 50.0])
def test_the_volume_does_not_depend_on_burstiness(burstiness):
    found = times(shaped(50_000), 30 * DAY_S, burstiness=burstiness)
    assert np.all(np.diff(found) >= 0)
    assert len(found) == pytest.approx(1_500_000, rel=5 * math.sqrt(burstiness / 1_500_000))


@pytest.mark.parametrize("burstiness", [1.0, 4.0, 20.0])
def test_counts_have_the_index_of_dispersion_that_was_asked_for(burstiness):
    until_s = 200 * DAY_S
    found = times(shaped(20_000, burst_s=20.0), until_s, burstiness=burstiness)
    # Windows much longer than the correlation time.
    counts = counts_per(3600.0, found, until_s)
    assert np.var(counts) / np.mean(counts) == pytest.approx(burstiness, rel=0.15)


def test_batches_are_requests_of_the_same_moment():
    found = times(shaped(20_000, batch_size=4.0), 20 * DAY_S)
    sizes = np.unique(found, return_counts=True)[1]
    assert sizes.mean() == pytest.approx(4.0, rel=0.02)
    assert len(found) == pytest.approx(400_000, rel=0.02)


def test_hours_and_days_have_their_weights():
    hours, days = [1.0] * 12 + [3.0] * 12, [1.0] * 5 + [0.0, 0.5]
    arrivals = shaped(10_000, hours, days)
    found = times(arrivals, 70 * DAY_S)
    by_day = counts_per(DAY_S, found, 70 * DAY_S).reshape(10, 7).sum(axis=0)
    assert by_day[5] == 0
    assert by_day[6] / by_day[0] == pytest.approx(0.5, rel=0.05)
    by_hour = counts_per(3600.0, found, 70 * DAY_S).reshape(-1, 24).sum(axis=0)
    assert by_hour[12:].sum() / by_hour[:12].sum() == pytest.approx(3.0, rel=0.05)
    assert arrivals.requests_per_day == pytest.approx(10_000)
    assert arrivals.days_in_period == 7
    assert shaped(10_000, hours).days_in_period == 1


def test_a_trace_of_counts_is_replayed_count_by_count():
    counts = np.array([0, 3, 0, 100_000, 1])
    found = times(Counts(counts, interval_s=60.0), 300.0)
    assert np.all(np.diff(found) >= 0)
    assert counts_per(60.0, found, 300.0).tolist() == counts.tolist()
    middle = found[(found >= 180) & (found < 240)]
    assert middle.mean() == pytest.approx(210.0, abs=0.5)


def test_a_trace_of_moments_is_replayed_as_it_is():
    moments = np.sort(np.random.default_rng(3).random(40_000)) * 100
    assert np.array_equal(times(Moments(moments, 100.0), 100.0), moments)
    assert times(Moments(moments, 100.0), 50.0).max() < 50


def test_only_a_part_of_each_hour_is_played_where_that_is_asked_for():
    hours = [1.0] * 12 + [3.0] * 12
    found = times(shaped(1_000_000, hours), 24 * 360.0, hour_s=360.0)
    assert len(found) == pytest.approx(100_000, rel=0.02)
    assert np.mean(found > 12 * 360) == pytest.approx(0.75, rel=0.02)


@pytest.mark.parametrize(
    ("field", "value"), [("burstiness", (0.5, 1.0)), ("burstiness", (3.0, 2.0)), ("batch_size", 0.5), ("burst_s", 0.0)]
)
def test_impossible_arrivals_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        shaped(1000, **{field: value})
