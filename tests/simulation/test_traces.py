"""Recorded traffic is read as it is, and refused by line where it is none."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.arrivals import Counts, Moments
from simulation.traces import AZURE_COLUMNS, MINUTES_PER_DAY, TraceError, parse_trace

AZURE_HEAD = ",".join([*AZURE_COLUMNS, *(str(minute + 1) for minute in range(MINUTES_PER_DAY))])


def azure(name, counts):
    return ",".join(["owner", "app", name, "http", *map(str, counts)])


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=50, unique=True))
def test_timestamps_are_moments_from_the_first_on(times):
    trace = parse_trace(["timestamp", *map(str, times)])
    assert isinstance(trace, Moments)
    assert trace.times_s == pytest.approx(np.sort(times) - min(times))
    assert trace.duration_s > trace.times_s[-1]


def test_dates_are_timestamps_too():
    trace = parse_trace(["timestamp", "2026-11-27T10:00:00+00:00", "2026-11-27T11:00:30+01:00"])
    assert trace.times_s.tolist() == [0.0, 30.0]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50).filter(any))
def test_counts_are_kept(counts):
    trace = parse_trace(["count", *map(str, counts)])
    assert isinstance(trace, Counts)
    assert trace.counts.tolist() == counts
    assert trace.duration_s == 60 * len(counts)


def test_azures_trace_gives_one_function_over_its_days():
    first, second = [1] * MINUTES_PER_DAY, [2] * MINUTES_PER_DAY
    lines = [AZURE_HEAD, azure("f1", first), azure("g2", second), azure("f1", second)]
    assert parse_trace(lines, function="f1").counts.tolist() == first + second
    with pytest.raises(TraceError, match="line 3: "):
        parse_trace(lines)
    with pytest.raises(TraceError, match="no function begins with 'x'"):
        parse_trace(lines, function="x")
    with pytest.raises(TraceError, match=r"line 2: .* 1440"):
        parse_trace([AZURE_HEAD, azure("f1", [1, 2])])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: the header is 'missing'"),
        (["when", "1"], "line 1: the header is 'when'"),
        (["timestamp", "1", "noon"], "line 3: 'noon' is neither seconds nor a date"),
        (["timestamp", "1", "inf"], "line 3: 'inf' is not a moment"),
        (["timestamp", "5", "5"], "two arrivals at different moments"),
        (["count", "1", "-2"], "line 3: '-2' is not a number of requests"),
        (["count", "0"], "holds no request"),
    ],
)
def test_what_is_no_trace_is_refused_by_line(lines, message):
    with pytest.raises(TraceError, match=message):
        parse_trace(lines)


@given(st.text(max_size=200))
def test_any_text_is_a_trace_or_refused(text):
    with contextlib.suppress(TraceError):
        parse_trace(text.splitlines())
