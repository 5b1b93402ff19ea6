"""What decides about a variant, and how often that is wrong however often one looks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.statistics.deciding import (
    CALLS_OF_AN_ENVIRONMENT,
    WRONG_IN,
    Counted,
    EnvironmentCalls,
    Goal,
    calls_of_next,
    cheapest_plan,
    costs_more,
    decide,
    expected_plan,
    log_evidence,
    shows,
)

GOAL = Goal(limit_ms=1000.0, max_bad_share=0.01)


def alike(environments, calls, *, bad=0, handler_ms=20.0):
    """Environments that answer at 100 ms; the first ones have the bad calls."""
    return [
        EnvironmentCalls([2000.0 if place < bad else 100.0 for place in range(calls)], [handler_ms] * calls)
        for _ in range(environments)
    ]


@pytest.mark.parametrize(("limit", "below"), [(0.05, True), (0.05, False)])
def test_a_look_after_every_call_is_wrong_no_more_often_than_one_look_may_be(limit, below):
    """At the limit itself neither side is true; 200 runs at 2.5% have more than 12 such errors in 1 of 500 cases."""
    wrong = 0
    for seed in range(200):
        source, hits = random.Random(seed), 0
        for n in range(1, 250):
            hits += source.random() < limit
            if log_evidence(hits, n - hits, limit, below=below) >= 3.69:
                wrong += 1
                break
    assert wrong <= 12
    assert pytest.approx(0.025) == WRONG_IN


def test_failures_are_decided_soon_and_their_absence_takes_hundreds_of_calls():
    assert decide(alike(8, 12, bad=4), GOAL) == "fails"
    assert decide(alike(8, 12), GOAL) is None
    assert decide(alike(14, 60), GOAL) == "meets"


def test_calls_of_one_environment_never_decide():
    assert decide(alike(1, 5000), GOAL) is None
    assert decide(alike(1, 5000, bad=3000), GOAL) is None


def test_environments_that_differ_move_the_limit():
    """950 ms is within the limit of 1000 ms, but not where environments lie 20% apart."""
    far = [EnvironmentCalls([latency] * 100) for latency in (700.0, 950.0) * 5]
    near = [EnvironmentCalls([latency] * 100) for latency in (100.0, 101.0) * 5]
    assert decide(far, GOAL) is None
    assert decide(near, GOAL) == "meets"


@given(st.floats(0, 0.3), st.integers(2, 40), st.integers(2, 60), st.floats(0, 0.3))
def test_a_plan_decides_if_calls_go_on_as_they_did(share, environments, calls, correlation):
    seen = Counted(share, environments * calls, environments, correlation)
    plan = cheapest_plan(seen, GOAL, 3000)
    if plan is not None:
        more, each = plan
        assert more * each <= 3000
        assert each in CALLS_OF_AN_ENVIRONMENT
        assert shows(seen.with_more(more, each), GOAL, "meets" if share < GOAL.allowed_warm else "fails")


def test_many_short_environments_are_planned_where_these_differ_and_few_long_ones_where_they_do_not():
    _, same = cheapest_plan(Counted(0.05, 96, 8, 0.0), GOAL, 4000)
    _, differing = cheapest_plan(Counted(0.05, 96, 8, 0.5), GOAL, 4000)
    assert differing < same


def test_the_expected_plan_decides_and_starts_with_the_pilot():
    sizes = expected_plan(8, GOAL, 2000)
    assert sizes[:8] == [12] * 8
    assert shows(Counted(0.0, sum(sizes), len(sizes), 0.0), GOAL, "meets")
    assert 0 < calls_of_next(alike(8, 12), GOAL, 5) <= 5


def test_a_variant_costs_more_only_where_more_is_shown():
    cheap, dear = alike(8, 12, handler_ms=20.0), alike(8, 12, handler_ms=30.0)
    for place, one in enumerate([*cheap, *dear]):
        one.handler_ms = [value * (1 + 0.02 * (place % 4)) for value in one.handler_ms]
    assert costs_more(dear, cheap, 1.0)
    close = next(ratio / 1000 for ratio in range(1000, 2000) if costs_more(cheap, cheap, ratio / 1000))
    assert not costs_more(cheap, cheap, close, rivals=20), "rivals share the chance of an error"
    assert costs_more(cheap, cheap, 2.0), "as fast at twice the memory costs twice as much"
    assert not costs_more(cheap, cheap, 1.01)
    assert not costs_more(cheap, dear, 1.0)
    assert not costs_more(dear[:4], cheap[:4], 1.0), "too few environments to tell"
