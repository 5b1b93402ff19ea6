"""What the templates say, with every name and count taken from the matrix."""

import itertools
import json
import re
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import ConfigurationError
from core.money.prices import read_prices
from core.variants import API_OUTPUTS, KEY_OUTPUT, MAX_MEMORY_MB, MIN_MEMORY_MB, MODELS
from stacks.limits import (
    MAX_RESOURCES_PER_STACK,
    MAX_VARIANTS_PER_ENGINE,
    RESOURCES_PER_ALIASED_VARIANT,
    RESOURCES_TO_SCALE,
    check_limits,
    check_region,
    most_aliased,
)
from tests.stacks.conftest import application, build, synthesise, template_of

ONE_FUNCTION = {"models": '["mobilenet"]', "memory_sizes_mb": "[1769]"}


def resources(template, kind):
    return [r["Properties"] for r in template.to_json()["Resources"].values() if r["Type"] == kind]


def test_there_is_one_function_a_variant_with_its_own_log_group(templates, configuration):
    functions = resources(templates["Functions"], "AWS::Lambda::Function")
    assert {f["FunctionName"] for f in functions} == {configuration.names.function(v) for v in configuration.variants}
    groups = resources(templates["Functions"], "AWS::Logs::LogGroup")
    assert {g["LogGroupName"] for g in groups} == {configuration.names.log_group(v) for v in configuration.variants}
    assert len(functions) == len(groups) == len(configuration.variants)


def test_functions_carry_memory_timeout_and_json_logs(templates, configuration):
    for variant in configuration.variants:
        templates["Functions"].has_resource_properties(
            "AWS::Lambda::Function",
            {
                "FunctionName": configuration.names.function(variant),
                "MemorySize": variant.memory_mb,
                "Timeout": configuration.function.timeout_s,
                "PackageType": "Image",
                "Architectures": [variant.architecture],
                # WARN would hide platform.start and the report of a call that went well.
                "LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "INFO", "ApplicationLogLevel": "INFO"},
            },
        )


def test_log_groups_expire_and_go_with_the_stack(templates, configuration):
    from aws_cdk.assertions import Match

    templates["Functions"].all_resources(
        "AWS::Logs::LogGroup",
        {
            "DeletionPolicy": "Delete",
            "Properties": Match.object_like({"RetentionInDays": configuration.function.log_retention_days}),
        },
    )


def test_a_failed_asynchronous_call_is_not_tried_again(templates, configuration):
    invoke_configurations = resources(templates["Functions"], "AWS::Lambda::EventInvokeConfig")
    assert [c["MaximumRetryAttempts"] for c in invoke_configurations] == [0] * len(configuration.variants)


def test_variants_of_a_model_share_one_image(templates, configuration):
    images = {}
    for function in resources(templates["Functions"], "AWS::Lambda::Function"):
        images.setdefault(json.dumps(function["Code"]), set()).add(function["FunctionName"])
    assert len(images) == len(configuration.matrix.models)
    assert {len(names) for names in images.values()} == {len(configuration.matrix.memory_sizes_mb)}


@pytest.mark.parametrize(("architecture", "platform"), [("x86_64", "linux/amd64"), ("arm64", "linux/arm64")])
def test_images_are_built_for_the_architecture_from_the_configured_base(configure, architecture, platform):
    configuration = configure(architectures=f'["{architecture}"]', weights='"random"', models='["mobilenet"]')
    lab = application()
    build(lab, configuration)
    assembly = lab.synth()
    assets = Path(assembly.directory, f"{configuration.names.stack}.assets.json").read_text()
    (image,) = json.loads(assets)["dockerImages"].values()
    assert image["source"]["platform"] == platform
    assert image["source"]["dockerBuildArgs"] == {
        "RECORD": configuration.model("mobilenet").build_record("mobilenet"),
        "ENGINE": "tensorflow",
        "WEIGHTS": "random",
    }


def test_functions_may_write_their_logs_and_nothing_else(templates):
    templates["Functions"].resource_count_is("AWS::IAM::Role", 1)
    templates["Functions"].resource_count_is("AWS::IAM::Policy", 0)
    (role,) = resources(templates["Functions"], "AWS::IAM::Role")
    assert "ManagedPolicyArns" not in role
    (statement,) = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
    assert statement["Resource"] != "*"


def routes(template):
    """Paths with a GET method, as the template's resources spell them."""
    all_resources = template.to_json()["Resources"]

    def path(reference):
        logical_id = reference.get("Ref")
        if logical_id is None:  # {"Fn::GetAtt": [api, "RootResourceId"]}
            return ""
        properties = all_resources[logical_id]["Properties"]
        return f"{path(properties['ParentId'])}/{properties['PathPart']}"

    return {
        path(r["Properties"]["ResourceId"]): json.dumps(r["Properties"]["Integration"]["Uri"])
        for r in all_resources.values()
        if r["Type"] == "AWS::ApiGateway::Method"
    }


def test_every_variant_has_its_route_and_no_other_path_has_one(templates, configuration):
    found = routes(templates["Endpoints"])
    assert set(found) == {v.route for v in configuration.variants}
    assert len(set(found.values())) == len(found), "every route has a function of its own"


def test_the_gateway_waits_as_long_as_configured(templates, configure):
    def timeouts_ms(template):
        methods = template.find_resources("AWS::ApiGateway::Method").values()
        return {method["Properties"]["Integration"]["TimeoutInMillis"] for method in methods}

    assert timeouts_ms(templates["Endpoints"]) == {29_000}
    shorter = synthesise(configure(integration_timeout_ms=1500, models='["mobilenet"]'))
    assert timeouts_ms(shorter["Endpoints"]) == {1500}


def test_the_api_is_regional_and_leaves_the_accounts_settings_alone(templates, configuration):
    templates["Endpoints"].has_resource_properties(
        "AWS::ApiGateway::RestApi",
        {"Name": configuration.names.api("tensorflow"), "EndpointConfiguration": {"Types": ["REGIONAL"]}},
    )
    templates["Endpoints"].resource_count_is("AWS::ApiGateway::Account", 0)
    templates["Endpoints"].resource_count_is("AWS::Lambda::Permission", len(configuration.variants))


def test_an_unknown_path_is_a_404_that_names_the_paths_there_are(templates, configuration):
    (answer,) = resources(templates["Endpoints"], "AWS::ApiGateway::GatewayResponse")
    assert answer["ResponseType"] == "MISSING_AUTHENTICATION_TOKEN"
    assert answer["StatusCode"] == "404"
    allowed = json.loads(answer["ResponseTemplates"]["application/json"])["allowed"]
    assert allowed == [variant.route for variant in configuration.variants]


def test_a_client_finds_the_endpoints_and_their_key_by_outputs(templates):
    outputs = templates["Root"].to_json()["Outputs"]
    assert set(outputs) == {f"{role}Tensorflow" for role in (*API_OUTPUTS, KEY_OUTPUT)}


def test_no_route_answers_without_an_api_key(templates):
    methods = resources(templates["Endpoints"], "AWS::ApiGateway::Method")
    assert methods
    assert all(method["ApiKeyRequired"] is True for method in methods)


def test_no_template_holds_the_value_of_a_key(templates):
    (key,) = resources(templates["Endpoints"], "AWS::ApiGateway::ApiKey")
    assert "Value" not in key


@pytest.mark.parametrize(
    ("changes", "rate", "burst"),
    [({}, 200, 1000), ({"end_rps": "900.0"}, 1800, 5000), ({"end_rps": "0.5"}, 200, 1000)],
)
def test_the_usage_plan_and_the_stage_follow_the_peak_of_the_load(configure, changes, rate, burst):
    endpoints = synthesise(configure(models='["mobilenet"]', **changes))["Endpoints"]
    (plan,) = resources(endpoints, "AWS::ApiGateway::UsagePlan")
    assert plan["Throttle"] == {"RateLimit": rate, "BurstLimit": burst}
    (stage,) = resources(endpoints, "AWS::ApiGateway::Stage")
    (settings,) = stage["MethodSettings"]
    assert (settings["HttpMethod"], settings["ResourcePath"]) == ("*", "/*")
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == (rate, burst)


def test_every_variant_has_a_schedule_that_is_off(templates, configuration):
    found = {s["Name"]: s for s in resources(templates["Schedules"], "AWS::Scheduler::Schedule")}
    assert set(found) == {configuration.names.schedule(v) for v in configuration.variants}
    for variant in configuration.variants:
        schedule = found[configuration.names.schedule(variant)]
        assert schedule["State"] == "DISABLED"
        assert schedule["GroupName"] == configuration.names.schedule_group
        assert schedule["ScheduleExpression"] == f"rate({configuration.experiments.cold.interval_minutes} minutes)"
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
        assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0


def test_an_interval_of_one_minute_is_spelt_as_the_scheduler_wants_it(configure):
    (schedule, *_) = resources(synthesise(configure(interval_minutes="1"))["Schedules"], "AWS::Scheduler::Schedule")
    assert schedule["ScheduleExpression"] == "rate(1 minute)"


def test_the_scheduler_may_invoke_the_functions_under_test_and_nothing_else(templates, configuration):
    (role,) = resources(templates["Schedules"], "AWS::IAM::Role")
    (statement,) = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert statement["Action"] == "lambda:InvokeFunction"
    assert len(statement["Resource"]) == len(configuration.variants)
    templates["Schedules"].resource_count_is("AWS::IAM::Policy", 0)


def test_the_app_has_one_stack_so_that_plain_cdk_deploy_acts_on_everything(configuration):
    lab = application()
    build(lab, configuration)
    (stack,) = lab.synth().stacks
    assert stack.stack_name == configuration.names.stack
    assert stack.tags == {"project": "lambda-inference-lab", "deployment": configuration.function.name_prefix}


def test_prefixes_that_differ_make_stacks_that_differ(configure):
    """`lab-2` and `lab2` made the same stacks: their deployments overwrote each other."""
    stacks = {configure(name_prefix=f'"{prefix}"').names.stack for prefix in ("lab-2", "lab2", "l-ab2")}
    assert len(stacks) == 3


def literal_names(value):
    """Every text in a template's properties, those inside of functions left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for member in value:
            yield from literal_names(member)
    elif isinstance(value, dict) and not any(key == "Ref" or key.startswith("Fn::") for key in value):
        for member in value.values():
            yield from literal_names(member)


# Instead of a reference: the property that names another resource by its literal name.
NAMED = {"AWS::Scheduler::ScheduleGroup": "Name", "AWS::Lambda::Function": "FunctionName"}
HOLDS_NAMES_ON_PURPOSE = {"AWS::CloudWatch::Dashboard"}  # shows what is there, and needs nothing of it


def test_what_names_another_resource_by_a_text_waits_for_it(templates):
    """CDK hands out literal names: without an edge the order of creation is luck."""
    root = templates["Root"].to_json()["Resources"]
    owners = {}
    for role, template in templates.items():
        for logical_id, resource in template.to_json()["Resources"].items():
            if name := resource.get("Properties", {}).get(NAMED.get(resource["Type"], "")):
                owners[name] = (role, logical_id)
    for role, template in templates.items():
        for resource in template.to_json()["Resources"].values():
            if resource["Type"] in {*NAMED, *HOLDS_NAMES_ON_PURPOSE}:
                continue
            for text in set(literal_names(resource.get("Properties", {}))) & set(owners):
                owner_role, owner_id = owners[text]
                assert owner_role == "Root", f"{role}: {resource['Type']} names {text} of another part"
                parts = [r for i, r in root.items() if r["Type"] == "AWS::CloudFormation::Stack" and i.startswith(role)]
                assert parts
                assert all(owner_id in one.get("DependsOn", ()) for one in parts), f"{role} does not wait for {text}"


def test_the_dashboard_shows_every_function_and_the_gateway(templates, configuration):
    (dashboard,) = resources(templates["Monitoring"], "AWS::CloudWatch::Dashboard")
    assert dashboard["DashboardName"] == configuration.names.dashboard
    body = json.loads("".join(p if isinstance(p, str) else "x" for p in dashboard["DashboardBody"]["Fn::Join"][1]))
    shown = set()
    for widget in (one for one in body["widgets"] if one["type"] == "metric"):
        for namespace, name, *rest in widget["properties"]["metrics"]:
            options = rest[-1]
            labels = tuple(rest[:-1])
            shown.add((namespace, name, labels, options.get("stat", "Average")))
    for variant in configuration.variants:
        of_function = ("FunctionName", configuration.names.function(variant))
        for statistic in ("p50", "p95", "p99"):
            assert ("AWS/Lambda", "Duration", of_function, statistic) in shown
        for name, statistic in (("Errors", "Sum"), ("Throttles", "Sum"), ("ConcurrentExecutions", "Maximum")):
            assert ("AWS/Lambda", name, of_function, statistic) in shown
    of_gateway = ("ApiName", configuration.names.api("tensorflow"), "Stage", configuration.gateway.stage_name)
    for name in ("Latency", "IntegrationLatency"):
        assert ("AWS/ApiGateway", name, of_gateway, "p99") in shown


def test_the_dashboard_reads_cold_starts_and_cost_of_every_function_from_its_log(configure):
    """CloudWatch's metrics have neither the init phase nor what is billed."""
    configuration = configure(
        models='["mobilenet"]', memory_sizes_mb=str([*range(512, 512 + 60)]), starts='["on_demand", "snapstart"]'
    )
    stack = build(application(), configuration)
    (widgets,) = dashboards_of([template_of(stack.node.find_child("Monitoring")).to_json()]).values()
    queries = [widget["properties"]["query"] for widget in widgets if widget["type"] == "log"]
    sources = [re.findall(r"SOURCE '([^']+)'", query) for query in queries]
    assert sorted(itertools.chain(*sources)) == sorted(
        configuration.names.log_group(one) for one in configuration.variants
    )
    assert max(len(one) for one in sources) <= 50
    prices = read_prices()
    for groups, query in zip(sources, queries, strict=True):
        start = "restore" if "-snapstart-" in groups[0] else "init"
        assert f"count(record.metrics.{start}DurationMs) as cold_starts" in query
        assert f"* {prices.gb_second_usd('x86_64'):.10f} + {prices.request_usd:.10f}) as usd by @log" in query


def test_everything_that_can_be_tagged_is_tagged_with_its_deployment(templates, configuration):
    from aws_cdk.assertions import Match

    tags = Match.array_with([{"Key": "deployment", "Value": configuration.function.name_prefix}])
    for role, kind in (
        ("Functions", "AWS::Lambda::Function"),
        ("Functions", "AWS::Logs::LogGroup"),
        ("Endpoints", "AWS::ApiGateway::RestApi"),
        ("Root", "AWS::Scheduler::ScheduleGroup"),
    ):
        templates[role].all_resources_properties(kind, {"Tags": tags})


def test_the_demo_profile_deploys_its_own_matrix(configure):
    demo = configure("demo")
    assert len(demo.variants) < len(configure().variants)
    functions = resources(synthesise(demo)["Functions"], "AWS::Lambda::Function")
    assert {f["MemorySize"] for f in functions} == set(demo.matrix.memory_sizes_mb)


@settings(max_examples=4)
@given(
    models=st.lists(st.sampled_from(MODELS), min_size=1, unique=True),
    sizes=st.sets(st.integers(MIN_MEMORY_MB, MAX_MEMORY_MB), min_size=1, max_size=8),
    prefix=st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=29).map("p".__add__),
)
@example(models=["inceptionv3"], sizes={MAX_MEMORY_MB}, prefix="p" * 30)
def test_any_valid_matrix_deploys_under_unique_names(configure, models, sizes, prefix):
    configuration = configure(
        models=json.dumps(models), memory_sizes_mb=json.dumps(list(sizes)), name_prefix=f'"{prefix}"'
    )
    templates = synthesise(configuration)
    names = [
        properties[key]
        for role, kind, key in (
            ("Functions", "AWS::Lambda::Function", "FunctionName"),
            ("Functions", "AWS::Logs::LogGroup", "LogGroupName"),
            ("Schedules", "AWS::Scheduler::Schedule", "Name"),
        )
        for properties in resources(templates[role], kind)
    ]
    assert len(names) == len(set(names)) == 3 * len(models) * len(sizes)
    assert all(len(name) <= 64 for name in names if not name.startswith("/aws/lambda/"))


def test_the_largest_matrix_allowed_fits_into_its_stacks(configure):
    sizes = [MIN_MEMORY_MB + n for n in range(MAX_VARIANTS_PER_ENGINE // len(MODELS))]
    for template in synthesise(configure(memory_sizes_mb=json.dumps(sizes))).values():
        assert len(template.to_json()["Resources"]) <= MAX_RESOURCES_PER_STACK


def test_a_matrix_too_large_for_one_stack_is_refused_before_synthesis(configure):
    sizes = [MIN_MEMORY_MB + n for n in range(MAX_VARIANTS_PER_ENGINE // len(MODELS) + 1)]
    with pytest.raises(ConfigurationError, match=f"at most {MAX_VARIANTS_PER_ENGINE} fit"):
        synthesise(configure(memory_sizes_mb=json.dumps(sizes)))


def test_an_image_directory_without_a_dockerfile_is_refused(configure):
    with pytest.raises(ConfigurationError, match="holds no Dockerfile"):
        synthesise(configure(directory='"docs"'))


LARGEST = {
    "engines": '["tensorflow", "onnxruntime"]',
    "architectures": '["x86_64", "arm64"]',
    "memory_sizes_mb": str([*range(128, 10_240, 225), 10_240]),  # 46 sizes
}


@pytest.mark.slow
def test_552_functions_stay_within_the_limits_of_cloudformation_and_cloudwatch(configure, tmp_path):
    configuration = configure(**LARGEST)
    assert len(configuration.variants) == 552
    lab = application(tmp_path)
    build(lab, configuration)
    assert len(lab.synth().stacks) == 1
    files = list(tmp_path.glob("*template.json"))
    templates = [json.loads(path.read_text()) for path in files]
    assert len(templates) == 1 + 3 * 4 + 1
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    assert max(path.stat().st_size for path in files) <= 1_000_000
    assert max(len(template["Resources"]) for template in templates) <= 500
    assert max(len(template.get("Outputs", {})) for template in templates) <= 200
    assert max(len(template.get("Parameters", {})) for template in templates) <= 200
    functions = {
        resource["Properties"]["FunctionName"]
        for template in templates
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    assert functions == {configuration.names.function(variant) for variant in configuration.variants}
    shown = dashboards_of(templates)
    assert set(shown) == {f"inference-lab-{group}" for group in configuration.groups}
    for (
        widgets
    ) in shown.values():  # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
        metrics = [len(widget["properties"]["metrics"]) for widget in widgets if widget["type"] == "metric"]
        assert max(metrics) <= 500
        assert sum(metrics) <= 2_500


def dashboards_of(templates):
    """Widgets by the name of their dashboard."""
    return {
        resource["Properties"]["DashboardName"]: json.loads(
            "".join(p if isinstance(p, str) else "x" for p in resource["Properties"]["DashboardBody"]["Fn::Join"][1])
        )["widgets"]
        for template in templates
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Dashboard"
    }


def test_snapstart_is_a_published_version_behind_an_alias_that_everything_calls(configure):
    """Lambda takes snapshots of published versions alone: $LATEST would start on demand."""
    templates = synthesise(configure(starts='["snapstart"]', models='["mobilenet"]', memory_sizes_mb="[1769, 3008]"))
    functions = resources(templates["Functions"], "AWS::Lambda::Function")
    assert [f["SnapStart"] for f in functions] == [{"ApplyOn": "PublishedVersions"}] * 2
    assert {f["FunctionName"].split("-")[-2] for f in functions} == {"snapstart"}
    aliases = resources(templates["Functions"], "AWS::Lambda::Alias")
    assert [(a["Name"], a["FunctionVersion"]["Fn::GetAtt"][1]) for a in aliases] == [("live", "Version")] * 2
    # A version that outlives its successor would keep its snapshot, which costs money.
    templates["Functions"].all_resources("AWS::Lambda::Version", {"DeletionPolicy": "Delete"})
    retries = resources(templates["Functions"], "AWS::Lambda::EventInvokeConfig")
    assert [one["MaximumRetryAttempts"] for one in retries] == [0] * 2
    uris = [json.dumps(m["Integration"]["Uri"]) for m in resources(templates["Endpoints"], "AWS::ApiGateway::Method")]
    targets = [
        json.dumps(one["Target"]["Arn"]) for one in resources(templates["Schedules"], "AWS::Scheduler::Schedule")
    ]
    assert len(uris) == len(targets) == 2
    assert all("Alias" in text for text in uris + targets)


@pytest.mark.parametrize(
    ("start", "track_up_to", "each"),
    [
        ("snapstart", "0", RESOURCES_PER_ALIASED_VARIANT),
        ("provisioned", "0", RESOURCES_PER_ALIASED_VARIANT),
        ("provisioned", "5", RESOURCES_PER_ALIASED_VARIANT + RESOURCES_TO_SCALE),
    ],
)
def test_the_resources_of_versions_and_aliases_count_towards_the_limit(configure, start, track_up_to, each):
    most = most_aliased(each)
    changes = {"starts": f'["{start}"]', "models": '["mobilenet"]', "track_up_to": track_up_to}
    with pytest.raises(ConfigurationError, match=f"at most {most} fit"):
        check_limits(configure(memory_sizes_mb=str([512 + 64 * number for number in range(most + 1)]), **changes))
    check_limits(configure(memory_sizes_mb=str([512 + 64 * number for number in range(most)]), **changes))


def test_snapstart_is_refused_where_aws_does_not_offer_it(configure):
    snapstart = configure(starts='["snapstart"]')
    with pytest.raises(ConfigurationError, match="ap-east-2"):
        check_region(snapstart, "ap-east-2")
    check_region(snapstart, "eu-central-1")
    check_region(configure(), "ap-east-2")


def test_provisioned_concurrency_is_kept_by_the_alias_that_everything_calls(configure):
    templates = synthesise(configure(starts='["provisioned"]', concurrency="3", **ONE_FUNCTION))
    (function,) = resources(templates["Functions"], "AWS::Lambda::Function")
    assert function["FunctionName"] == "inference-lab-mobilenet-tensorflow-provisioned-1769"
    assert "SnapStart" not in function
    (alias,) = resources(templates["Functions"], "AWS::Lambda::Alias")
    assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": 3}
    (method,) = resources(templates["Endpoints"], "AWS::ApiGateway::Method")
    (schedule,) = resources(templates["Schedules"], "AWS::Scheduler::Schedule")
    assert "Alias" in json.dumps(method["Integration"]["Uri"])
    assert "Alias" in json.dumps(schedule["Target"]["Arn"])
    templates["Functions"].resource_count_is("AWS::ApplicationAutoScaling::ScalableTarget", 0)


def test_target_tracking_and_a_schedule_change_how_many_environments_are_kept(configure):
    working_day = '[["cron(0 7 ? * MON-FRI *)", 4], ["cron(0 19 ? * MON-FRI *)", 1]]'
    functions = synthesise(configure(starts='["provisioned"]', track_up_to="3", schedule=working_day, **ONE_FUNCTION))[
        "Functions"
    ]
    (target,) = resources(functions, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    assert target["ScalableDimension"] == "lambda:function:ProvisionedConcurrency"
    assert "mobilenet" in json.dumps(target["ResourceId"]) or "Alias" in json.dumps(target["ResourceId"])
    assert [
        (one["Schedule"], one["ScalableTargetAction"]["MinCapacity"], one["ScalableTargetAction"]["MaxCapacity"])
        for one in target["ScheduledActions"]
    ] == [("cron(0 7 ? * MON-FRI *)", 4, 4), ("cron(0 19 ? * MON-FRI *)", 1, 3)]
    (policy,) = resources(functions, "AWS::ApplicationAutoScaling::ScalingPolicy")
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 0.7
    assert (
        tracking["PredefinedMetricSpecification"]["PredefinedMetricType"] == "LambdaProvisionedConcurrencyUtilization"
    )
    functions.resource_count_is("AWS::IAM::Role", 1)


def test_architectures_have_apis_and_parts_of_their_own(configure):
    configuration = configure(architectures='["x86_64", "arm64"]', models='["mobilenet"]', memory_sizes_mb="[1769]")
    stack = build(application(), configuration)
    root = template_of(stack).to_json()
    assert {
        f"{role}{group}" for role in (*API_OUTPUTS, KEY_OUTPUT) for group in ("Tensorflow", "TensorflowArm64")
    } == set(root["Outputs"])
    arm = template_of(stack.node.find_child("FunctionsTensorflowArm64"))
    (function,) = resources(arm, "AWS::Lambda::Function")
    assert function["FunctionName"] == "inference-lab-mobilenet-tensorflow-arm64-1769"
    assert function["Architectures"] == ["arm64"]
