"""The plan: what is called, in which order, under which ids."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.configuration import PILOT_CALLS, WarmTable, read_configuration
from core.variants import Variant
from experiments.plan import (
    GIVE_UP_AFTER,
    Series,
    all_series,
    bursts,
    deciding_on,
    forced_calls,
    gave_up,
    planned_environments,
    scheduled_call,
    shuffled,
    steps,
    still_to_make,
    windows,
)
from loadtests.plan import planned_arrivals

CONFIGURATION = read_configuration(profile="")
VARIANTS = tuple(
    Variant(model, "tensorflow", "x86_64", memory_mb)
    for model in ("resnet50", "inceptionv3", "mobilenet")
    for memory_mb in (1024, 1769, 3008)
)


def every_call(seed):
    yield from forced_calls(VARIANTS, 5, seed)
    yield from forced_calls(VARIANTS, 5, seed, through_gateway=True)
    for burst in bursts(VARIANTS, (1, 10), 3, seed):
        yield from burst.calls
    for variant in VARIANTS:
        yield from (scheduled_call(variant, number) for number in range(12))
        for connection in ("kept", "new"):
            series = Series(variant, connection)
            yield from (series.warmup(environment, number) for environment in range(2) for number in range(3))
            yield from (series.sample(number // 5, number) for number in range(10))


@given(st.integers(0, 2**63))
def test_every_call_has_an_id_of_its_own_and_the_same_one_whenever_it_is_planned(seed):
    ids = [call.call_id for call in every_call(seed)]
    assert len(ids) == len(set(ids))
    assert ids == [call.call_id for call in every_call(seed)]
    # Another seed is another order of the same calls.
    assert sorted(ids) == sorted(call.call_id for call in every_call(seed + 1))


def test_a_call_that_found_no_connection_is_left_to_make_under_an_id_of_its_own():
    ok, lost, lost_twice, mended, failed, never = calls = forced_calls(VARIANTS, 1, seed=1)[:6]
    outcomes = {
        ok.call_id: "ok",
        lost.call_id: "connection",
        lost_twice.call_id: "connection",
        f"{lost_twice.call_id}-again-1": "connection",
        mended.call_id: "connection",
        f"{mended.call_id}-again-1": "ok",
        failed.call_id: "error",
    }
    left = still_to_make(calls, outcomes)
    assert [call.call_id for call in left] == [
        f"{lost.call_id}-again-1",
        f"{lost_twice.call_id}-again-2",
        never.call_id,
    ]
    assert [call.variant for call in left] == [lost.variant, lost_twice.variant, never.variant]
    assert still_to_make(calls, {}) == calls


@given(st.integers(0, 2**63))
def test_every_round_of_forced_calls_visits_every_variant_once(seed):
    calls = forced_calls(VARIANTS, 4, seed)
    for number in range(4):
        visited = [call.variant for call in calls[number * len(VARIANTS) : (number + 1) * len(VARIANTS)]]
        assert sorted(visited) == sorted(VARIANTS)


def test_rounds_have_orders_of_their_own_so_that_drift_falls_on_all_variants_alike():
    calls = forced_calls(VARIANTS, 60, seed=7)
    first_places = Counter(calls[number * len(VARIANTS)].variant for number in range(60))
    # 60 rounds, 9 variants: each is first about 7 times; none always, none never.
    assert set(first_places) == set(VARIANTS)
    assert max(first_places.values()) < 20


def test_an_order_depends_on_seed_and_scope_alone():
    items = list(range(50))
    assert shuffled(items, 1, "warm", 3) == shuffled(items, 1, "warm", 3)
    assert shuffled(items, 1, "warm", 3) != shuffled(items, 1, "warm", 4)
    assert shuffled(items, 1, "warm", 3) != shuffled(items, 2, "warm", 3)


def test_the_calls_of_a_burst_share_a_group_that_no_other_burst_has():
    planned = bursts(VARIANTS, (1, 10, 50), 2, seed=3)
    groups = [{call.group for call in burst.calls} for burst in planned]
    assert all(len(group) == 1 for group in groups)
    assert len(set.union(*groups)) == len(planned) == len(VARIANTS) * 3 * 2
    assert Counter(burst.size for burst in planned) == {1: 18, 10: 18, 50: 18}


@given(
    interval_s=st.floats(1, 86_400),
    counts=st.lists(st.integers(0, 20), min_size=len(VARIANTS), max_size=len(VARIANTS)),
)
def test_schedules_start_spread_over_one_interval_and_end_after_their_last_fire(interval_s, counts):
    now = 1_790_000_000.0
    remaining = {variant: (5, count) for variant, count in zip(VARIANTS, counts, strict=True)}
    planned = windows(VARIANTS, remaining=remaining, now=now, interval_s=interval_s)
    assert [window.variant for window in planned] == [v for v in VARIANTS if remaining[v][1]]
    starts = [window.start_at for window in planned]
    assert starts == sorted(starts)
    assert all(now <= start < now + interval_s for start in starts)
    for window in planned:
        fires = list(window.fires())
        assert len(fires) == window.count
        assert fires[-1][1] < window.end_at < fires[-1][1] + interval_s
        assert [call.call_id for call, _ in fires] == [
            scheduled_call(window.variant, 5 + number).call_id for number in range(window.count)
        ]


def with_load(configuration, **changes):
    load = configuration.experiments.load.model_copy(update=changes)
    experiments = configuration.experiments.model_copy(update={"load": load})
    return configuration.model_copy(update={"experiments": experiments})


def test_a_plan_counts_every_repeat_of_a_load_but_of_a_search_which_is_made_once():
    configuration = read_configuration(profile="")
    once, thrice, search = (
        steps(with_load(configuration, **changes), ["load"])[0]
        for changes in ({"repeats": 1}, {"repeats": 3}, {"repeats": 3, "shape": "search"})
    )
    assert (once.cold_calls, once.forced_updates) == (1, 0)
    assert (thrice.cold_calls, thrice.forced_updates, thrice.fixed_s) == (3, 3, 3 * once.fixed_s)
    assert thrice.warm_calls + thrice.cold_calls == 3 * (once.warm_calls + once.cold_calls)
    assert (search.cold_calls, search.forced_updates) == (1, 0)


def test_a_plan_counts_every_call_that_it_will_make():
    configuration = read_configuration(profile="")
    cold, warm = configuration.experiments.cold, configuration.experiments.warm
    planned = steps(configuration, ("cold", "warm", "load"), time_scale=13.0)
    calls = Counter()
    for step in planned:
        calls[step.experiment] += step.cold_calls + step.warm_calls
    variants = len(configuration.variants)
    assert calls["cold"] == variants * cold.duration_minutes // cold.interval_minutes
    assert calls["warm"] == variants * len(warm.connections) * (warm.environments * warm.warmups + warm.samples)
    assert calls["load"] == variants * (configuration.experiments.load.warmups + planned_arrivals(configuration))
    assert len(all_series(configuration)) == variants * len(warm.connections)
    scheduled_s = sum(step.fixed_s for step in planned if step.protocol == "scheduled")
    assert scheduled_s == pytest.approx(cold.duration_minutes * 60 / 13.0)


@given(st.integers(1, 60), st.integers(0, 2000))
def test_samples_are_split_over_every_environment_as_evenly_as_they_can_be(environments, more):
    warm = CONFIGURATION.experiments.warm.model_copy(
        update={"environments": environments, "samples": environments + more, "until_ci_percent": 0.0}
    )
    sizes = planned_environments(warm, None)
    assert len(sizes) == environments
    assert sum(sizes) == warm.samples
    assert max(sizes) - min(sizes) <= 1
    numbers = [warm.environment_of(number) for number in range(warm.samples)]
    assert numbers == [number for number, size in enumerate(sizes) for _ in range(size)]


def test_a_plan_until_decided_counts_what_a_decision_is_expected_to_take_and_its_bound_what_it_may_take():
    warm = CONFIGURATION.experiments.warm
    deciding = warm.model_copy(update={"until_decided": True, "connections": ("kept", "new")})
    configuration = CONFIGURATION.model_copy(
        update={"experiments": CONFIGURATION.experiments.model_copy(update={"warm": deciding})}
    )
    step = steps(configuration, ("warm",))[0]
    sizes = planned_environments(deciding, deciding_on(configuration, "kept")[1])
    assert step.cold_calls == len(sizes) > warm.environments
    pilot = warm.environments * (PILOT_CALLS + warm.warmups)
    assert step.cold_calls + step.warm_calls == sum(sizes) + len(sizes) * warm.warmups + pilot
    further = warm.max_samples - sum(sizes)
    # At worst each further environment has as few samples as those of the pilot, and its warm-ups besides.
    assert step.further_calls == further + math.ceil(further / PILOT_CALLS) * warm.warmups
    assert planned_environments(*deciding_on(configuration, "new")) == [PILOT_CALLS] * warm.environments


def test_a_plan_until_decided_replaces_environments_even_if_it_begins_with_one():
    """Calls of one environment never decide."""
    deciding = CONFIGURATION.experiments.warm.model_copy(update={"until_decided": True, "environments": 1})
    configuration = CONFIGURATION.model_copy(
        update={"experiments": CONFIGURATION.experiments.model_copy(update={"warm": deciding})}
    )
    step = steps(configuration, ("warm",))[0]
    assert step.forced_updates == step.cold_calls > 1


def test_a_bound_below_the_pilot_is_refused():
    values = CONFIGURATION.experiments.warm.model_dump() | {"samples": 12, "max_samples": 30, "until_decided": True}
    with pytest.raises(ValidationError, match="must be at least 144"):
        WarmTable.model_validate(values)


@pytest.mark.parametrize(
    ("experiment", "outcomes", "expected"),
    [
        ("cold", [], False),
        ("cold", ["out_of_memory"] * (GIVE_UP_AFTER - 1), False),
        ("cold", ["out_of_memory"] * GIVE_UP_AFTER, True),
        ("warm", ["ok", "timeout", "error", "init_timeout"], True),
        ("warm", ["out_of_memory", "out_of_memory", "ok"], False),
        ("warm", ["throttled"] * 10, False),
        ("cold", ["pending"] * 10, False),
        ("warm", ["connection"] * 10, False),
        # What exceeds the gateway's patience from cold is the sample that was asked for; warm, it can't be measured.
        ("cold", ["gateway_timeout"] * 10, False),
        ("warm", ["gateway_timeout"] * GIVE_UP_AFTER, True),
    ],
)
def test_a_variant_is_given_up_after_failures_that_another_try_would_not_mend(experiment, outcomes, expected):
    assert gave_up(experiment, outcomes) is expected
