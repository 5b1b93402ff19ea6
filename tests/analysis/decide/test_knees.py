"""A knee is claimed where the intervals show it, and only there."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.decide import curves
from analysis.decide.curves import knee
from analysis.estimate.environments import Sample
from analysis.estimate.estimates import compare_medians
from core.variants import Image

ROUNDS = 60
ENVIRONMENTS = 6  # as many as a trial has rounds
SIZES = (128, 256, 512, 1024, 1769, 3008)
# Medians (ms) by size, and the true knee: a step to 90% gains exactly the threshold, so no more than that.
EDGES = [
    pytest.param((50.0, 50.0, 50.0), None, id="flat"),
    pytest.param((50.0, 45.0, 45.0), None, id="one step of the threshold"),
    pytest.param((100.0, 50.0, 45.0), 256, id="a last step of the threshold"),
]


def knee_of(samples):
    named = dict(zip(SIZES, samples, strict=False))
    return knee(Image("tiny", "own", "x86_64"), "duration_ms", named, np.random.default_rng(1))


def tight(median_ms):
    return Sample.of(median_ms * np.linspace(0.999, 1.001, 9))


@given(st.lists(st.floats(1, 1000), min_size=3, max_size=6))
@settings(max_examples=50, deadline=None)
def test_the_knee_of_tight_samples_is_the_smallest_size_that_no_larger_one_beats_by_more_than_10_percent(curve):
    assume(all(abs(b / a - 0.9) > 0.01 for place, a in enumerate(curve) for b in curve[place + 1 :]))
    at = next(place for place, median in enumerate(curve) if min(curve[place:]) > 0.9 * median)
    found = knee_of([tight(median) for median in curve])
    assert found.curve == pytest.approx(dict(zip(SIZES, curve, strict=False)))
    if 0 < at < len(curve) - 1:
        assert found.memory_mb == SIZES[at]
        return
    assert found.memory_mb is None
    assert ("no size is faster than the smallest" if at == 0 else "the last step still gains") in found.reason


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=20), st.integers(3, 6))
@settings(max_examples=50, deadline=None)
def test_a_flat_curve_has_no_knee_however_wide_its_samples(values, sizes):
    assert knee_of([Sample.of(values)] * sizes).memory_mb is None


def test_intervals_that_overlap_neither_gain_nor_end_the_curve():
    before = Sample.of([20.2, 21.0, 25.0, 25.6, 28.0, 28.7])
    after = Sample.of([20.8, 21.0, 21.8, 22.0, 27.0, 28.4])
    found = knee_of([tight(50.0), before, after])
    assert found.memory_mb is None
    assert found.reason == "the intervals do not tell whether 512 MB is faster than 256 MB by more than 10%"


def test_too_few_sizes_or_environments_are_named():
    assert "at least 3 memory sizes" in knee_of([tight(100.0), tight(50.0)]).reason
    calls = Sample.of([50.0] * 100, ["one environment"] * 100)
    found = knee_of([calls, calls, calls])
    assert found.memory_mb is None
    assert "do not tell" in found.reason
    assert "needs 6 environments" in found.reason


@pytest.mark.parametrize(("sizes", "level"), [(3, 0.95), (6, 0.98)])
def test_the_comparisons_of_a_curve_share_5_percent(monkeypatch, sizes, level):
    levels = []

    def compared(*samples, level):
        levels.append(level)
        return compare_medians(*samples, level=level)

    monkeypatch.setattr(curves, "compare_medians", compared)
    knee_of([tight(50.0)] * sizes)
    assert levels == pytest.approx([level] * (sizes - 1))


@pytest.mark.parametrize("noise", [0.02, 0.3])
@pytest.mark.parametrize(("curve", "true"), EDGES)
def test_noise_makes_a_wrong_claim_in_at_most_5_percent(curve, true, noise):
    random = np.random.default_rng(7)
    wrong = 0
    for _ in range(ROUNDS):
        found = knee_of([Sample.of(median * random.lognormal(0, noise, ENVIRONMENTS)) for median in curve])
        another = found.memory_mb not in (None, true)
        flat = true is not None and "no size is faster" in found.reason
        wrong += another or flat or "still gains" in found.reason
    assert wrong <= 7  # of 60 rounds at 5%, more come once in a hundred times
