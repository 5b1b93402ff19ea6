"""When a warm series is over, and why."""

from __future__ import annotations

import random

from core.configuration import read_configuration
from core.intervals import quantile_interval
from experiments.protocols.warm import most_samples, reason_to_stop

BASE = read_configuration(profile="").experiments.warm


def table(**changes):
    return BASE.model_copy(update={"samples": 10, "max_samples": 1000, "until_ci_percent": 0.0} | changes)


def run_until_stopped(latency, **changes):
    warm, latencies = table(**changes), []
    while (reason := reason_to_stop(len(latencies), latencies, warm)) is None:
        latencies.append(latency())
    return reason, len(latencies)


def test_without_an_interval_asked_for_a_series_takes_as_many_samples_as_configured():
    (reason, width), taken = run_until_stopped(lambda: 100.0)
    assert (reason, taken, width) == ("samples", 10, 0.0)


def test_a_steady_series_stops_as_soon_as_its_median_is_known_well_enough():
    source = random.Random(1)
    (reason, width), taken = run_until_stopped(lambda: source.gauss(100, 3), until_ci_percent=3.0)
    assert reason == "ci_reached"
    assert width <= 3.0
    assert 10 <= taken < 100


def test_a_wider_spread_takes_more_samples():
    source = random.Random(2)
    _, steady = run_until_stopped(lambda: source.gauss(100, 3), until_ci_percent=2.0)
    _, noisy = run_until_stopped(lambda: source.lognormvariate(4.6, 0.5), until_ci_percent=2.0)
    assert steady < noisy


def test_a_series_that_never_settles_stops_at_its_bound_and_says_so():
    source = random.Random(3)
    (reason, width), taken = run_until_stopped(lambda: source.paretovariate(0.3), until_ci_percent=1.0, max_samples=60)
    assert (reason, taken) == ("max_samples", 60)
    assert width > 1.0


def test_stopping_at_a_narrow_interval_costs_it_little_of_its_confidence():
    """95 % would be had without looking repeatedly; docs/warm.md names what is left from a simulation of 6000."""
    source, covered = random.Random(5), 0
    for _ in range(200):
        latencies: list[float] = []
        while reason_to_stop(len(latencies), latencies, table(until_ci_percent=3.0)) is None:
            latencies.append(100 * source.lognormvariate(0, 0.1))
        interval, _ = quantile_interval(sorted(latencies), 0.5)
        covered += interval.lower <= 100 <= interval.upper
    assert 0.88 <= covered / 200 <= 0.97


def test_samples_that_do_not_count_are_bounded_too():
    assert reason_to_stop(19, [], table()) is None
    assert reason_to_stop(20, [], table()) == ("max_samples", None)
    assert most_samples(table(until_ci_percent=3.0)) == 1000
