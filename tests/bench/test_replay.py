"""A trace replayed against a real lab, next to what the simulation expects."""

from __future__ import annotations

import numpy as np
import pytest

from bench.bench_replay import TRACES, Replay, Trace, expected, replays_of, samples_of

DURATION_S = 10.0


def test_each_trace_has_the_volume_that_it_names():
    for trace in TRACES:
        per_idle_life = np.mean([len(trace.times_s(seed, 5000.0)) for seed in range(5)]) / 1000
        assert per_idle_life == pytest.approx(trace.per_idle_life, rel=0.15)
        assert np.all(np.diff(trace.times_s(1, 500.0)) >= 0)


def test_the_band_of_a_trace_is_about_its_median_and_short_of_every_call_being_cold():
    random = np.random.default_rng(1)
    trace = TRACES[1]
    latency_ms = random.exponential(80.0, 4000)
    is_cold = np.arange(4000) % 3 == 0
    times_s = trace.times_s(1, 200.0)
    known = Replay(trace, times_s, latency_ms + 400 * is_cold, is_cold, 0.0)
    bands = expected(known, samples_of([known]), 200.0)
    low, high = bands["cold share, %"]
    assert 0 < low <= high < 100
    assert 30 < bands["median, ms"][0] < bands["median, ms"][1] < 500


@pytest.mark.slow
def test_a_lab_answers_each_call_of_a_trace_and_the_simulation_takes_what_it_answered():
    """Whether the figures lie in the band is for `make bench`: on a busy machine they move while they are measured."""
    trace = Trace("steady", 8.0)
    one, other = replays_of([trace], repeats=2, duration_s=DURATION_S)
    for replay in (one, other):
        assert len(replay.latency_ms) == len(replay.is_cold) == len(replay.times_s) > 0
        assert replay.is_cold.any()
        assert replay.most_late_ms >= 0
        low, high = expected(replay, samples_of([one, other]), DURATION_S)["cold share, %"]
        assert 0 < low <= high <= 100
