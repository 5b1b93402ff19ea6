"""Checks before a run: each finding says what to do."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.configuration import read_configuration
from core.records import EndpointFacts, LimitsInForce
from experiments.checks.preflight import (
    NONCE_VARIABLE,
    check_clock_offset,
    check_concurrency,
    check_endpoint,
    check_function,
    check_gateway,
    check_images,
    expected_expression,
)

CONFIGURATION = read_configuration(profile="")
VARIANT = CONFIGURATION.variants[0]
NOW = 1_790_000_000.4


def deployed(**changes):
    return {
        "MemorySize": VARIANT.memory_mb,
        "Timeout": CONFIGURATION.function.timeout_s,
        "Architectures": [VARIANT.architecture],
        "State": "Active",
        "LastUpdateStatus": "Successful",
    } | changes


def check(found, reserved=None):
    return check_function(VARIANT, found, CONFIGURATION, reserved)


def test_a_function_as_configured_gives_no_finding():
    assert check(deployed()) == []


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        ({"MemorySize": 999}, "problem", "MemorySize is 999, benchmark.toml says 512"),
        ({"Timeout": 3}, "problem", "Timeout is 3"),
        ({"Architectures": ["arm64"]}, "problem", "Architectures is ['arm64']"),
        ({"State": "Inactive"}, "problem", "Inactive"),
        ({"State": "Failed", "StateReason": "no image"}, "problem", "no image"),
        ({"State": "Pending"}, "problem", "Pending"),
        ({"LastUpdateStatus": "InProgress"}, "problem", "InProgress"),
        ({"Environment": {"Variables": {NONCE_VARIABLE: "x"}}}, "warning", NONCE_VARIABLE),
    ],
)
def test_each_difference_of_a_function_is_named_with_what_to_do(change, level, said):
    (finding,) = check(deployed(**change))
    assert (finding.level, said in finding.found or said in str(finding)) == (level, True)
    assert finding.advice


def test_a_missing_function_says_how_to_deploy_it_and_what_a_new_account_allows():
    (finding,) = check(None)
    assert finding.level == "problem"
    assert "cdk deploy" in finding.advice
    large = VARIANT.__class__(VARIANT.model, VARIANT.engine, VARIANT.architecture, 4096)
    (finding,) = check_function(large, None, CONFIGURATION, None)
    assert "3008 MB" in finding.advice


def test_reserved_concurrency_is_pointed_out_because_it_throttles():
    (finding,) = check(deployed(), reserved=5)
    assert finding.level == "warning"
    assert "throttled" in finding.found


def routes(timeout_ms):
    integration = {"type": "AWS_PROXY"} | ({"timeoutInMillis": timeout_ms} if timeout_ms else {})
    methods = {"GET": {"methodIntegration": integration}}
    return [{"path": "/"}, *({"path": v.route, "resourceMethods": methods} for v in CONFIGURATION.variants)]


def test_a_gateway_of_other_routes_or_another_timeout_than_configured_is_a_problem():
    assert [finding.level for finding in check_gateway(routes(29_000), CONFIGURATION)] == ["ok"]
    assert [finding.level for finding in check_gateway(routes(None), CONFIGURATION)] == ["ok"]  # the API's own default
    (finding,) = check_gateway(routes(1500), CONFIGURATION)
    assert (finding.level, "1500 ms" in finding.found) == ("problem", True)
    (finding,) = check_gateway(routes(29_000)[:-1], CONFIGURATION)
    assert (finding.level, CONFIGURATION.variants[-1].route in finding.found) == ("problem", True)
    assert finding.advice


def test_memory_sizes_of_one_model_must_run_one_image():
    by_model = {v: f"image-of-{v.model}" for v in CONFIGURATION.variants}
    assert check_images(by_model) == []
    (finding,) = check_images(by_model | {VARIANT: "an older image"})
    assert (finding.level, finding.subject) == ("problem", f"image of {VARIANT.model} ({VARIANT.engine})")


@given(offset_s=st.floats(-1e6, 1e6), took_s=st.floats(0, 5))
def test_a_clock_is_never_blamed_for_less_than_the_answer_can_prove(offset_s, took_s):
    # The Date header is cut to the second, and was written at some moment during the request.
    theirs = NOW + took_s / 2 + offset_s
    finding = check_clock_offset(formatdate(int(theirs), usegmt=True), NOW, NOW + took_s)
    if abs(offset_s) <= 2:
        assert finding.level == "ok"
    if abs(offset_s) >= 300 + took_s + 1:
        assert finding.level == "problem"
    if finding.level != "ok":
        assert finding.advice


def test_a_date_that_cannot_be_read_is_said():
    assert check_clock_offset("", NOW, NOW).level == "warning"


def test_concurrency_below_what_burst_and_load_ask_for_is_pointed_out_for_each():
    cold = CONFIGURATION.experiments.cold.model_copy(update={"protocols": ("burst",)})
    experiments = CONFIGURATION.experiments.model_copy(update={"cold": cold})
    configuration = CONFIGURATION.model_copy(update={"experiments": experiments})
    findings = check_concurrency(10, configuration, ("cold", "warm", "load"))
    assert [finding.level for finding in findings] == ["warning", "problem"]
    assert "burst needs 50" in findings[0].found
    assert "100 requests/s" in findings[1].found
    assert [finding.level for finding in check_concurrency(40, configuration, ("load",))] == ["warning"]
    assert [finding.level for finding in check_concurrency(1000, configuration, ("cold", "load"))] == ["ok"]
    assert [finding.level for finding in check_concurrency(1, configuration, ("warm",))] == ["ok"]


def test_a_lab_that_enforces_nothing_says_so():
    def facts(cpu, memory):
        return EndpointFacts(
            source="lab",
            endpoint_url="http://localhost:1",
            account_id="1",
            region="us-east-1",
            host="h",
            limits=LimitsInForce(driver="process", cpu=cpu, memory=memory, freezer="none"),
        )

    assert check_endpoint(facts("cgroup-v1", "cgroup-v1")) == []
    (finding,) = check_endpoint(facts("none", "none"))
    assert "cpu and memory" in finding.found
    assert "lab doctor" in finding.advice


def test_rate_expressions_are_those_that_the_deployed_schedules_carry():
    import aws_cdk
    from aws_cdk import aws_scheduler

    for minutes in (1, 2, 10, 59, 60, 90, 120, 1440):
        rate = aws_scheduler.ScheduleExpression.rate(aws_cdk.Duration.minutes(minutes))
        assert expected_expression(minutes) == rate.expression_string
