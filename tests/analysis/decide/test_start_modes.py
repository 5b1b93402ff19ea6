"""Start modes side by side: what a restore is taken for, what it costs, and which answer follows."""

from __future__ import annotations

import pytest

from analysis.estimate.cells import Measured
from analysis.estimate.measured_calls import samples_of
from analysis.report.tables.choice import knees_table
from analysis.summary import Summary
from core.configuration import Configuration, GoalTable, TrafficTable, read_configuration
from core.money.charges import SECONDS_PER_MONTH, provisioned_usd, snapstart_usd
from core.money.prices import read_prices
from tests.analysis import synthetic

PRICES = read_prices()


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    """One model and size, on demand and with SnapStart, for traffic so rare that most calls start an environment."""
    both = synthetic.with_starts(
        synthetic.smaller(read_configuration(profile="demo"), memory_sizes_mb=(1769,)), ("on_demand", "snapstart")
    )
    matrix = both.matrix.model_copy(update={"models": ("mobilenet",)})
    goal = GoalTable(limit_ms=1200.0, max_bad_share=0.2, min_top1_accuracy=0.0)
    traffic = TrafficTable(requests_per_day=100, daily_shape="flat", idle_minutes=5)
    return both.model_copy(update={"matrix": matrix, "goal": goal, "traffic": traffic})


@pytest.fixture(scope="module")
def summary(configuration: Configuration) -> Summary:
    rows = synthetic.make_rows(configuration, cold_samples=40, warm_samples=80, load_rps=2)
    return synthetic.summary_of(configuration, rows)


def test_restores_are_cold_starts_of_a_variant_of_their_own(summary: Summary) -> None:
    on_demand, restored = [
        cell for cell in summary.cells if (cell.experiment, cell.start_type) == ("cold", "cold") and cell.n
    ]
    assert summary.variants[restored.variant].start == "snapstart"
    assert {"restore_ms"} <= set(restored.metrics)
    assert "init_ms" not in restored.metrics
    assert "restore_ms" not in on_demand.metrics
    waited = restored.metrics["total_ms"].p50.value
    assert waited is not None
    assert waited > (restored.metrics["restore_ms"].p50.value or 0.0)
    for ratio in summary.cold_ratios:
        if ratio.variant == restored.variant:
            assert ratio.evidence.get("restore_duration", 0) == ratio.cold


def test_each_start_mode_has_a_knee_of_its_own(summary: Summary) -> None:
    rows = knees_table(summary).rows
    assert [row.cells[0].text for row in rows] == [
        "MobileNet on ONNX Runtime", "MobileNet on ONNX Runtime with SnapStart",
    ]  # fmt: skip
    assert len({row.attributes["engine"] for row in rows}) == 2


def test_a_month_with_snapstart_pays_for_the_snapshot_and_each_restore(summary: Summary) -> None:
    months = {(summary.variants[month.variant].start, month.strategy): month for month in summary.monthly}
    assert {strategy for start, strategy in months if start == "snapstart"} == {"snapstart"}
    assert {strategy for start, strategy in months if start == "on_demand"} == {
        "on_demand", "provisioned_concurrency", "warm_pings",
    }  # fmt: skip
    month = months["snapstart", "snapstart"]
    restores = month.requests * (month.expected_cold_share or 0.0)
    cache_usd, restores_usd = snapstart_usd(1769, SECONDS_PER_MONTH, restores, PRICES)
    assert (month.parts["snapstart_cache"], month.parts["snapstart_restore"]) == pytest.approx(
        (cache_usd, restores_usd)
    )
    assert month.usd == pytest.approx(sum(month.parts.values()))
    assert not any(summary.variants[point.variant].start == "snapstart" for point in summary.break_even)


def test_a_cold_prediction_with_snapstart_includes_its_restore(summary: Summary) -> None:
    cold = {summary.variants[cost.variant].start: cost for cost in summary.costs if cost.start_type == "cold"}
    _, restore_usd = snapstart_usd(1769, 0, 1, PRICES)
    assert cold["snapstart"].parts["restore"] == pytest.approx(restore_usd * 1e6)
    assert cold["snapstart"].parts["init"] == 0
    assert cold["snapstart"].usd.value == pytest.approx(sum(cold["snapstart"].parts.values()))
    assert "restore" not in cold["on_demand"].parts


def test_the_answer_may_be_a_function_with_snapstart(configuration: Configuration) -> None:
    alone = synthetic.with_starts(configuration, ("snapstart",))
    rows = synthetic.make_rows(alone, cold_samples=40, warm_samples=80, load_rps=2)
    best = synthetic.summary_of(alone, rows).recommendation
    assert best.strategy == "snapstart"
    assert {one.verdict for one in best.constraints} == {"meets"}
    assert "SnapStart 1769 MB" in best.headline


def test_the_simulation_draws_restores_from_what_was_measured(configuration: Configuration) -> None:
    rows = synthetic.frame(synthetic.make_rows(configuration, cold_samples=10, warm_samples=10, load_rps=1))
    on_demand, snapstart = configuration.variants
    found, other = (samples_of(Measured(rows), one.key) for one in (snapstart, on_demand))
    assert found is not None
    assert other is not None
    assert len(found.restored.busy_ms) >= 9
    assert (found.restored.busy_ms > 400).all()
    assert len(found.cold.busy_ms) == len(other.restored.busy_ms) == 0


@pytest.fixture(scope="module")
def kept(configuration: Configuration) -> Configuration:
    """The same function on demand, and with two provisioned environments."""
    provisioned = configuration.provisioned.model_copy(update={"concurrency": 2})
    changed = synthetic.with_starts(configuration, ("on_demand", "provisioned"))
    return changed.model_copy(update={"provisioned": provisioned})


@pytest.fixture(scope="module")
def kept_summary(kept: Configuration) -> Summary:
    rows = synthetic.make_rows(kept, cold_samples=40, warm_samples=80, load_rps=20)
    return synthetic.summary_of(kept, rows)


def test_first_calls_in_provisioned_environments_stand_apart_from_those_that_spill_over(kept_summary: Summary) -> None:
    key = next(key for key, variant in kept_summary.variants.items() if variant.start == "provisioned")
    by_protocol = {
        (cell.protocol, cell.start_type): cell for cell in kept_summary.breakdown if cell.variant == key and cell.n
    }
    first, spilled = by_protocol["forced", "warm"], by_protocol["spillover", "cold"]
    assert (first.n, spilled.n) == (3, 3)
    assert "init_ms" in spilled.metrics
    assert "init_ms" not in first.metrics
    waited = [cell.metrics["total_ms"].p50.value or 0.0 for cell in (first, spilled)]
    assert waited[0] * 5 < waited[1]
    evidence = {one.protocol: one.evidence for one in kept_summary.cold_ratios if one.variant == key}
    assert evidence["forced"] == {"initialised_ahead": 3}
    codes = {warning.code: warning for warning in kept_summary.warnings}
    assert {"scheduled_but_warm", "initialised_ahead"} & {
        code for code, warning in codes.items() if key in warning.variants
    } == set(), "that is what provisioned concurrency is for"
    assert codes["spilled_over"].variants == (key,)


def test_a_month_with_provisioned_concurrency_is_priced_once_and_at_the_number_deployed(
    kept: Configuration, kept_summary: Summary
) -> None:
    months = [month for month in kept_summary.monthly if kept_summary.variants[month.variant].start == "provisioned"]
    (month,) = months
    assert (month.strategy, month.environments) == ("provisioned_concurrency", 2)
    assert month.parts["provisioned"] == pytest.approx(provisioned_usd(1769, 2, SECONDS_PER_MONTH, "x86_64", PRICES))
    assert month.usd == pytest.approx(sum(month.parts.values()))
    assert {
        one.strategy for one in kept_summary.monthly if kept_summary.variants[one.variant].start == "on_demand"
    } == {"on_demand", "provisioned_concurrency", "warm_pings"}
    alone = synthetic.with_starts(kept, ("provisioned",))
    rows = synthetic.make_rows(alone, cold_samples=40, warm_samples=80, load_rps=2)
    best = synthetic.summary_of(alone, rows).recommendation
    assert best.strategy == "provisioned_concurrency"
    assert "provisioned concurrency 1769 MB" in best.headline


def test_a_warm_prediction_in_a_provisioned_environment_bears_its_share_of_the_capacity(
    kept: Configuration, kept_summary: Summary
) -> None:
    costs = {(kept_summary.variants[cost.variant].start, cost.start_type): cost for cost in kept_summary.costs}
    warm, cold = costs["provisioned", "warm"], costs["provisioned", "cold"]
    requests = kept_summary.monthly[0].requests
    capacity = provisioned_usd(1769, 2, SECONDS_PER_MONTH, "x86_64", PRICES) / requests * 1e6
    assert warm.parts["provisioned"] == pytest.approx(capacity)
    assert warm.usd.value == pytest.approx(sum(warm.parts.values()))
    used = (warm.gb_seconds or 0.0) * PRICES["x86_64_provisioned_duration_gb_second_usd"]
    assert warm.parts["compute"] == pytest.approx(used)
    assert "provisioned" not in cold.parts
    assert "provisioned" not in costs["on_demand", "warm"].parts


def test_scaled_concurrency_is_said_where_its_price_is_not_in_the_figures(kept: Configuration) -> None:
    tracked = kept.provisioned.model_copy(update={"track_up_to": 4})
    scaled = kept.model_copy(update={"provisioned": tracked})
    rows = synthetic.make_rows(scaled, cold_samples=6, warm_samples=10, load_rps=1)
    codes = {warning.code for warning in synthetic.summary_of(scaled, rows).warnings}
    assert "scaled_concurrency" in codes
    assert "scaled_concurrency" not in {warning.code for warning in synthetic.summary_of(kept, rows).warnings}


@pytest.mark.parametrize("shared", [False, True])
def test_ids_that_several_environments_answer_are_reported(configuration: Configuration, shared: bool) -> None:
    rows = synthetic.make_rows(configuration, cold_samples=6, warm_samples=10, load_rps=1)
    key = configuration.variants[1].key
    for row in rows:
        if shared and row["variant"] == key and row["environment_id"] is not None:
            row["environment_id"] = "made at init"
    warnings = {warning.code: warning for warning in synthetic.summary_of(configuration, rows).warnings}
    assert ("shared_random_state" in warnings) == shared
    if shared:
        assert warnings["shared_random_state"].variants == (key,)
        assert warnings["shared_random_state"].caps_verdicts
