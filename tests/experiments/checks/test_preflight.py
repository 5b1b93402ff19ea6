"""Checks before a run: each finding says what to do."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.aws.cloud import Cloud, CredentialFacts
from core.configuration import read_configuration
from core.run.records import EndpointFacts, LimitsInForce
from experiments.checks.preflight import (
    NONCE_VARIABLE,
    check_clock_offset,
    check_concurrency,
    check_credentials,
    check_endpoint,
    check_fargate,
    check_function,
    check_gateway,
    check_images,
    check_provisioned,
    check_snapshot,
    expected_expression,
    try_connection,
)
from tests.lab_support import refusing_port

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


@pytest.mark.parametrize(
    ("status", "reason", "level", "said"),
    [
        ("IN_PROGRESS", "", "warning", "The run waits"),
        ("FAILED", "no model", "problem", "FAILED: no model"),
        ("", "", "problem", "has no provisioned concurrency"),
    ],
)
def test_provisioned_environments_that_are_not_ready_are_named(status, reason, level, said):
    (finding,) = check_provisioned(VARIANT, CONFIGURATION, status, reason)
    assert finding.level == level
    assert said in str(finding)
    assert check_provisioned(VARIANT, CONFIGURATION, "READY", "") == []


def test_a_region_without_snapstart_for_container_images_shows_before_the_first_call():
    (finding,) = check_snapshot(VARIANT, CONFIGURATION, on=False)
    assert finding.level == "problem"
    assert "this region may lack SnapStart for container images" in finding.advice
    assert check_snapshot(VARIANT, CONFIGURATION, on=True) == []


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


def routes(timeout_ms, authorization="NONE"):
    integration = {"type": "AWS_PROXY"} | ({"timeoutInMillis": timeout_ms} if timeout_ms else {})
    methods = {"GET": {"methodIntegration": integration, "authorizationType": authorization}}
    return [{"path": "/"}, *({"path": v.route, "resourceMethods": methods} for v in CONFIGURATION.variants)]


def test_a_gateway_of_other_routes_or_another_timeout_than_configured_is_a_problem():
    assert [finding.level for finding in check_gateway(routes(29_000), CONFIGURATION)] == ["ok"]
    assert [finding.level for finding in check_gateway(routes(None), CONFIGURATION)] == ["ok"]  # the API's own default
    (finding,) = check_gateway(routes(1500), CONFIGURATION)
    assert (finding.level, "1500 ms" in finding.found) == ("problem", True)
    (finding,) = check_gateway(routes(29_000)[:-1], CONFIGURATION)
    assert (finding.level, CONFIGURATION.variants[-1].route in finding.found) == ("problem", True)
    assert finding.advice
    (finding,) = check_gateway(routes(29_000, "AWS_IAM"), CONFIGURATION)
    assert (finding.level, "auth is iam" in finding.found) == ("problem", True)


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


HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("is_fixed", "left_s", "level", "said"),
    [
        (False, None, "ok", "from sso"),
        (True, None, "warning", "their end is not known; the run takes about 3.0 h"),
        (True, 1 * HOUR_S, "problem", "end in 1.0 h; the run takes about 3.0 h"),
        (True, 3.1 * HOUR_S, "problem", "end in 3.1 h"),
        (True, -5.0, "problem", "end in 0 min"),
        (True, 4 * HOUR_S, "ok", "end in 4.0 h"),
    ],
)
def test_credentials_that_end_before_the_run_are_a_problem(is_fixed, left_s, level, said):
    ends_at = None if left_s is None else datetime.fromtimestamp(NOW + left_s, UTC)
    credentials = CredentialFacts("env" if is_fixed else "sso", is_fixed=is_fixed, ends_at=ends_at)
    finding = check_credentials(credentials, now=NOW, run_s=3 * HOUR_S)
    assert finding.level == level
    assert said in finding.found
    assert bool(finding.advice) == (level != "ok")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, CredentialFacts("env", is_fixed=False, ends_at=None)),
        ({"AWS_SESSION_TOKEN": "t"}, CredentialFacts("env", is_fixed=True, ends_at=None)),
        (
            {"AWS_SESSION_TOKEN": "t", "AWS_CREDENTIAL_EXPIRATION": "2099-01-02T03:04:05Z"},
            CredentialFacts("env", is_fixed=True, ends_at=datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ),
    ],
)
def test_the_end_of_credentials_is_read_from_where_they_come_from(monkeypatch, variables, expected):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", **variables}.items():
        monkeypatch.setenv(name, value)
    assert Cloud().credentials() == expected


def test_a_connection_is_tried_as_the_experiments_open_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert try_connection(f"http://127.0.0.1:{port}/v1").level == "ok"
    with refusing_port() as port:
        assert "ConnectionRefusedError" in try_connection(f"http://127.0.0.1:{port}/v1").found


def test_a_certificate_that_is_not_trusted_is_a_problem_that_names_the_setting(monkeypatch):
    def refuse(*_, **__):
        raise ssl.SSLCertVerificationError("self-signed certificate in certificate chain")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        finding = try_connection(f"https://127.0.0.1:{server.getsockname()[1]}/v1")
    assert "self-signed" in finding.found
    assert "AWS_CA_BUNDLE" in finding.advice


def test_a_load_on_more_vcpu_than_the_account_may_run_is_refused_and_a_lab_has_none():
    assert check_fargate(6, 5, in_lab=False).level == "ok"
    found = check_fargate(6, 20, in_lab=False)
    assert (found.level, "take 21 vCPU" in found.found, "L-3032A538" in found.advice) == ("problem", True, True)
    assert "omit --on fargate" in check_fargate(0, 1, in_lab=True).advice
