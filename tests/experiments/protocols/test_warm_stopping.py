"""When a warm series is over, and why."""

from __future__ import annotations

import random
import statistics
from types import SimpleNamespace

from core.configuration import PILOT_CALLS, read_configuration
from core.statistics.deciding import Goal
from core.statistics.intervals import environments_half_width_percent, quantile_interval
from experiments.plan import Series
from experiments.protocols.warm import Progression, half_width_percent, most_samples, reason_to_stop
from tests.experiments.checks.test_spend import record

BASE = read_configuration(profile="").experiments.warm


def table(**changes):
    return BASE.model_copy(
        update={"environments": 1, "samples": 10, "max_samples": 1000, "until_ci_percent": 0.0} | changes
    )


def run_until_stopped(latency, **changes):
    warm, latencies = table(**changes), []
    while (reason := reason_to_stop(len(latencies), [latencies], warm)) is None:
        latencies.append(latency())
    return (reason, half_width_percent([latencies], warm)), len(latencies)


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
    """One look would keep 95%; docs/explanation/warm.md has what repeated looks leave, by a simulation of 6000."""
    source, covered = random.Random(5), 0
    for _ in range(200):
        latencies: list[float] = []
        while reason_to_stop(len(latencies), [latencies], table(until_ci_percent=3.0)) is None:
            latencies.append(100 * source.lognormvariate(0, 0.1))
        interval, _ = quantile_interval(sorted(latencies), 0.5)
        covered += interval.lower <= 100 <= interval.upper
    assert 0.88 <= covered / 200 <= 0.97


def test_samples_that_do_not_count_are_bounded_too():
    assert reason_to_stop(19, [], table()) is None
    assert reason_to_stop(20, [], table()) == "max_samples"
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
    steady = [[100.0] * 5, [100.1] * 5]
    assert reason_to_stop(10, steady, warm) == "ci_reached"
    assert reason_to_stop(11, [*steady, [100.0]], warm) is None


def test_one_environment_has_no_interval():
    assert environments_half_width_percent([[1.0, 2.0, 3.0]]) is None
    assert environments_half_width_percent([[], [1.0]]) is None


def answered(environment, **changes):
    handler = SimpleNamespace(environment_id=environment, cold=False, handler_ms=20.0)
    return record(outcome="ok", client_latency_ms=30.0).model_copy(update={"handler": handler, **changes})


SERIES = Series(read_configuration(profile="").variants[0], "kept")


def test_a_planned_environment_that_a_resumed_run_finished_in_another_one_is_two():
    one = Progression(SERIES, table(environments=2, samples=10))
    for environment in ("a", "a", "b", "b", "b", "c", "c"):
        one.keep(answered(environment))
    assert one.environment == 1
    assert [len(latencies) for latencies in one.latencies_ms] == [2, 3, 2]


def test_failed_calls_belong_to_the_environment_that_answered_before_them():
    one = Progression(SERIES, table(environments=2, samples=4))
    failed = answered("", outcome="gateway_timeout", handler=None)
    for next_one in (answered("a"), failed, failed):
        one.keep(next_one)
    assert {key: (group.calls, group.failed) for key, group in one.environments.items()} == {
        "a": (2, 1),
        "planned-1": (1, 1),
    }


def test_a_replayed_series_finds_the_environments_it_had():
    """A resumed run has nothing but the records, so the sizes of environments follow from them alone."""
    warm, goal = table(environments=8, max_samples=2000, until_decided=True), Goal(1000.0, 0.01)
    first, again = Progression(SERIES, warm, goal), Progression(SERIES, warm, goal)
    calls = []
    while first.taken < 500:
        calls.append((first.next_sample(), answered(f"e{first.environment}")))
        first.keep(calls[-1][1])
    for call, kept in calls:
        assert again.next_sample() == call
        again.keep(kept)
    assert again == first
    sizes = [group.calls for group in first.environments.values()]
    assert sizes[:8] == [PILOT_CALLS] * 8
    assert sizes[8] > PILOT_CALLS, "no call is bad, so calls are wanted, and not environments"
