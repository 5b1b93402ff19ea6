"""The answer is about callers: every outcome counts, and what was not measured is never taken for good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.decide.callers import Condition, Waits, bad_share, calls_to_decide, verdict
from analysis.decide.recommend import Candidate, Question, linear_cost, make_options, recommend
from analysis.estimate.environments import Sample
from analysis.estimate.traffic import CallMix, CallProfile, Traffic
from core.configuration import GoalTable, read_configuration
from core.money.prices import read_prices
from core.variants import Variant
from tests.analysis import synthetic

CONFIGURATION = synthetic.smaller(read_configuration(profile=""), models=("mobilenet",), memory_sizes_mb=(1024, 1769))
GOAL = GoalTable(limit_ms=500, max_bad_share=0.01, min_top1_accuracy=0.70, max_cold_share=0.05)
TRAFFIC = Traffic.of(33_000, "business_hours", 10)
MIX = CallMix(cold=0.001, alone=0.95, concurrent=0.049)


def spread_over(environments, values):
    return Sample.of(values, np.arange(len(values)) % environments)


def with_failures(sample, failed):
    """The sample and so many failed calls, spread over its environments: their callers wait without end."""
    where = np.arange(failed) % max(1, sample.environment_count)
    return Sample.of(
        np.concatenate([sample.values, np.full(failed, np.inf)]), np.concatenate([sample.environments, where])
    )


def candidate(
    memory_mb=1024, *, latency_ms=30.0, billed_ms=20.0, n=1200, failed=0, load_failed=0, environments=8, accuracy=0.704
):
    random = np.random.default_rng(memory_mb)
    variant = Variant(model="mobilenet", engine="tensorflow", architecture="x86_64", memory_mb=memory_mb)
    billed = spread_over(environments, np.ceil(billed_ms * random.lognormal(0, 0.05, n)))
    warm = spread_over(environments, latency_ms * random.lognormal(0, 0.05, n))
    cold = Sample.of(np.full(20, 3000.0))
    return Candidate(
        variant=variant,
        profile=CallProfile(variant.key, memory_mb, "x86_64", float(billed.values.mean()), 3000.0, 1000.0),
        conditions=(
            Waits("cold", cold, "cold experiment").condition(GOAL.limit_ms),
            Waits("alone", with_failures(warm, failed), "warm experiment").condition(GOAL.limit_ms),
            Waits("concurrent", with_failures(warm, load_failed), "load").condition(GOAL.limit_ms),
        ),
        warm_billed_ms=billed,
        cold_billed_ms=cold,
        top1_accuracy=accuracy,
    )


def question(goal=GOAL, traffic=TRAFFIC, **more):
    return Question(goal, traffic, read_prices(), "here", 1, **more)


def decide(*candidates, goal=GOAL, **more):
    return recommend(candidates, question(goal, **more))


def demand(found, name="bad_share"):
    return {constraint.variant: constraint for constraint in found.constraints if constraint.name == name}


def test_the_cheapest_variant_that_meets_every_demand_wins():
    found = decide(candidate(1024, billed_ms=20), candidate(2048, billed_ms=18), candidate(3008, billed_ms=17))
    assert found.variant == "mobilenet-tensorflow-x86_64-1024"
    assert found.provisional == ()
    assert found.probability_best[found.variant] > 0.99
    assert found.bad_share.high <= GOAL.max_bad_share


def test_a_cheaper_variant_that_is_too_slow_loses_and_the_constraint_says_by_how_much():
    slow = candidate(512, latency_ms=700, billed_ms=5)
    found = decide(slow, candidate(2048))
    assert found.variant == "mobilenet-tensorflow-x86_64-2048"
    failed = demand(found)[slow.variant.key]
    assert failed.verdict == "fails"
    assert failed.short_by == pytest.approx(failed.found.value - GOAL.max_bad_share)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_failed_calls_count_as_bad_whatever_their_latency(share):
    """30% of calls that end in a 504, a throttle or a lost connection make no recommendation."""
    failing = candidate(512, billed_ms=5, failed=round(1200 * share / (1 - share)))
    found = decide(failing, candidate(2048))
    assert demand(found)[failing.variant.key].verdict == "fails"
    assert found.variant == "mobilenet-tensorflow-x86_64-2048"
    assert decide(failing).variant is None


@pytest.mark.parametrize("outcome", ["gateway_timeout", "connection", "throttled", "error", "timeout"])
def test_every_failed_outcome_of_a_run_counts(outcome):
    rows = synthetic.make_rows(CONFIGURATION, warm_samples=80)
    for place, row in enumerate(rows):
        if row["experiment"] == "warm" and place % 3 == 0:
            row["outcome"] = outcome
    summary = synthetic.summary_of(CONFIGURATION, rows)
    assert {one.verdict for one in demand(summary.recommendation).values()} == {"fails"}


def test_the_load_takes_part_in_the_decision():
    rows = synthetic.make_rows(CONFIGURATION, warm_samples=80, load_rps=20)
    for place, row in enumerate(rows):
        if row["experiment"] == "load":
            row["outcome"] = "throttled" if place % 5 < 2 else row["outcome"]
            row["latency_from_intended_ms"] = 8000.0
    busy = CONFIGURATION.model_copy(
        update={"traffic": CONFIGURATION.traffic.model_copy(update={"requests_per_day": 2_000_000})}
    )
    summary = synthetic.summary_of(busy, rows)
    assert summary.recommendation.variant is None
    assert {one.verdict for one in demand(summary.recommendation).values()} == {"fails"}


def test_cold_starts_take_part_by_their_share_of_the_traffic():
    """At few requests per month cold ones decide: 600 ms warm and 5 s cold are not within 1 s for 99 of 100 callers."""
    goal = GOAL.model_copy(update={"limit_ms": 1000.0})
    rare = Traffic.of(660, "business_hours", 10)
    on_demand = make_options(candidate(latency_ms=600), question(goal, rare))[0]
    assert on_demand.mix.cold > 0.03
    assert on_demand.found.low > GOAL.max_bad_share
    assert {one.name: one.verdict for one in on_demand.constraints}["bad_share"] == "fails"


def test_few_samples_make_the_answer_provisional_and_name_what_would_decide():
    found = decide(candidate(512, n=80, billed_ms=10), candidate(1024))
    assert found.variant == "mobilenet-tensorflow-x86_64-1024"
    assert found.provisional == ()
    rival = found.rivals[0]
    assert rival.variant == "mobilenet-tensorflow-x86_64-512"
    assert 100 < rival.more_calls < 5000
    assert 0 < rival.more_usd < 1
    alone = decide(candidate(512, n=80))
    assert alone.variant is not None
    assert alone.provisional


def test_one_call_says_nothing_of_being_the_cheapest():
    found = decide(candidate(1024, n=1, environments=1))
    assert found.probability_best == {}
    assert found.provisional


def test_calls_of_one_environment_never_decide():
    found = decide(candidate(1024, n=5000, environments=1))
    assert demand(found)[found.variant].verdict == "undetermined"
    assert found.provisional


def test_what_was_not_measured_may_be_anything():
    nothing = Condition("cold", 0, 0, 0.0, 0.0, 0.0, 0, "not measured")
    fine = Waits("alone", Sample.of(np.full(2000, 30.0))).condition(500)
    found = bad_share((nothing, fine, fine), CallMix(cold=0.2, alone=0.7, concurrent=0.1))
    assert found.value is None
    assert found.high > 0.2
    assert "cold" in found.reason


def test_variants_that_cost_the_same_are_tied():
    a, b = candidate(1024, billed_ms=20), candidate(1025, billed_ms=20)
    found = decide(a, b)
    (other,) = {a.variant.key, b.variant.key} - {found.variant}
    assert found.tied == (other,)
    assert sum(found.probability_best.values()) == pytest.approx(1)


def test_memory_sizes_are_not_recommended_where_nothing_enforced_them():
    found = decide(candidate(1024), candidate(2048), comparable=False)
    assert found.variant is None
    assert found.probability_best == {}
    assert decide(candidate(1024), comparable=False).variant is not None, "there is nothing to compare"


def test_a_breach_of_the_data_contract_caps_the_answer_at_provisional():
    found = decide(candidate(1024), breaches=("3 rows share a request id with another row",))
    assert found.variant is not None
    assert found.provisional == ("3 rows share a request id with another row",)


def test_no_variant_that_meets_the_goal_is_said_with_the_nearest_miss():
    strict = GOAL.model_copy(update={"min_top1_accuracy": 0.9})
    found = decide(candidate(1024), candidate(2048, latency_ms=900), goal=strict)
    assert found.variant is None
    assert "MobileNet 1024 MB misses" in found.why[0]


def test_the_free_tier_counts_in_the_draws_as_in_the_answer():
    """The free tier lowers the answer's month, and the line the draws are taken from goes through that month."""
    small = Traffic.of(3_300, "business_hours", 10)
    asked = question(traffic=small, free_tier=True)
    option = make_options(candidate(1024), asked)[0]
    assert option.usd < make_options(candidate(1024), question(traffic=small))[0].usd
    base, by_warm, by_cold = linear_cost(option, asked)
    profile = option.candidate.profile
    assert base + by_warm * profile.warm_billed_ms + by_cold * profile.cold_billed_ms == pytest.approx(option.usd)


@given(st.integers(0, 30), st.integers(1, 3000))
def test_the_melded_interval_of_one_condition_is_clopper_and_pearsons(bad, good):
    values = np.concatenate([np.full(bad, 900.0), np.full(good, 30.0)])
    one = Waits("alone", Sample.of(values)).condition(500)
    empty = Condition("cold", 0, 0, 0.0, 0.0, 0.0, 0, "")
    found = bad_share((empty, one, empty), CallMix(cold=0.0, alone=1.0, concurrent=0.0))
    from analysis.estimate.estimates import share

    exact = share(bad, bad + good)
    assert found.value == pytest.approx(exact.value)
    assert found.low == pytest.approx(exact.low, rel=0.25, abs=2e-3)
    assert found.high == pytest.approx(exact.high, rel=0.1, abs=2e-3)


def test_calls_that_would_decide_do_decide():
    few = Waits("alone", spread_over(8, np.full(80, 30.0))).condition(500)
    conditions = (Condition("cold", 0, 0, 0.0, 0.0, 0.0, 0, ""), few, few)
    more = calls_to_decide(conditions, MIX, 0.01)
    assert more is not None
    wanted = Waits("alone", spread_over(8, np.full(80 + more["alone"], 30.0))).condition(500)
    cold = Waits("cold", Sample.of(np.full(8, 30.0))).condition(500)
    assert verdict(bad_share((cold, wanted, wanted), MIX), 0.01) == "meets"


@pytest.mark.parametrize("profile", ["", "demo"])
def test_the_plan_of_benchmark_toml_decides_a_variant_that_keeps_the_limit(profile):
    """Environments that differ by 5%, slow cold starts, no other bad call, and a load as short as the plan's."""
    plan = read_configuration(profile=profile)
    random, warm, load = np.random.default_rng(1), plan.experiments.warm, plan.experiments.load
    luck = np.exp(0.05 * random.standard_normal(warm.environments))
    where = np.arange(warm.samples) * warm.environments // warm.samples
    alone = Sample.of(100 * luck[where] * random.lognormal(0, 0.15, warm.samples), where)
    loaded = min(300, round(load.duration_s * (load.start_rps + load.end_rps) / 2))
    limit_ms = plan.goal.limit_ms
    base = candidate()
    measured = replace(
        base,
        conditions=(
            Waits("cold", Sample.of(np.full(6, 3000.0)), "cold experiment").condition(limit_ms),
            Waits("alone", alone, "warm experiment").condition(limit_ms),
            Waits("concurrent", spread_over(2, np.full(loaded, 100.0)), "load", like=alone).condition(limit_ms),
        ),
    )
    traffic = Traffic.of(plan.traffic.requests_per_day, plan.traffic.daily_shape, plan.traffic.idle_minutes)
    found = recommend([measured], question(plan.goal, traffic))
    assert found.variant == base.variant.key
    assert found.provisional == ()
