"""What keeps a deployment closed, and what linters of others say of the templates."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.paths import REPOSITORY
from core.variants import API_OUTPUTS, KEY_OUTPUT
from tests.stacks.conftest import application, build, synthesise, template_of
from tests.stacks.test_stacks import resources

EMAIL = "someone@example.org"
EVERYTHING = {
    "load_tasks": "true",
    "notify_email": f'"{EMAIL}"',
    "allowed_cidrs": '["192.0.2.0/24", "2001:db8::/32"]',
    "access_logs": "true",
    "reserved_concurrency": "5",
    "log_key_arn": '"arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"',
}
EVERY_START = {
    **EVERYTHING,
    "starts": '["on_demand", "snapstart", "provisioned"]',
    "track_up_to": "3",
    "schedule": '[["cron(0 7 ? * MON-FRI *)", 2]]',
}
SIGNED_LOAD = {**EVERYTHING, "auth": '"iam"', "models": '["mobilenet"]', "memory_sizes_mb": "[1769]"}
# cfn-lint: CDK adds an edge to the role's policies, which for inline policies is the role itself.
CFN_LINT_IGNORED = ("W3005",)
CHECKOV = "checkov==3.3.30"  # its pins are not ours, so that it gets an environment of its own
CHECKOV_SKIPPED = {
    "CKV_AWS_116": "a call that failed is a result; nobody replays it",
    "CKV_AWS_117": "the functions reach nothing, so that a VPC would protect nothing and change the cold start",
    "CKV_AWS_76": "gateway logs need a role of the whole account, which is not ours to set",
    "CKV_AWS_73": "tracing would add to the latency that is measured",
    "CKV_AWS_120": "a cache would answer instead of the model",
    "CKV_AWS_18": "records lie in the bucket for minutes, and the load's own log names who wrote them",
    "CKV_AWS_21": "as above: an older version of a record file is of no use",
    "CKV_AWS_65": "the records say what each worker did; Container Insights costs per metric",
    "CKV_AWS_26": "CloudWatch cannot publish to a topic that AWS's own key encrypts",
}

# What the default leaves to the account's owner; with everything on, nothing of it is left.
CHECKOV_BY_CHOICE = {
    "CKV_AWS_158": "AWS encrypts logs with its own key; one of yours costs 1 USD per month (`function.log_key_arn`)",
    "CKV_AWS_115": "a reservation takes concurrency from other functions (`function.reserved_concurrency`)",
}


@pytest.fixture(scope="module", params=[{}, EVERY_START, SIGNED_LOAD], ids=["default", "everything_on", "signed_load"])
def assembly(request, configure, tmp_path_factory):
    """A folder of templates and what was chosen for them; synthesis raises where cdk-nag finds something."""
    directory = tmp_path_factory.mktemp("assembly")
    lab = application(directory)
    build(lab, configure(**request.param))
    lab.synth()
    return directory, request.param


def test_cdk_nag_finds_nothing_that_is_not_acknowledged_with_a_reason(assembly):
    assert list(assembly[0].glob("*.template.json"))


def test_a_rule_that_nobody_acknowledged_fails_the_synthesis(configure):
    from aws_cdk import aws_sns as sns

    lab = application()
    stack = build(lab, configure("brief"))
    sns.Topic(stack, "Open")  # takes messages without TLS
    with pytest.raises(RuntimeError, match=r"ValidationFailed(?s:.*)AwsSolutions-SNS3"):
        lab.synth()


@pytest.mark.slow
def test_cfn_lint_finds_nothing(assembly):
    templates = sorted(assembly[0].glob("*.template.json"))
    command = [Path(sys.executable).parent / "cfn-lint", "--ignore-checks", *CFN_LINT_IGNORED, "--", *templates]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_checkov_finds_nothing(assembly):
    directory, changes = assembly
    uv = [Path(sys.executable).parent / "uv", "tool", "run", "--from", CHECKOV, "checkov"]
    if subprocess.run([*uv, "--version"], capture_output=True, check=False, cwd=REPOSITORY).returncode:
        pytest.skip(f"{CHECKOV} cannot be installed here")
    command = [
        *uv,
        "--directory",
        directory,
        "--framework",
        "cloudformation",
        "--compact",
        "--quiet",
        "--output",
        "json",
    ]
    command += ["--skip-download"]  # of its makers' guidelines
    skipped = CHECKOV_SKIPPED if changes else CHECKOV_SKIPPED | CHECKOV_BY_CHOICE
    command += ["--skip-check", ",".join(skipped)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    checks = found.get("results", {}).get("failed_checks", []) if isinstance(found, dict) else found
    assert [(one["check_id"], one["check_name"], one["resource"]) for one in checks] == []
    assert done.returncode == 0, done.stderr


def test_allowed_networks_are_the_only_ones_that_the_endpoint_lets_in(configure):
    (api,) = resources(synthesise(configure(**EVERYTHING))["Endpoints"], "AWS::ApiGateway::RestApi")
    (statement,) = api["Policy"]["Statement"]
    assert statement["Effect"] == "Allow"
    assert statement["Condition"] == {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}}


def test_signed_calls_need_an_identity_and_no_key_and_come_from_allowed_networks_alone(configure):
    """An identity of the account needs no permission of the resource policy: other networks have to be denied."""
    configuration = configure(**SIGNED_LOAD)
    templates = synthesise(configuration)
    endpoints = templates["Endpoints"]
    (method,) = resources(endpoints, "AWS::ApiGateway::Method")
    assert (method["AuthorizationType"], method["ApiKeyRequired"]) == ("AWS_IAM", False)
    for kind in ("AWS::ApiGateway::ApiKey", "AWS::ApiGateway::UsagePlan"):
        endpoints.resource_count_is(kind, 0)
    (stage,) = resources(endpoints, "AWS::ApiGateway::Stage")
    assert stage["MethodSettings"][0]["ThrottlingRateLimit"] == configuration.gateway_rate_rps
    (api,) = resources(endpoints, "AWS::ApiGateway::RestApi")
    (statement,) = api["Policy"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}}
    outputs = templates["Root"].to_json()["Outputs"]
    assert {f"{role}Tensorflow" for role in API_OUTPUTS} <= set(outputs)
    assert f"{KEY_OUTPUT}Tensorflow" not in outputs


def test_without_allowed_networks_the_endpoint_has_no_policy(templates):
    (api,) = resources(templates["Endpoints"], "AWS::ApiGateway::RestApi")
    assert "Policy" not in api


def test_access_logs_name_who_asked_for_what_and_are_off_by_default(configure, templates):
    (stage,) = resources(templates["Endpoints"], "AWS::ApiGateway::Stage")
    assert "AccessLogSetting" not in stage
    configuration = configure(access_logs="true", log_retention_days="30")
    endpoints = synthesise(configuration)["Endpoints"]
    (group,) = resources(endpoints, "AWS::Logs::LogGroup")
    assert group["LogGroupName"] == configuration.names.access_log_group("tensorflow")
    assert group["RetentionInDays"] == 30
    (stage,) = resources(endpoints, "AWS::ApiGateway::Stage")
    assert {"ip", "status", "resourcePath"} <= set(json.loads(stage["AccessLogSetting"]["Format"]))


def test_a_text_that_is_no_network_is_refused(configure):
    with pytest.raises(ConfigurationError, match=r"gateway.allowed_cidrs.*10.0.0.1/99"):
        configure(allowed_cidrs='["10.0.0.1/99"]')


def test_log_groups_are_encrypted_by_the_key_that_is_configured(configure):
    groups = resources(synthesise(configure(**EVERYTHING))["Functions"], "AWS::Logs::LogGroup")
    assert {group["KmsKeyId"] for group in groups} == {EVERYTHING["log_key_arn"].strip('"')}


def test_each_function_reserves_what_is_configured(configure, templates):
    functions = resources(synthesise(configure(**EVERYTHING))["Functions"], "AWS::Lambda::Function")
    assert {function["ReservedConcurrentExecutions"] for function in functions} == {5}
    without = resources(templates["Functions"], "AWS::Lambda::Function")
    assert all("ReservedConcurrentExecutions" not in function for function in without)


@pytest.mark.parametrize(("reserved", "said"), [("0", "use all the concurrency"), ("6", "18 functions x .* 6 = 108")])
def test_reservations_above_the_ceiling_are_refused_before_synthesis(configure, reserved, said):
    with pytest.raises(ConfigurationError, match=said):
        synthesise(configure(reserved_concurrency=reserved, max_concurrency="100"))


def alerts_of(configuration):
    return template_of(build(application(), configuration).node.find_child("Alerts"))


def test_alarms_watch_errors_and_throttles_of_every_function(configure):
    from stacks.alerts import METRICS_PER_ALARM

    configuration = configure(**EVERYTHING)
    watched = {"Errors": set(), "Throttles": set()}
    for alarm in resources(alerts_of(configuration), "AWS::CloudWatch::Alarm"):
        assert alarm["AlarmActions"]
        metrics = [one["MetricStat"]["Metric"] for one in alarm["Metrics"] if "MetricStat" in one]
        assert len(metrics) <= METRICS_PER_ALARM
        for metric in metrics:
            (dimension,) = metric["Dimensions"]
            watched[metric["MetricName"]].add(dimension["Value"])
    functions = {configuration.names.function(variant) for variant in configuration.variants}
    assert watched == {"Errors": functions, "Throttles": functions}


def test_the_budget_is_told_before_it_is_spent(configure):
    (budget,) = resources(alerts_of(configure(**EVERYTHING)), "AWS::Budgets::Budget")
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 50, "Unit": "USD"}
    notifications = budget["NotificationsWithSubscribers"]
    assert {(n["Notification"]["NotificationType"], n["Notification"]["Threshold"]) for n in notifications} == {
        ("ACTUAL", 80),
        ("FORECASTED", 100),
    }
    assert {s["Address"] for n in notifications for s in n["Subscribers"]} == {EMAIL}


def test_a_budget_of_zero_is_none(configure):
    alerts_of(configure(**EVERYTHING, monthly_budget_usd="0")).resource_count_is("AWS::Budgets::Budget", 0)


def test_parts_that_are_switched_off_are_not_deployed(configure):
    stack = build(application(), configure(dashboard="false"))
    assert {child.node.id for child in stack.node.children} & {"Monitoring", "Alerts"} == set()
