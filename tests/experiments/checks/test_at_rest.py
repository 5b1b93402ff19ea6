"""What a deployment costs at rest, by hand-made sums."""

from __future__ import annotations

import pytest

from core.configuration import parse_configuration, read_configuration
from core.money.prices import read_prices
from core.paths import BENCHMARK_TOML
from experiments.__main__ import main
from experiments.checks.at_rest import rest_costs
from experiments.plan import steps

PRICES = read_prices()


def planned_calls(configuration):
    return sum(step.cold_calls + step.warm_calls for step in all_steps(configuration))


def all_steps(configuration):
    return steps(configuration, ("cold", "warm", "load"))


def costs_of(configuration):
    planned = all_steps(configuration)
    return {cost.what: cost for cost in rest_costs(configuration, planned, PRICES)}


def test_images_logs_dashboard_and_alarms_are_what_costs_at_rest():
    configuration = read_configuration(profile="")
    costs = costs_of(configuration)
    assert set(costs) == {"images in ECR", "logs", "dashboard", "everything else"}
    assert costs["images in ECR"].monthly_usd == pytest.approx(3 * 0.5 * 0.10)
    # 2 KB per call, stored at 0.03 USD/GB
    assert costs["logs"].monthly_usd == pytest.approx(planned_calls(configuration) * 2e-6 * 0.03)
    assert costs["dashboard"].monthly_usd == 3.0
    assert costs["everything else"].monthly_usd == 0.0


def test_alarms_are_priced_by_their_metrics_and_a_dashboard_that_is_off_is_not():
    text = BENCHMARK_TOML.read_text(encoding="utf-8")
    text = text.replace('notify_email = ""', 'notify_email = "a@example.org"').replace(
        "dashboard = true", "dashboard = false"
    )
    costs = costs_of(parse_configuration(text))
    assert costs["alarms"].monthly_usd == pytest.approx(18 * 2 * 0.10)
    assert "dashboard" not in costs


def test_provisioned_environments_cost_whether_called_or_not():
    text = BENCHMARK_TOML.read_text(encoding="utf-8")
    text = text.replace('starts = ["on_demand"]', 'starts = ["on_demand", "provisioned"]').replace(
        "\nconcurrency = 1", "\nconcurrency = 2"
    )
    configuration = parse_configuration(text)
    gb = 3 * sum(configuration.matrix.memory_sizes_mb) / 1024
    cost = costs_of(configuration)["provisioned environments"]
    assert cost.monthly_usd == pytest.approx(2 * gb * 730 * 3600 * 0.0000041667)
    assert cost.how.startswith("2 in each of 18 functions")


def test_estimate_needs_neither_credentials_nor_a_deployment(monkeypatch, capsys):
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["estimate"]) == 0
    said = capsys.readouterr().out
    assert "images in ECR" in said
    assert f"{planned_calls(read_configuration(profile='')):,}" in said
