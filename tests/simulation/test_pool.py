"""The pool behaves as Lambda's documentation says, and as its rules say where that is silent."""

import numpy as np
import pytest

from simulation import kernel
from simulation.arrivals import Moments, shaped
from simulation.pool import Calls, Provisioned, Samples, TargetTracking, WarmPings
from tests.simulation.support import calls, counters

DAY_S = 86_400.0


def moments(*times_s):
    return Moments(np.array(times_s, dtype=float), 1e6)


FIXED = Samples(calls([100.0]), calls([1000.0]))


def test_an_environment_is_warm_until_its_idle_life_is_over():
    found = counters(FIXED, moments(0, 10, 20, 700, 1400), until_s=2000.0, idle_s=600.0)
    # 700 comes 680 s after the last, 1400 another 700 s.
    assert found[kernel.CALLS] == 5
    assert found[kernel.COLD] == 3


def test_simultaneous_requests_need_an_environment_each():
    found = counters(FIXED, moments(0, 0, 0, 10, 10, 10, 10), until_s=100.0)
    assert found[kernel.COLD] == 4
    assert found[kernel.PEAK] == 4


@pytest.mark.parametrize(("choice", "cold"), [("newest_first", 3), ("oldest_first", 2)])
def test_the_choice_decides_which_environment_stays_warm(choice, cold):
    # Two environments, then one request every 400 s, then two at once: oldest first has kept both.
    times = (0, 0, 400, 800, 1200, 1200)
    assert counters(FIXED, moments(*times), until_s=2000.0, idle_s=900.0, choice=choice)[kernel.COLD] == cold


def test_a_random_choice_lies_between_the_other_two():
    arrivals, samples = shaped(20_000), Samples(calls([2000.0]), calls([2000.0]))
    found = {
        choice: counters(samples, arrivals, until_s=20 * DAY_S, idle_s=120.0, choice=choice)[kernel.COLD]
        for choice in ("newest_first", "random", "oldest_first")
    }
    assert found["oldest_first"] < found["random"] < found["newest_first"]


def test_requests_beyond_the_concurrency_are_throttled():
    found = counters(FIXED, moments(0, 0, 0, 0, 0), until_s=10.0, concurrency=3)
    assert (found[kernel.CALLS], found[kernel.THROTTLED], found[kernel.GAVE_UP]) == (3, 2, 2)


def test_new_environments_start_no_faster_than_the_scaling_rate():
    burst = moments(*[0.0] * 1500, *[5.0] * 1500)
    found = counters(Samples(calls([60_000.0])), burst, until_s=100.0, concurrency=10_000)
    assert found[kernel.CALLS] == 1000 + 500, "1000 at once, and 100 more for each second"


def test_a_throttled_caller_succeeds_by_retrying_and_waits_for_it():
    found = counters(FIXED, moments(0, 0), until_s=10.0, concurrency=1, caller_retries=20)
    assert found[kernel.THROTTLED] == found[kernel.RETRIES] > 0
    assert (found[kernel.CALLERS], found[kernel.CALLS], found[kernel.GAVE_UP]) == (2, 2, 0)


def test_a_call_over_the_front_doors_limit_fails_for_its_caller_and_keeps_its_environment():
    slow = Samples(calls([40_000.0]))
    found = counters(slow, moments(0, 30), until_s=100.0)
    assert (found[kernel.GATEWAY_TIMEOUTS], found[kernel.GAVE_UP]) == (2, 2)
    assert found[kernel.COLD] == 2, "at second 30 the first environment is still busy"
    assert counters(slow, moments(0), until_s=100.0, front_door="function_url")[kernel.GAVE_UP] == 0


def test_a_wrong_answer_is_not_a_correct_one_however_fast():
    wrong = Samples(calls([100.0], correct=False))
    found = counters(wrong, moments(0, 1, 2), until_s=10.0)
    assert (found[kernel.INCORRECT], found[kernel.GAVE_UP]) == (3, 3)


def test_provisioned_concurrency_is_never_cold_and_spills_over_when_it_is_busy():
    found = counters(FIXED, moments(0, 0, 0, 5000), until_s=6000.0, strategy=Provisioned((2,)))
    assert (found[kernel.IN_PROVISIONED], found[kernel.COLD]) == (3, 1)
    assert found[kernel.PROVISIONED_S] == 12_000


def test_provisioned_concurrency_counts_against_the_limit_even_when_idle():
    found = counters(FIXED, moments(0, 0, 0, 0), until_s=10.0, strategy=Provisioned((2,)), concurrency=3)
    assert (found[kernel.IN_PROVISIONED], found[kernel.COLD], found[kernel.THROTTLED]) == (2, 1, 1)


def test_levels_by_the_hour_follow_the_clock():
    levels = tuple(4 if 8 <= hour < 18 else 1 for hour in range(24))
    found = counters(FIXED, moments(0), until_s=DAY_S, strategy=Provisioned(levels))
    assert found[kernel.PROVISIONED_S] == pytest.approx((10 * 4 + 14) * 3600)


def test_target_tracking_finds_a_level_that_its_target_asks_for():
    samples = Samples(calls([1000.0]))
    strategy = TargetTracking(target=0.7, minimum=1, maximum=100)
    found = counters(samples, shaped(14 * DAY_S), until_s=DAY_S, from_s=-7200.0, strategy=strategy)
    assert found[kernel.PROVISIONED_S] / DAY_S == pytest.approx(14 / 0.7, rel=0.25)
    assert found[kernel.IN_PROVISIONED] / found[kernel.CALLS] > 0.97


def test_pings_that_do_not_overlap_keep_one_environment_however_many_there_are():
    # Requests come in threes, seldom: one finds the pinged environment, two do not.
    times = [3600.0 * hour + 100 for hour in range(1, 200) for _ in range(3)]
    arrivals = moments(*times)
    spread = counters(FIXED, arrivals, until_s=720_000.0, strategy=WarmPings(3, spread_s=60.0))
    assert spread[kernel.COLD] / spread[kernel.CALLS] == pytest.approx(2 / 3, abs=0.03)
    held = counters(FIXED, arrivals, until_s=720_000.0, strategy=WarmPings(3, spread_s=0.0, hold_ms=200.0))
    assert held[kernel.COLD] / held[kernel.CALLS] < 0.03
    assert spread[kernel.PINGS] == pytest.approx(3 * 720_000 / 240, abs=6)


def test_whole_environments_are_resampled_together():
    values = np.repeat([1.0, 2.0, 3.0, 4.0], 5)
    clustered = Calls(values, values, values, np.ones(20, bool), np.repeat([7, 3, 9, 1], 5))
    drawn = clustered.resampled(np.random.default_rng(2), 29.0)
    assert set(np.unique(drawn[:, kernel.BILLED_MS], return_counts=True)[1] % 5) == {0}
