import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.configuration import read_configuration
from loadtests.arrivals import Segment, Shape, shape_of

rates = st.floats(0, 60)
segments = st.builds(Segment, start_rps=rates, end_rps=rates, duration_s=st.floats(0.1, 5))
shapes = st.lists(segments, min_size=1, max_size=3).map(lambda parts: Shape("any", tuple(parts)))


def times_s(shape, **options):
    return [at_s for _, at_s in shape.arrivals(**options)]


def test_a_constant_rate_spaces_its_arrivals_evenly():
    times = times_s(Shape("constant", (Segment(10, 10, 2),)))
    assert times == pytest.approx([0.05 + n / 10 for n in range(20)])


def test_a_rising_rate_sends_as_many_by_each_moment_as_its_integral_says():
    """0 to 100 requests/s in 300 s: 15000 requests, t^2/6 of them in the first t seconds."""
    times = times_s(Shape("linear", (Segment(0, 100, 300),)))
    assert len(times) == 15_000
    for at_s in (10, 60, 150, 299):
        assert sum(t <= at_s for t in times) == pytest.approx(at_s**2 / 6, abs=1)


def test_the_shape_of_the_configuration_is_linear_from_0_to_100():
    shape = shape_of(read_configuration(profile="").experiments.load)
    assert (shape.name, shape.segments) == ("linear", (Segment(0, 100, 300),))


@given(
    shape=st.sampled_from(["linear", "steps", "constant"]),
    start_rps=st.floats(0, 1e4),
    end_rps=st.floats(0.1, 1e4),
    steps=st.lists(st.tuples(st.floats(0.1, 1e4), st.floats(0.1, 60)), min_size=1).map(tuple),
)
def test_the_rate_that_the_gateway_follows_is_the_peak_of_the_shape(shape, start_rps, end_rps, steps):
    table = read_configuration(profile="").experiments.load.model_copy(
        update={"shape": shape, "start_rps": start_rps, "end_rps": end_rps, "steps": steps}
    )
    assert table.peak_rps == shape_of(table).peak_rps


def test_steps_follow_one_another():
    table = read_configuration(profile="").experiments.load.model_copy(
        update={"shape": "steps", "steps": ((10.0, 2.0), (40.0, 1.0))}
    )
    times = times_s(shape_of(table))
    assert sum(t <= 2 for t in times) == 20
    assert len(times) == 60


@settings(max_examples=50)
@given(shapes)
def test_arrivals_ascend_within_the_shape_and_are_as_many_as_its_integral(shape):
    times = times_s(shape)
    assert times == sorted(times)
    assert all(0 <= t <= shape.duration_s * (1 + 1e-9) for t in times)
    assert abs(len(times) - shape.expected_arrivals) <= 0.5 + 1e-6


@settings(max_examples=50)
@given(shapes, st.integers(1, 7), st.sampled_from(["even", "poisson"]))
def test_shares_of_workers_make_up_the_whole_and_no_arrival_belongs_to_two(shape, count, spacing):
    whole = list(enumerate(times_s(shape, spacing=spacing, seed=7)))
    parts = [list(shape.arrivals(spacing=spacing, seed=7, index=i, count=count)) for i in range(count)]
    assert sorted(itertools.chain.from_iterable(parts)) == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shape.number_of_arrivals(spacing=spacing, seed=7) == len(whole)


@settings(max_examples=50)
@given(segments)
@example(Segment(0.0, 5e-222, 1.0))
def test_the_time_of_an_expected_number_inverts_the_integral(segment):
    for fraction in (0.0, 0.1, 0.5, 0.999):
        expected = segment.arrivals * fraction
        at_s = segment.time_s(expected)
        rate_rps = segment.start_rps + (segment.end_rps - segment.start_rps) * at_s / segment.duration_s
        reached = (segment.start_rps + rate_rps) / 2 * at_s
        assert reached == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_random_arrivals_repeat_with_their_seed_and_vary_as_a_poisson_process_does():
    shape = Shape("constant", (Segment(100, 100, 100),))
    times = times_s(shape, spacing="poisson", seed=1)
    assert times == times_s(shape, spacing="poisson", seed=1)
    assert times != times_s(shape, spacing="poisson", seed=2)
    # 10000 expected, standard deviation 100: five of them are beyond chance, and the seed is fixed.
    assert abs(len(times) - 10_000) < 500
    gaps = [b - a for a, b in itertools.pairwise(times)]
    mean = math.fsum(gaps) / len(gaps)
    deviation = math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation == pytest.approx(mean, rel=0.1)
