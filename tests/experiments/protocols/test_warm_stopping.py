"""When a warm series is over, and why."""

from __future__ import annotations

import random
import statistics

from core.configuration import read_configuration
from core.intervals import environments_half_width_percent, quantile_interval
from experiments.protocols.warm import most_samples, reason_to_stop

BASE = read_configuration(profile="").experiments.warm


def table(**changes):
    return BASE.model_copy(
        update={"environments": 1, "samples": 10, "max_samples": 1000, "until_ci_percent": 0.0} | changes
    )


def run_until_stopped(latency, **changes):
    warm, latencies = table(**changes), []
    while (reason := reason_to_stop(len(latencies), {0: latencies}, warm)) is None:
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
        while reason_to_stop(len(latencies), {0: latencies}, table(until_ci_percent=3.0)) is None:
            latencies.append(100 * source.lognormvariate(0, 0.1))
        interval, _ = quantile_interval(sorted(latencies), 0.5)
        covered += interval.lower <= 100 <= interval.upper
    assert 0.88 <= covered / 200 <= 0.97


def test_samples_that_do_not_count_are_bounded_too():
    assert reason_to_stop(19, {}, table()) is None
    assert reason_to_stop(20, {}, table()) == ("max_samples", None)
    assert most_samples(table(until_ci_percent=3.0)) == 1000


def test_an_interval_over_environments_holds_its_coverage_where_they_differ():
    """Calls of one environment share its luck: an interval that counts them as independent covers far less."""
    source, covered, naive = random.Random(7), 0, 0
    for _ in range(400):
        groups = [
            [100 * (1 + luck) * source.lognormvariate(0, 0.02) for _ in range(25)]
            for luck in (source.gauss(0, 0.05) for _ in range(8))
        ]
        medians = [statistics.median(group) for group in groups]
        width = environments_half_width_percent(groups)
        covered += abs(statistics.fmean(medians) - 100) <= width / 100 * statistics.fmean(medians)
        interval, _ = quantile_interval(sorted(one for group in groups for one in group), 0.5)
        naive += interval.lower <= 100 <= interval.upper
    assert covered / 400 >= 0.93
    assert naive / 400 < 0.8


def test_a_series_over_environments_is_judged_only_where_one_is_complete():
    warm = table(environments=2, samples=10, until_ci_percent=3.0)
    steady = {0: [100.0] * 5, 1: [100.1] * 5}
    assert reason_to_stop(10, steady, warm)[0] == "ci_reached"
    assert reason_to_stop(11, {**steady, 2: [100.0]}, warm) is None


def test_one_environment_has_no_interval():
    assert environments_half_width_percent([[1.0, 2.0, 3.0]]) is None
    assert environments_half_width_percent([[], [1.0]]) is None
