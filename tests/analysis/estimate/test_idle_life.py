"""The life of idle environments is read off the gaps between scheduled calls."""

import polars as pl
import pytest

from analysis.estimate.idle_life import find_idle_life
from core.configuration import read_configuration
from tests.analysis import synthetic

few = synthetic.smaller(read_configuration(), models=("mobilenet",), memory_sizes_mb=(1769,))
BASE = synthetic.make_rows(few, cold_samples=1, warm_samples=1, load_rps=1, load_s=2)[0]


def scheduled(*calls, **columns):
    """Calls at (minute, start type), each of which takes a second, a cold one after an init of two."""
    rows = [
        BASE
        | {
            "call_id": f"call-{number}",
            "experiment": "cold",
            "protocol": "scheduled",
            "outcome": "ok",
            "first_after_deploy": False,
            "start_type": start,
            "init_status": "success" if start == "cold" else None,
            "init_ms": 2000.0 if start == "cold" else None,
            "logged_at": 1e9 + 60 * minute,
            "duration_ms": 1000.0,
        }
        | columns
        for number, (minute, start) in enumerate(calls)
    ]
    return synthetic.frame(rows)


def life(rows, time_scale=1.0):
    return find_idle_life(rows, 10, time_scale)


def test_a_life_lies_between_the_longest_gap_that_kept_and_the_shortest_that_lost_an_environment():
    found = life(scheduled((0, "cold"), (5, "warm"), (11, "warm"), (20, "cold"), (28, "cold")))
    assert found.gaps == 4
    assert found.minutes == pytest.approx((6 - 1 / 60, 8 - 3 / 60))


def test_a_lab_that_shortens_time_counts_by_its_own_clock():
    found = life(scheduled((0, "cold"), (0.5, "warm"), (1.5, "cold")), time_scale=10.0)
    assert found.minutes == pytest.approx((10 * (0.5 - 1 / 60), 10 * (1 - 3 / 60)))


def test_what_no_gap_shows_is_what_has_been_observed_of_aws():
    assert life(scheduled((0, "cold"), (10, "cold"))).minutes == (5.0, pytest.approx(9.95))
    assert life(scheduled((0, "cold"), (10, "warm"))).minutes == (pytest.approx(10 - 1 / 60), 60.0)
    assert life(scheduled((0, "cold"), (2, "cold"))).minutes[0] <= 2.0


def test_lives_that_differ_give_the_range_in_which_they_do():
    found = life(scheduled((0, "cold"), (10, "warm"), (16, "cold")))
    assert found.minutes == pytest.approx((6 - 3 / 60, 10 - 1 / 60))


@pytest.mark.parametrize(
    "columns",
    [{"protocol": "forced"}, {"experiment": "warm"}, {"first_after_deploy": True}, {"init_status": "ahead"}],
)
def test_starts_that_say_nothing_of_a_life_are_left_out(columns):
    assert life(scheduled((0, "cold"), (10, "cold"), (20, "cold"), **columns)) is None


def test_a_gap_after_a_call_that_failed_or_whose_end_is_unknown_says_nothing():
    rows = scheduled((0, "cold"), (5, "cold"), (15, "warm"))
    first = pl.col("call_id") == "call-0"
    failed = pl.when(first).then(pl.lit("timeout")).otherwise(pl.col("outcome"))
    assert life(rows).gaps == 2
    assert life(rows.with_columns(outcome=failed)).gaps == 1
    second = pl.col("call_id") == "call-1"
    lost = pl.when(second).then(None).otherwise(pl.col("duration_ms"))
    # The environment idled from the second call on, which left no report: the first gap alone is known.
    assert life(rows.with_columns(duration_ms=lost)).longest_kept is None


def test_a_gap_between_two_windows_says_nothing():
    found = life(scheduled((0, "cold"), (10, "warm"), (100, "warm"), (110, "warm")))
    assert found.gaps == 2
    assert found.longest_kept < 11


def test_an_end_of_the_range_that_no_gap_shows_is_called_assumed():
    assert life(scheduled((0, "cold"), (10, "warm"))).source.endswith("; the upper end is assumed")
    assert life(scheduled((0, "cold"), (10, "cold"))).source.endswith("; the lower end is assumed")
    assert "assumed" not in life(scheduled((0, "cold"), (5, "warm"), (15, "cold"))).source
