"""The load test second by second and as a whole."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from analysis.estimate.load_test import make_load_seconds, make_load_totals

VARIANT = "mobilenet-onnxruntime-x86_64-1769"
COUNTS = ("offered", "sent", "answered", "ok", "dropped", "late")


def load(started_at, due_s, latency_s=0.25):
    """The calls of one load, and a warm-up call before it."""
    key = f"load-{VARIANT}-{started_at * 1000:.0f}"
    return [
        {
            "call_id": f"{key}-{number}" if number >= 0 else f"load-{VARIANT}-{started_at * 1000 - 1:.0f}-0",
            "experiment": "load",
            "variant": VARIANT,
            "protocol": "linear",
            "warmup": number < 0,
            "outcome": "ok",
            "start_type": "warm",
            "intended_at": started_at + after_s,
            "sent_at": started_at + after_s,
            "answered_at": started_at + after_s + latency_s,
        }
        for number, after_s in enumerate([-1.0, *due_s], start=-1)
    ]


@given(
    st.lists(st.integers(0, 39), min_size=2, max_size=20, unique=True),
    st.lists(st.integers(0, 1000), min_size=1, max_size=4),
)
def test_repeated_loads_lie_on_one_another_and_none_changes_a_rate(quarters, pauses_s):
    due_s = [quarter / 4 for quarter in sorted(quarters)]
    starts = [1000.0]
    for pause_s in pauses_s:
        starts.append(starts[-1] + 20 + pause_s)
    once = pl.DataFrame(load(starts[0], due_s))
    repeated = pl.DataFrame([row for started_at in starts for row in load(started_at, due_s)])
    (one,), (all_of_them,) = (make_load_totals(rows, {VARIANT: None}, 10.0) for rows in (once, repeated))
    assert (one.repeats, all_of_them.repeats) == (1, len(starts))
    assert all_of_them.offered_rps == one.offered_rps
    assert all_of_them.duration_s == one.duration_s * len(starts)
    assert list(all_of_them.started_at) == [started_at + due_s[0] for started_at in starts]
    of_one, of_all = (make_load_seconds(rows, {VARIANT: None}, 10.0) for rows in (once, repeated))
    assert [second.second for second in of_all] == [second.second for second in of_one]
    for added, single in zip(of_all, of_one, strict=True):
        assert [getattr(added, key) for key in COUNTS] == [len(starts) * getattr(single, key) for key in COUNTS]
