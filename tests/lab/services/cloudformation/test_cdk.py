"""The real CDK command line against a lab: every function twice and away again, and new code by a swap or a watch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.configuration import parse_configuration
from core.paths import BENCHMARK_TOML, NODE_COMMANDS, REPOSITORY
from tests.lab_support import Lab, running_lab
from tests.stubs.making import STUB, write_stub

CDK = NODE_COMMANDS / "cdk"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A bootstrapped lab that finds what `cdk` below pushes: both are told the same store of images.

    Each test takes away what it deploys, but for the last one.
    """
    directory = tmp_path_factory.mktemp("cdk")
    with running_lab(state=directory / "state", variables={"LAB_IMAGES": str(directory / "images")}) as running:
        bootstrap = ("bootstrap", "aws://123456789012/us-east-1", "--app", "", "--output", directory / "bootstrap")
        cdk(running, tmp_path_factory.mktemp("empty"), *bootstrap)
        yield running


def cdk(lab: Lab, directory: Path, *arguments: str | Path, code: int = 0, **variables: str) -> str:
    ended = subprocess.run(
        [CDK, *map(str, arguments), "--ci"],
        cwd=directory,
        env={**lab.environment, "LAB_IMAGES": str(lab.images), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr + "".join(lab.log[-20:])
    return ended.stdout + ended.stderr


def synthesise(
    lab: Lab,
    directory: Path,
    name: str,
    /,
    *,
    endpoint: str | None = None,
    said: list[str] | None = None,
    **changes: str,
) -> Path:
    """Synthesize the app with the stub as its function and some lines of benchmark.toml changed.

    `endpoint` "" is AWS; what the command line says is added to `said`.
    """
    text = BENCHMARK_TOML.read_text(encoding="utf-8")
    for key, value in {"directory": f'"{STUB}"', **changes}.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text, count=1)
        assert count == 1, key
    document = directory / f"{name}.toml"
    document.write_text(text, encoding="utf-8")
    variables = {"BENCHMARK_TOML": str(document), "BENCHMARK_PROFILE": ""}
    if endpoint is not None:
        variables["AWS_ENDPOINT_URL"] = endpoint
    output = cdk(lab, REPOSITORY, "synth", "--quiet", "--output", directory / name, **variables)
    if said is not None:
        said.append(output)
    return directory / name


@pytest.mark.slow
@pytest.mark.timeout(3000)  # synthesis twice, six commands
def test_every_function_deploys_changes_and_goes_with_the_default_method(lab: Lab, tmp_path: Path) -> None:
    configuration = parse_configuration(BENCHMARK_TOML.read_text(encoding="utf-8"))
    names = {configuration.names.function(variant) for variant in configuration.variants}
    first = synthesise(lab, tmp_path, "first", timeout_s="90")
    second = synthesise(lab, tmp_path, "second", timeout_s="60", stage_name='"v1"', interval_minutes="20")
    client = lab.client("lambda")

    said = cdk(lab, tmp_path, "deploy", "--require-approval", "never", "--app", first)
    assert "could not be used to assume" not in said
    functions = client.list_functions()["Functions"]
    assert {function["FunctionName"] for function in functions} == names
    assert {function["Timeout"] for function in functions} == {90}
    # Resolved by what the stand-in for docker has pushed.
    digests = {client.get_function(FunctionName=name)["Code"]["ResolvedImageUri"].split("@")[1] for name in names}
    pushed = {
        image["imageDigest"]
        for repository in lab.client("ecr").describe_repositories()["repositories"]
        for image in lab.client("ecr").describe_images(repositoryName=repository["repositoryName"])["imageDetails"]
    }
    assert digests == pushed
    assert len(digests) == len(configuration.matrix.models)
    revisions = {function["FunctionName"]: function["RevisionId"] for function in functions}

    cdk(lab, tmp_path, "deploy", "--require-approval", "never", "--app", second)
    changed = client.list_functions()["Functions"]
    assert {function["Timeout"] for function in changed} == {60}
    assert all(function["RevisionId"] != revisions[function["FunctionName"]] for function in changed)
    schedules = lab.client("scheduler")
    listed = schedules.list_schedules(GroupName=configuration.names.schedule_group)["Schedules"]
    assert len(listed) == len(names)
    one = schedules.get_schedule(GroupName=listed[0]["GroupName"], Name=listed[0]["Name"])
    assert one["ScheduleExpression"] == "rate(20 minutes)"

    again = cdk(lab, tmp_path, "deploy", "--require-approval", "never", "--app", second)
    assert again.count("(no changes)") == 1

    cdk(lab, tmp_path, "destroy", "--force", "--app", second)
    assert client.list_functions()["Functions"] == []
    assert lab.client("apigateway").get_rest_apis()["items"] == []
    assert schedules.list_schedules()["Schedules"] == []
    assert lab.client("logs").describe_log_groups()["logGroups"] == []
    assert lab.client("cloudwatch").list_dashboards()["DashboardEntries"] == []
    left = lab.client("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in left] == ["CDKToolkit"]

    cdk(lab, tmp_path, "deploy", "--require-approval", "never", "--app", second)
    assert {function["FunctionName"] for function in client.list_functions()["Functions"]} == names
    answer = json.load(client.invoke(FunctionName=min(names), Payload=b"{}")["Payload"])
    assert answer["event"] == "inference"

    cdk(lab, tmp_path, "destroy", "--force", "--app", second)
    assert client.list_functions()["Functions"] == []


@contextlib.contextmanager
def watch(lab: Lab, directory: Path, configuration: Path, folder: Path) -> Iterator[Iterator[str]]:
    """Run `cdk watch` on a folder in `directory`, give the lines that it prints, and end it with Ctrl-C."""
    settings = {"app": f"{sys.executable} {REPOSITORY / 'app.py'}", "watch": {"include": f"{folder.name}/**"}}
    (directory / "cdk.json").write_text(json.dumps(settings), encoding="utf-8")
    variables = {"BENCHMARK_TOML": str(configuration), "BENCHMARK_PROFILE": ""}
    with subprocess.Popen(
        [CDK, "watch", "--ci"],
        cwd=directory,
        env={**lab.environment, "LAB_IMAGES": str(lab.images), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield iter(process.stdout)
        finally:
            os.killpg(process.pid, signal.SIGINT)  # to the whole group, as a terminal does
            try:
                said, _ = process.communicate(timeout=600)
            finally:
                process.kill()
    assert process.returncode == -signal.SIGINT, said


@pytest.mark.slow
@pytest.mark.timeout(3000)  # synthesis, two commands, 2,200 resources
def test_552_functions_of_two_architectures_deploy_and_go(lab: Lab, tmp_path: Path) -> None:
    """Synthesized as for AWS, since a lab leaves out the other architecture; the control plane takes all of them."""
    largest = synthesise(
        lab,
        tmp_path,
        "largest",
        endpoint="",
        engines='["tensorflow", "onnxruntime"]',
        architectures='["x86_64", "arm64"]',
        memory_sizes_mb=str([*range(128, 10_240, 225), 10_240]),
    )
    cdk(lab, tmp_path, "deploy", "--require-approval", "never", "--app", largest)
    functions = [
        function
        for page in lab.client("lambda").get_paginator("list_functions").paginate()
        for function in page["Functions"]
    ]
    assert len({function["FunctionName"] for function in functions}) == 552
    assert len([one for one in functions if one["Architectures"] == ["arm64"]]) == 276
    cdk(lab, tmp_path, "diff", "--fail", "--app", largest)
    cdk(lab, tmp_path, "destroy", "--force", "--app", largest)
    assert lab.client("lambda").list_functions()["Functions"] == []


@pytest.mark.slow
def test_a_lab_deploys_its_own_architecture_and_names_the_functions_that_it_leaves_out(
    lab: Lab, tmp_path: Path
) -> None:
    said: list[str] = []
    assembly = synthesise(
        lab,
        tmp_path,
        "both",
        said=said,
        models='["mobilenet"]',
        memory_sizes_mb="[1769]",
        architectures='["x86_64", "arm64"]',
    )
    names = [path.name for path in assembly.glob("*Functions*.nested.template.json")]
    assert len(names) == 1
    assert "left out, as this machine is" in said[0]


@pytest.mark.slow
@pytest.mark.timeout(3000)  # synthesis five times, four commands
def test_a_hot_swap_and_a_watch_run_the_new_code_and_a_swap_that_cannot_work_fails(lab: Lab, tmp_path: Path) -> None:
    """https://github.com/aws/aws-cdk/issues/28077: functions of a nested stack."""
    one_function = {"models": '["mobilenet"]', "memory_sizes_mb": "[1769]"}
    apps = []
    for number in range(3):
        stub = write_stub(tmp_path / f"stub-{number}", init_ms=number)
        apps.append(synthesise(lab, tmp_path, f"app-{number}", directory=f'"{stub}"', **one_function))
    configuration = parse_configuration((tmp_path / "app-0.toml").read_text(encoding="utf-8"))
    name = configuration.names.function(configuration.variants[0])

    def init_ms() -> str:
        answer = json.load(lab.client("lambda").invoke(FunctionName=name, Payload=b'{"echo": 1}')["Payload"])
        return str(answer["echo"]["environment"]["STUB_INIT_MS"])

    cdk(lab, tmp_path, "deploy", "--require-approval", "never", "--app", apps[0])
    assert init_ms() == "0"
    said = cdk(lab, tmp_path, "deploy", "--hotswap", "--app", apps[1])
    assert f"AWS::Lambda::Function '{name}' hotswapped!" in said
    assert init_ms() == "1"

    dockerfile = tmp_path / "stub-1" / "Dockerfile"
    code = dockerfile.read_text(encoding="utf-8").replace('STUB_INIT_MS="1"', 'STUB_INIT_MS="3"')
    with watch(lab, tmp_path, tmp_path / "app-1.toml", dockerfile.parent) as lines:
        swaps = (line for line in lines if "hotswapped!" in line)
        next(swaps)  # of the code as it is when the watch begins
        dockerfile.write_text(code, encoding="utf-8")
        next(swaps)
        assert init_ms() == "3"

    # The image goes to a store in which the lab does not look.
    elsewhere = str(tmp_path / "elsewhere")
    said = cdk(lab, tmp_path, "deploy", "--hotswap", "--app", apps[2], code=1, LAB_IMAGES=elsewhere)
    assert "does not exist. Provide a valid source image" in said
    assert init_ms() == "3"
