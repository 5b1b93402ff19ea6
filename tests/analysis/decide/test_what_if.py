"""The grid of answers is what the recommendation would say at each of its points."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.decide import what_if as grid_module
from analysis.decide.callers import (
    Waits,
    bad_share,
    bad_share_verdict,
    measured_waits,
    percentile_ms,
    verdict,
)
from analysis.decide.recommend import Question, recommend
from analysis.decide.what_if import what_if
from analysis.estimate.cells import Measured
from analysis.estimate.costs import make_profiles
from analysis.estimate.environments import Sample
from analysis.estimate.run_summary import make_candidates
from analysis.estimate.traffic import CallMix, Traffic
from core.money.prices import read_prices
from tests.analysis.report.builders import demo_configuration
from tests.analysis.synthetic import frame, make_rows

ACCURACIES = {"mobilenet": 0.71, "resnet50": 0.75}


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(grid_module, "REQUESTS_PER_DAY", (300.0, 100_000.0))
    monkeypatch.setattr(grid_module, "BURSTINESS", (1.0, 1000.0))
    monkeypatch.setattr(grid_module, "IDLE_MINUTES", (60.0,))
    monkeypatch.setattr(grid_module, "LIMITS_MS", (20.0, 5000.0))


def asked(**options):
    """Candidates, question and waits of a synthetic run, as `make_summary` makes them."""
    configuration = demo_configuration(models=["mobilenet", "resnet50"], memory_sizes_mb=[1769, 3008])
    rows = make_rows(configuration, load_s=4.0, warm_samples=300, cold_samples=8)
    measured = Measured(frame(rows))
    variants = {variant.key: variant for variant in configuration.variants}
    traffic = Traffic.of(33_000, "business_hours", 10)
    question = Question(configuration.goal, traffic, read_prices(), "here", seed=1, **options)

    def waits_at(peak_rps):
        return {key: measured_waits(measured, key, peak_rps) for key in variants}

    profiles = make_profiles(measured, variants, {}, {})
    limit_ms = configuration.goal.limit_ms

    def candidates_at(peak_rps, limit_ms):
        return make_candidates(measured, variants, profiles, ACCURACIES, waits_at(peak_rps), limit_ms)

    return candidates_at(traffic.peak_rps, limit_ms), question, waits_at, candidates_at


def test_every_point_is_what_the_recommendation_says_there(small_grid):
    candidates, question, waits_at, candidates_at = asked()
    found = what_if(candidates, question, waits_at)
    points = list(product(*found.axes.values()))
    assert len(points) == len(found.answers) == 3 * 2 * 2 * 3
    answers = set()
    for (requests, burstiness, idle_minutes, limit_ms), answer in zip(points, found.answers, strict=True):
        traffic = Traffic(requests, question.traffic.hourly_weights, 60 * idle_minutes, burstiness)
        goal = question.goal.model_copy(update={"limit_ms": limit_ms})
        there = replace(question, traffic=traffic, goal=goal)
        expected = recommend(candidates_at(max(1, int(traffic.peak_rps)), limit_ms), there)
        assert (answer.variant, answer.strategy) == (expected.variant, expected.strategy)
        assert answer.monthly_usd == expected.monthly_usd
        if expected.bad_share is not None:
            assert (answer.missed_low, answer.missed_high) == (expected.bad_share.low, expected.bad_share.high)
        assert answer.meets == (expected.variant is not None and not expected.provisional)
        answers.add((answer.variant, answer.strategy))
    assert len(answers) > 2, "a grid that never changes the answer tests nothing"


def test_the_runs_own_point_is_the_reports_answer(small_grid):
    candidates, question, waits_at, _ = asked()
    found = what_if(candidates, question, waits_at)
    own = (question.traffic.requests_per_day, 1.0, 10.0, question.goal.limit_ms)
    answer = dict(zip(product(*found.axes.values()), found.answers, strict=True))[own]
    best = recommend(candidates, question)
    assert (answer.variant, answer.strategy, answer.monthly_usd) == (best.variant, best.strategy, best.monthly_usd)
    assert answer.missed == best.bad_share.value
    assert answer.strategy_usd[best.strategy] == best.monthly_usd


def test_too_few_samples_give_a_reason_and_no_grid(small_grid):
    candidates, question, waits_at, _ = asked()
    without = what_if([replace(one, profile=None) for one in candidates], question, waits_at)
    assert without.answers == ()
    assert "cold starts" in without.reason
    names_alone = what_if(candidates, replace(question, comparable=False), waits_at)
    assert "memory sizes" in names_alone.reason
    strict = replace(question, goal=question.goal.model_copy(update={"min_top1_accuracy": 0.99}))
    assert "accuracy" in what_if(candidates, strict, waits_at).reason


def test_callers_of_whom_more_than_one_percent_get_no_answer_have_no_p99(small_grid):
    candidates, question, waits_at, _ = asked()
    lenient = replace(question, goal=question.goal.model_copy(update={"max_bad_share": 0.9}))

    def failing_at(peak_rps):
        return {
            key: tuple(replace(part, latency=Sample.of([10.0] * 9 + [float("inf")])) for part in parts)
            for key, parts in waits_at(peak_rps).items()
        }

    found = [answer for answer in what_if(candidates, lenient, failing_at).answers if answer.variant]
    assert found
    assert all(answer.p99_unanswered and answer.p99_ms is None for answer in found)


counts = st.tuples(st.integers(0, 400), st.integers(0, 400)).map(sorted)


@given(st.lists(counts, min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.001, 0.01, 0.3]))
def test_the_quick_verdict_is_that_of_the_interval(parts, cold, concurrent, limit):
    conditions = [
        Waits(name, Sample.of([2000.0] * bad + [10.0] * (n - bad))).condition(1000.0)
        for name, (bad, n) in zip(("cold", "alone", "concurrent"), parts, strict=True)
    ]
    mix = CallMix(cold, (1 - cold) * (1 - concurrent), (1 - cold) * concurrent)
    assert bad_share_verdict(conditions, mix, limit) == verdict(bad_share(conditions, mix), limit)


def test_a_percentile_of_the_mixture_weighs_its_parts():
    waits = (
        Waits("cold", Sample.of([4000.0] * 10), ""),
        Waits("alone", Sample.of([50.0] * 90 + [80.0] * 10), ""),
        Waits("concurrent", Sample.of([]), ""),
    )
    assert percentile_ms(waits, CallMix(0.02, 0.98, 0.0), 0.99) == 4000.0
    assert percentile_ms(waits, CallMix(0.002, 0.998, 0.0), 0.99) == 80.0
    assert percentile_ms(waits, CallMix(0.002, 0.5, 0.498), 0.99) is None
    failed = (Waits("cold", Sample.of([float("inf")]), ""), *waits[1:])
    assert percentile_ms(failed, CallMix(0.02, 0.98, 0.0), 0.99) == float("inf")
