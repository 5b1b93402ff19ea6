"""The main job, end to end: real CDK command line, lab, load test, collection, destruction."""

from pathlib import Path

import polars as pl
import pytest

from core.run.records import INVOCATION_COLUMNS
from tests.e2e.conftest import Deployment

# Ten real commands, each a second or two of start-up on an idle machine and far more on a busy one.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
STUB = Path(__file__).parent.parent / "stubs" / "stub"


def function_names(lab):
    return {f["FunctionName"] for f in lab.client("lambda").list_functions()["Functions"]}


def log_group_names(lab):
    return {g["logGroupName"] for g in lab.client("logs").describe_log_groups()["logGroups"]}


def routes(lab, api_id):
    resources = lab.client("apigateway").get_resources(restApiId=api_id, limit=500)["items"]
    return {item["path"] for item in resources if "resourceMethods" in item}


def what_is_left(lab):
    """Everything that AWS would go on keeping, by kind, less the bootstrap stack itself."""
    scheduler, iam, ecr = lab.client("scheduler"), lab.client("iam"), lab.client("ecr")
    stacks = lab.client("cloudformation").describe_stacks()["Stacks"]
    found = {
        "stacks": [s["StackName"] for s in stacks if s["StackName"] != "CDKToolkit"],
        "functions": function_names(lab),
        "log groups": log_group_names(lab),
        "APIs": lab.client("apigateway").get_rest_apis()["items"],
        "API keys": lab.client("apigateway").get_api_keys()["items"],
        "keys": lab.client("kms").list_keys()["Keys"],
        "schedules": scheduler.list_schedules()["Schedules"],
        "schedule groups": [
            g["Name"] for g in scheduler.list_schedule_groups()["ScheduleGroups"] if g["Name"] != "default"
        ],
        "dashboards": lab.client("cloudwatch").list_dashboards()["DashboardEntries"],
        "roles": [r["RoleName"] for r in iam.list_roles()["Roles"] if not r["RoleName"].startswith("cdk-")],
        "images": [
            image
            for repository in ecr.describe_repositories()["repositories"]
            for image in ecr.list_images(repositoryName=repository["repositoryName"])["imageIds"]
        ],
    }
    return {kind: things for kind, things in found.items() if things}


def test_deploy_call_load_collect_destroy(bootstrapped, tmp_path):
    lab = bootstrapped
    matrix = {"models": '["mobilenet"]', "memory_sizes_mb": "[512, 1024]", "directory": f'"{STUB}"'}
    matrix |= {"timeout_s": "900", "integration_timeout_ms": "900_000"}  # for cold starts on a busy machine
    project = Deployment(lab, tmp_path, matrix)
    project.deploy()

    status, answer = project.get("/mobilenet/512")
    assert status == 200
    assert (answer["event"], answer["model"], answer["memory_mb"]) == ("inference", "mobilenet", 512)
    assert project.get("/mobilenet/512", key="somebody-elses") == (403, {"message": "Forbidden"})
    for unknown in ("alexnet/512", "mobilenet/777", "mobilenet"):
        status, answer = project.get(f"/{unknown}")
        assert status == 404
        assert answer["allowed"] == ["/mobilenet/512", "/mobilenet/1024"]

    # Other memory sizes: the old function goes while its route is there, which exports between stacks would forbid.
    # And another start mode, whose functions keep an environment initialized, and callers that sign.
    project.configure(
        matrix
        | {
            "memory_sizes_mb": "[512, 2048]",
            "starts": '["on_demand", "provisioned"]',
            "protocols": '["forced"]',
            "forced_samples": "2",
            "gateway_samples": "1",
            "auth": '"iam"',
        }
    )
    assert "mobilenet-tensorflow-2048" in project.cdk("diff", "--ci")
    project.deploy()
    project.cdk("diff", "--fail")  # leaves with 1 where it finds a difference
    names = project.configuration.names
    assert function_names(lab) == {names.function(v) for v in project.configuration.variants}
    assert log_group_names(lab) == {names.log_group(v) for v in project.configuration.variants}
    (stack,) = lab.client("cloudformation").describe_stacks(StackName=names.stack)["Stacks"]
    apis = [output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"].startswith("ApiId")]
    assert set().union(*(routes(lab, api) for api in apis)) == {v.route for v in project.configuration.variants}
    assert lab.client("apigateway").get_api_keys()["items"] == []
    assert project.get("/mobilenet/2048", key="none")[0] == 404

    results = tmp_path / "results"
    run_id = project.python("-m", "experiments", "cold", "--results", results).splitlines()[-1]
    out = project.python(
        *("-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--results", results, "--run", run_id),
        *("--shape", "constant", "--end-rps", 10, "--duration-s", 2),
    )
    assert out.count("offered 20 (10.00/s)") == len(project.configuration.variants)
    project.python("analysis/collect.py", "--results", results, "--strict")
    run = results / run_id
    rows = pl.read_parquet(run / "data" / "invocations.parquet")
    assert rows.columns == list(INVOCATION_COLUMNS)
    # The logs hold the calls above too, which no load test sent.
    sent = rows.filter((pl.col("experiment") == "load") & ~pl.col("warmup"))
    assert dict(sent["variant"].value_counts().iter_rows()) == {v.key: 20 for v in project.configuration.variants}
    assert sent["outcome"].unique().to_list() == ["ok"]
    # Joined: what the client saw and what the platform logged stand in one row, for every call.
    for column in ("duration_ms", "billed_ms", "max_memory_used_mb", "inference_ms"):
        assert sent[column].null_count() == 0, column
    assert sent["request_id"].n_unique() == sent.height
    assert set(sent["start_evidence"].unique().to_list()) <= {"call_number", "initialised_ahead"}
    cold = rows.filter(pl.col("experiment") == "cold")
    found = cold.select(pl.col("variant").str.ends_with("-provisioned"), "protocol", "start_type", "initialization")
    assert set(found.unique().iter_rows()) == {
        (False, "forced", "cold", "on-demand"),
        (True, "spillover", "cold", "on-demand"),
        (True, "forced", "warm", "provisioned-concurrency"),
        (False, "gateway", "cold", "on-demand"),
        (True, "gateway", "warm", "provisioned-concurrency"),
    }
    assert (run / "report.html").stat().st_size > 0
    # To a figure: the month of the function that was measured with provisioned concurrency, at AWS's prices.
    assert (run / "figures" / "monthly_cost_mobilenet_tensorflow_provisioned.svg").stat().st_size > 0

    project.destroy()
    # Images lie in the bootstrap stack's repository, which is not ours to empty: the CDK collects what nothing uses.
    project.cdk("gc", "--unstable=gc", "--type=ecr", "--confirm=false", "--created-buffer-days=0")
    assert what_is_left(lab) == {}
