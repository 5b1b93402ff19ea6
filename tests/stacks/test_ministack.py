"""The templates in an emulator that others wrote, by the real CDK command line: a control of the lab's control plane.

MiniStack 1.5.33 knows neither AWS::EC2::EIP nor AWS::EC2::NatGateway, so that the load tasks stay out. An update of a
REST API fails there: it loses the attribute RootResourceId. Both are its own.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from core.configuration import parse_configuration
from core.paths import NODE_COMMANDS, REPOSITORY

MINISTACK = "ministack==1.5.33"  # its pins are not ours, so that it gets an environment of its own
START_PATIENCE_S = 600
ACCOUNT = "000000000000"

pytestmark = pytest.mark.slow


@pytest.fixture
def ministack(tmp_path):
    """The address of a MiniStack on loopback, and the variables that send a program there."""
    command = [Path(sys.executable).parent / "uv", "tool", "run", "--from", MINISTACK, "ministack"]
    installed = subprocess.run([*command, "--help"], capture_output=True, check=False, cwd=REPOSITORY)
    if installed.returncode:
        pytest.skip(f"{MINISTACK} cannot be installed here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "CDK_", "BENCHMARK_"))}
    with (tmp_path / "ministack.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**clean, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_HOST": "localhost"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START_PATIENCE_S
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None, (tmp_path / "ministack.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield clean | {
            "AWS_ENDPOINT_URL": f"http://localhost:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "*",
        }
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def items(variables, service, operation, key, **arguments):
    client = boto3.client(
        service,
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    return [item for page in client.get_paginator(operation).paginate(**arguments) for item in page[key]]


def test_the_stack_deploys_as_configured_and_goes_without_a_trace(ministack, tmp_path, write_document):
    document = tmp_path / "benchmark.toml"
    document.write_text(write_document(starts='["on_demand", "snapstart"]', memory_sizes_mb="[512, 1769]"))
    names = parse_configuration(document.read_text()).names
    variables = ministack | {
        "BENCHMARK_TOML": str(document),
        "CDK_DOCKER": "/bin/true",  # what is in an image is not what MiniStack is asked about
        "PATH": f"{Path(sys.executable).parent}:{NODE_COMMANDS}:{os.environ['PATH']}",
    }

    def cdk(*words):
        done = subprocess.run(
            [NODE_COMMANDS / "cdk", *words, "--ci", "--output", tmp_path / "out"],
            cwd=REPOSITORY,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    cdk("bootstrap", f"aws://{ACCOUNT}/us-east-1")
    cdk("deploy", "--require-approval", "never")
    # The configuration as AWS would have it: `for_a_lab` leaves out what this machine cannot run.
    variants = parse_configuration(document.read_text()).variants
    functions = {one["FunctionName"]: one for one in items(variables, "lambda", "list_functions", "Functions")}
    assert {name: (one["MemorySize"], one["LoggingConfig"]["LogGroup"]) for name, one in functions.items()} == {
        names.function(variant): (variant.memory_mb, names.log_group(variant)) for variant in variants
    }
    groups = items(variables, "logs", "describe_log_groups", "logGroups")
    assert {group["logGroupName"]: group["retentionInDays"] for group in groups} == {
        names.log_group(variant): 14 for variant in variants
    }
    apis = items(variables, "apigateway", "get_rest_apis", "items")
    assert {api["name"] for api in apis} == {names.api(variant.group) for variant in variants}
    routes = {
        resource["path"]
        for api in apis
        for resource in items(variables, "apigateway", "get_resources", "items", restApiId=api["id"], embed=["methods"])
        if "GET" in resource.get("resourceMethods", {})
    }
    assert routes == {variant.route for variant in variants}
    schedules = items(variables, "scheduler", "list_schedules", "Schedules")
    assert {one["Name"]: one["State"] for one in schedules} == {names.schedule(one): "DISABLED" for one in variants}
    assert items(variables, "cloudwatch", "list_dashboards", "DashboardEntries")
    cdk("destroy", "--force")
    left = [
        *items(variables, "lambda", "list_functions", "Functions"),
        *items(variables, "logs", "describe_log_groups", "logGroups"),
        *items(variables, "apigateway", "get_rest_apis", "items"),
        *items(variables, "apigateway", "get_api_keys", "items"),
        *items(variables, "scheduler", "list_schedules", "Schedules"),
        *items(variables, "cloudwatch", "list_dashboards", "DashboardEntries"),
        *(one for one in items(variables, "iam", "list_roles", "Roles") if not one["RoleName"].startswith("cdk-")),
    ]
    assert left == []
