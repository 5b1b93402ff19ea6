"""Start modes side by side: what a restore is taken for, what it costs, and which answer follows."""

from __future__ import annotations

import pytest

from analysis.estimate.cells import Measured
from analysis.estimate.measured_calls import samples_of
from analysis.summary import Summary
from core.charges import SECONDS_PER_MONTH, snapstart_usd
from core.configuration import Configuration, GoalTable, TrafficTable, read_configuration
from core.prices import read_prices
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
    assert best.headline.startswith("MobileNet on ONNX Runtime with SnapStart 1769 MB: $")


def test_the_simulation_draws_restores_from_what_was_measured(configuration: Configuration) -> None:
    rows = synthetic.frame(synthetic.make_rows(configuration, cold_samples=10, warm_samples=10, load_rps=1))
    on_demand, snapstart = configuration.variants
    found, other = (samples_of(Measured(rows), one.key) for one in (snapstart, on_demand))
    assert found is not None
    assert other is not None
    assert len(found.restored.busy_ms) >= 9
    assert (found.restored.busy_ms > 400).all()
    assert len(found.cold.busy_ms) == len(other.restored.busy_ms) == 0


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
