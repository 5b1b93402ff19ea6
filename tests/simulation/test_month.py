"""A simulated month: what callers get, what it costs, how sure that is."""

import numpy as np
import pytest

from simulation.arrivals import Moments, shaped
from simulation.month import Effort
from simulation.pool import NotMeasuredError, OnDemand, Pool, Provisioned, Samples, SnapStart, TargetTracking, WarmPings
from simulation.sketch import EDGES_S, quantile_ms, share_over
from tests.simulation.support import BILLING, PRICES, a_month, calls

RANDOM = np.random.default_rng(5)
SAMPLES = Samples(
    calls(RANDOM.lognormal(4.0, 0.2, 200)), calls(RANDOM.lognormal(8.3, 0.1, 20)), calls(RANDOM.lognormal(6.8, 0.1, 20))
)
QUICK = Effort(replicates=8, min_requests=5000)


@pytest.mark.parametrize("strategy", [OnDemand(), SnapStart(), Provisioned((1,)), TargetTracking(), WarmPings(2)])
def test_the_same_seed_gives_the_same_month(strategy):
    first, second = (a_month(SAMPLES, shaped(2000), strategy, effort=QUICK) for _ in range(2))
    assert first.usd == second.usd
    assert first.missed_share == second.missed_share
    assert a_month(SAMPLES, shaped(2000), strategy, effort=QUICK, seed=2).usd != first.usd


def test_the_parts_add_up_and_each_front_door_has_its_price():
    month = a_month(SAMPLES, shaped(33_000), effort=QUICK)
    assert month.usd.value == pytest.approx(sum(part.value for part in month.parts.values()))
    assert month.requests == pytest.approx(33_000 * 730 / 24, rel=0.01)
    url = a_month(SAMPLES, shaped(33_000), pool=Pool(front_door="function_url"), effort=QUICK)
    assert url.usd.value == pytest.approx(month.usd.value - month.parts["front_door"].value)


def test_each_strategy_pays_for_what_it_uses():
    snapstart = a_month(SAMPLES, shaped(500), SnapStart(), effort=QUICK)
    gb, month_s = BILLING.memory_mb / 1024, 730 * 3600
    cache = gb * month_s * PRICES["snapstart_cache_gb_second_usd"]
    assert snapstart.parts["snapstart_cache"].value == pytest.approx(cache)
    restores = snapstart.cold_share.value * snapstart.requests
    expected = gb * restores * PRICES["snapstart_restore_gb_usd"]
    assert snapstart.parts["snapstart_restore"].value == pytest.approx(expected, rel=0.02)
    provisioned = a_month(SAMPLES, shaped(500), Provisioned((2,)), effort=QUICK)
    kept = 2 * gb * month_s * PRICES["x86_64_provisioned_gb_second_usd"]
    assert provisioned.parts["provisioned"].value == pytest.approx(kept)
    pings = a_month(SAMPLES, shaped(500), WarmPings(3, every_minutes=5), effort=QUICK)
    assert pings.parts["pings"].value == pytest.approx(3 * month_s / 300 * 1e-6, rel=0.01)


def test_callers_who_miss_are_those_of_cold_starts_here():
    month = a_month(SAMPLES, shaped(300), pool=Pool(idle_minutes=(5.0, 5.0)), effort=QUICK)
    assert month.missed_share.value == pytest.approx(month.cold_share.value, rel=0.01)
    assert 0.2 < month.cold_share.value < 0.6
    assert month.p99_ms.value > 3000 > month.p50_ms.value


def test_what_is_uncertain_widens_the_band():
    narrow = a_month(SAMPLES, shaped(300), pool=Pool(idle_minutes=(10.0, 10.0)), effort=QUICK)
    wide = a_month(SAMPLES, shaped(300), pool=Pool(idle_minutes=(5.0, 60.0)), effort=QUICK)
    assert wide.cold_share.high - wide.cold_share.low > 3 * (narrow.cold_share.high - narrow.cold_share.low)
    bursts = a_month(SAMPLES, shaped(300, burstiness=(1.0, 30.0)), pool=Pool(idle_minutes=(10.0, 10.0)), effort=QUICK)
    assert bursts.cold_share.high - bursts.cold_share.low > 2 * (narrow.cold_share.high - narrow.cold_share.low)


def test_large_volumes_are_simulated_in_part_and_priced_whole():
    effort = Effort(replicates=4, max_requests=50_000)
    month = a_month(SAMPLES, shaped(3.3e6), effort=effort)
    assert month.simulated_requests == pytest.approx(200_000, rel=0.05)
    assert month.requests == pytest.approx(3.3e6 * 730 / 24, rel=0.02)
    whole = a_month(SAMPLES, shaped(33_000), effort=effort)
    assert month.parts["requests"].value == pytest.approx(100 * whole.parts["requests"].value, rel=0.02)


def test_a_trace_is_a_part_of_a_month():
    times = np.sort(RANDOM.random(2400)) * 86_400
    month = a_month(SAMPLES, Moments(times, 86_400.0), effort=QUICK)
    assert month.requests == pytest.approx(2400 * 730 / 24)


def test_what_was_not_measured_is_not_made_up():
    with pytest.raises(NotMeasuredError, match="no restore from a snapshot was measured"):
        a_month(Samples(SAMPLES.warm, SAMPLES.cold), shaped(300), SnapStart())
    with pytest.raises(NotMeasuredError, match="no cold start was measured"):
        a_month(Samples(SAMPLES.warm), shaped(300))


def test_percentiles_of_callers_that_never_get_an_answer_are_infinite():
    month = a_month(Samples(SAMPLES.warm, calls([100.0], correct=False)), shaped(300), effort=QUICK)
    assert month.p99_ms.value == float("inf")
    assert month.missed_share.value == pytest.approx(month.cold_share.value, rel=0.05)


def test_a_sketched_quantile_is_off_by_half_a_percent_at_most():
    values = RANDOM.lognormal(-2.0, 1.5, 100_000)
    counts = np.histogram(values, EDGES_S)[0].astype(float)
    for share in (0.01, 0.5, 0.95, 0.99, 0.999):
        assert quantile_ms(counts, 0.0, share) == pytest.approx(1000 * np.quantile(values, share), rel=0.006)
    assert share_over(counts, 0.0, 500.0) == pytest.approx(float(np.mean(values > 0.5)), rel=0.01)
    assert quantile_ms(counts, 10_000.0, 0.95) == float("inf")
    assert share_over(counts, 100_000.0, 1e9) == pytest.approx(0.5)
