"""What a plan will cost, and what a run has cost."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.configuration import Configuration, read_configuration
from core.money.charges import provisioned_usd, restore_usd, snapshot_usd
from core.money.prices import read_prices
from core.run.records import NEVER_INVOKED, OUTCOMES, PROVISIONED, ClientRecord
from experiments.checks.spend import (
    SpendMeter,
    billed_ms_bound,
    billed_ms_in,
    capacity_usd,
    estimate,
    expected_billed_ms,
    forced_update_usd,
    longest_billed_ms,
    total,
    whole_plan,
)
from experiments.plan import Step, steps

CONFIGURATION = read_configuration(profile="")
PRICES = read_prices({"x86_64_gb_second_usd": 1e-5})


def record(**changes):
    values = {
        "run_id": "r",
        "call_id": "c",
        "experiment": "cold",
        "protocol": "forced",
        "trigger": "invoke",
        "variant": "mobilenet-tensorflow-x86_64-1024",
        "model": "mobilenet",
        "engine": "tensorflow",
        "architecture": "x86_64",
        "memory_mb": 1024,
        "intended_at": 1.0,
        "client_latency_ms": 1500.2,
        "outcome": "ok",
    }
    return ClientRecord(**values | changes)


@pytest.mark.parametrize(
    ("log", "billed_ms"),
    [
        ("REPORT RequestId: 1 Duration: 1049.63 ms\tBilled Duration: 2344 ms\tMemory Size: 512 MB", 2344),
        ("REPORT RequestId: 1\tBilled Duration: 1 ms\nREPORT RequestId: 2\tBilled Duration: 7 ms\tStatus: timeout", 7),
        ('{"type":"platform.report","record":{"metrics":{"billedDurationMs":812,"durationMs":811.2}}}', 812),
        ('{"type": "platform.report", "record": {"metrics": {"billedDurationMs": 812}}}', 812),
        ("START RequestId: 1 Version: $LATEST\nno report yet", None),
    ],
)
def test_billed_time_is_read_from_a_log_of_either_format(log, billed_ms):
    assert billed_ms_in(log) == billed_ms


@given(outcome=st.sampled_from(OUTCOMES), latency_ms=st.none() | st.floats(0, 130_000))
def test_what_a_caller_saw_bounds_what_was_billed(outcome, latency_ms):
    variant = CONFIGURATION.variants[0]
    call = record(outcome=outcome, client_latency_ms=latency_ms)
    bound = billed_ms_bound(call, configuration=CONFIGURATION, variant=variant)
    if outcome in NEVER_INVOKED:
        assert bound == 0
    elif outcome == "pending":
        assert bound == expected_billed_ms(CONFIGURATION, variant, cold=True)
    elif outcome in ("gateway_timeout", "connection", "missing") or latency_ms is None:
        # Nobody waited for the function to end, so it may have run until its timeout, after the longest init there is.
        assert bound == 130_000
    else:
        assert latency_ms <= bound <= latency_ms + 1


def test_the_meter_prefers_billed_time_and_says_when_the_limit_is_reached():
    meter = SpendMeter(CONFIGURATION, PRICES)
    meter.add(record(), billed_ms=1000)
    assert meter.spent_usd == pytest.approx(1e-5 + 2e-7)
    meter.add(record(outcome="throttled"))
    assert meter.spent_usd == pytest.approx(1e-5 + 2e-7)
    assert not meter.reached
    meter.limit_usd = meter.spent_usd
    assert meter.reached


def test_an_asynchronous_call_is_counted_as_expected_until_its_log_says_what_was_billed():
    meter = SpendMeter(CONFIGURATION, PRICES)
    variant = next(v for v in CONFIGURATION.variants if v.key == record().variant)
    meter.add(record(outcome="pending", trigger="schedule", client_latency_ms=None))
    assert meter.spent_usd > 0
    meter.correct(variant, assumed_ms=expected_billed_ms(CONFIGURATION, variant, cold=True), billed_ms=1000)
    assert meter.spent_usd == pytest.approx(1e-5 + 2e-7)


def test_a_call_that_lambda_refused_costs_the_gateways_fee_and_one_never_sent_nothing():
    meter = SpendMeter(CONFIGURATION, PRICES)
    meter.add(record(outcome="dropped", trigger="api"))
    assert meter.spent_usd == 0
    meter.add(record(outcome="throttled", trigger="api"))
    assert meter.spent_usd == pytest.approx(3.5e-6)


@given(data=st.data(), limit_usd=st.floats(1e-4, 0.2))
def test_a_run_that_stops_at_its_limit_never_costs_more_than_its_upper_bound(data, limit_usd):
    variant = CONFIGURATION.variants[0]
    together, rounds = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    calls = together * rounds
    step = Step("cold", f"burst-{together}", variant, calls, 0, through_gateway=False, under_way=together)
    upper_usd = estimate(step, CONFIGURATION, PRICES).upper_usd(limit_usd)
    meter = SpendMeter(CONFIGURATION, PRICES)
    meter.limit_usd = limit_usd
    longest_ms = longest_billed_ms(CONFIGURATION.function.timeout_s)
    one_call = record(variant=variant.key, memory_mb=variant.memory_mb)
    for _ in range(rounds):
        if meter.reached:
            break
        for billed_ms in data.draw(st.lists(st.floats(0, longest_ms), min_size=together, max_size=together)):
            meter.add(one_call, billed_ms=billed_ms)
    assert meter.spent_usd <= upper_usd * (1 + 1e-9)


def test_the_bound_of_a_whole_plan_is_its_limit_and_what_may_be_under_way():
    planned = steps(CONFIGURATION, ("cold", "warm", "load"))
    figures = [(step, estimate(step, CONFIGURATION, PRICES)) for step in planned]
    whole = total([one for _, one in figures])
    # The fires of all schedules are under way side by side, the loads one after another.
    fires_usd = sum(one.under_way_usd for step, one in figures if step.protocol == "scheduled")
    load_usd = max(one.under_way_usd for step, one in figures if step.experiment == "load")
    assert whole.under_way_usd == pytest.approx(max(fires_usd, load_usd))
    assert whole.upper_usd(5.0) == 5.0 + whole.under_way_usd < whole.longest_usd
    assert whole.upper_usd(10_000.0) == whole.longest_usd
    # 2000 calls in flight, as max_in_flight allows, and those of the seconds until the load has stopped.
    assert max(step.under_way for step in planned) == 2000 + 5 * 100


@given(cold=st.integers(0, 1000), warm=st.integers(0, 1000))
def test_no_plan_is_expected_to_cost_more_than_its_upper_bound(cold, warm):
    for variant in CONFIGURATION.variants:
        step = Step("warm", "sequential", variant, cold, warm, through_gateway=True, under_way=2)
        figures = estimate(step, CONFIGURATION, PRICES)
        assert figures.calls == cold + warm
        assert 0 <= figures.expected_usd <= figures.longest_usd
        assert figures.upper_usd(0.0) <= figures.longest_usd
        assert figures.duration_s >= 0


def test_a_plan_with_snapstart_pays_for_its_snapshots_and_restores():
    on_demand = CONFIGURATION.variants[0]
    snapstart = replace(on_demand, start="snapstart")
    step = Step("cold", "forced", snapstart, 12, 0, through_gateway=False, under_way=1, forced_updates=12)
    figures = estimate(step, CONFIGURATION, PRICES)
    assert figures.expected_usd > 12 * (snapshot_usd(512, PRICES) + restore_usd(512, PRICES))
    assert figures.expected_usd <= figures.longest_usd
    assert estimate(replace(step, variant=on_demand), CONFIGURATION, PRICES).expected_usd < figures.expected_usd
    meter = SpendMeter(CONFIGURATION, PRICES)
    meter.add_forced_update(on_demand)
    assert meter.spent_usd == 0
    meter.add_forced_update(snapstart)
    assert snapshot_usd(512, PRICES) < meter.spent_usd < figures.under_way_usd


def provisioned(concurrency: int) -> Configuration:
    """One function of the default matrix with provisioned concurrency."""
    matrix = CONFIGURATION.matrix.model_copy(
        update={"starts": ("provisioned",), "models": ("mobilenet",), "memory_sizes_mb": (1024,)}
    )
    table = CONFIGURATION.provisioned.model_copy(update={"concurrency": concurrency})
    return CONFIGURATION.model_copy(update={"matrix": matrix, "provisioned": table})


def test_a_plan_with_provisioned_concurrency_pays_for_the_environments_while_it_lasts():
    configuration = provisioned(3)
    planned = steps(configuration, ("cold", "warm", "load"))
    added_up = total([estimate(step, configuration, PRICES) for step in planned])
    whole = whole_plan(planned, configuration, PRICES)
    kept_usd = provisioned_usd(1024, 3, added_up.duration_s, "x86_64", PRICES)
    assert whole.expected_usd - added_up.expected_usd == pytest.approx(kept_usd)
    assert whole.longest_usd - added_up.longest_usd == pytest.approx(kept_usd)
    # 12 environments of the warm experiment, each of which is published and initialized three times over.
    (warm,) = [step for step in planned if step.experiment == "warm"]
    assert warm.cold_calls == 0
    init_usd = forced_update_usd(configuration, warm.variant, PRICES)
    assert init_usd == pytest.approx(3 * forced_update_usd(provisioned(1), warm.variant, PRICES))
    assert capacity_usd(CONFIGURATION, 3600.0, PRICES) == 0


def test_at_most_counts_the_environments_that_scaling_may_keep():
    fixed = provisioned(1)
    table = fixed.provisioned.model_copy(update={"track_up_to": 50})
    scaled = fixed.model_copy(update={"provisioned": table})
    planned = steps(scaled, ("warm",))
    more_usd = provisioned_usd(1024, 49, whole_plan(planned, scaled, PRICES).duration_s, "x86_64", PRICES)
    assert whole_plan(planned, scaled, PRICES).expected_usd == whole_plan(planned, fixed, PRICES).expected_usd
    difference_usd = whole_plan(planned, scaled, PRICES).longest_usd - whole_plan(planned, fixed, PRICES).longest_usd
    assert difference_usd == pytest.approx(more_usd)


def test_a_run_counts_its_provisioned_environments_from_the_first_call_to_the_last():
    configuration = provisioned(2)
    meter = SpendMeter(configuration, PRICES)
    for moment_s in (1000.0, 1600.0, 1300.0, 4600.0):
        meter.add(record(variant=configuration.variants[0].key, intended_at=moment_s, outcome="dropped"))
    assert meter.spent_usd == pytest.approx(provisioned_usd(1024, 2, 3600.0, "x86_64", PRICES))


def test_a_call_in_a_provisioned_environment_has_a_price_of_its_own():
    configuration = provisioned(1)
    (variant,) = configuration.variants
    expected_usd = PRICES.call_usd(1024, 1501, "x86_64", through_gateway=False, provisioned=True)

    def counted_usd(initialization):
        meter = SpendMeter(configuration, PRICES)
        said = SimpleNamespace(initialization=initialization, cold=False)
        meter.add(record(variant=variant.key).model_copy(update={"handler": said}))
        return meter.spent_usd

    assert counted_usd(PROVISIONED) == pytest.approx(expected_usd)
    assert counted_usd("on-demand") == pytest.approx(PRICES.call_usd(1024, 1501, "x86_64", through_gateway=False))
    (warm,) = steps(configuration, ("warm",))
    on_demand = replace(warm, variant=replace(variant, start="on_demand"), forced_updates=0)
    provisioned_only = replace(warm, forced_updates=0)
    assert estimate(provisioned_only, configuration, PRICES).expected_usd > 0
    assert (
        estimate(provisioned_only, configuration, PRICES).expected_usd
        < estimate(on_demand, configuration, PRICES).expected_usd
    )


def test_a_forced_update_of_provisioned_concurrency_has_a_call_on_demand_besides():
    configuration = provisioned(1)
    cold = configuration.experiments.cold.model_copy(update={"protocols": ("forced",)})
    experiments = configuration.experiments.model_copy(update={"cold": cold})
    configuration = configuration.model_copy(update={"experiments": experiments})
    planned = steps(configuration, ("cold",))
    samples = cold.forced_samples
    assert [(one.protocol, one.cold_calls, one.warm_calls, one.forced_updates) for one in planned] == [
        ("forced", 0, samples, samples),
        ("spillover", samples, 0, 0),
    ]


def test_more_memory_never_makes_a_call_expected_to_take_longer():
    for model in CONFIGURATION.matrix.models:
        times = [expected_billed_ms(CONFIGURATION, v, cold=True) for v in CONFIGURATION.variants if v.model == model]
        assert times == sorted(times, reverse=True)


def test_each_repeat_of_a_load_on_fargate_starts_tasks_of_its_own():
    load, price = CONFIGURATION.experiments.load, read_prices()
    experiments = CONFIGURATION.experiments.model_copy(update={"load": load.model_copy(update={"repeats": 3})})
    once, thrice = (
        estimate(steps(one, ["load"], workers=4)[0], one, price)
        for one in (CONFIGURATION, CONFIGURATION.model_copy(update={"experiments": experiments}))
    )
    assert thrice.calls == 3 * once.calls
    assert thrice.duration_s >= 3 * once.duration_s
    assert thrice.expected_usd == pytest.approx(3 * once.expected_usd)
