"""The real Dockerfile: built by a container engine, deployed by the real CDK, answering out of its container.

`tools/start-engine` and `tools/standin-base-image` prepare a machine for it. Where no engine runs, or the base image is
missing, it is skipped with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.configuration import parse_configuration
from core.errors import UserError
from core.paths import BENCHMARK_TOML, NODE_COMMANDS, REPOSITORY
from core.run.records import HandlerFacts
from lab.drivers.container import LABEL
from lab.images.engine import Engine, find_engine
from tests.lab.dataplane.harness import quota_of
from tests.lab.robustness.support import wait_until
from tests.lab_support import Lab, running_lab

BASE_IMAGE = os.environ.get("LAB_BASE_IMAGE", "lambda-inference-lab/standin-python:latest")
CDK = NODE_COMMANDS / "cdk"
PATIENCE_S = 900

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def engine() -> str:
    """Name of a running engine that has the base image; otherwise the test is skipped and says why."""
    try:
        program, _ = find_engine()
    except UserError as error:
        pytest.skip(f"{error.message}: tools/start-engine starts one")
    if subprocess.run([program, "buildx", "version"], check=False, capture_output=True).returncode:
        pytest.skip(f"{program} has no buildx: the Dockerfile needs BuildKit ($BUILDPLATFORM, COPY --chmod)")
    if not Engine(program).has(BASE_IMAGE):
        pytest.skip(f"{program} has no image {BASE_IMAGE}: tools/standin-base-image builds it, or set LAB_BASE_IMAGE")
    return program


def containers(engine: str, state: Path) -> list[str]:
    words = [engine, "ps", "--all", "--quiet", "--filter", f"label={LABEL}={state.resolve()}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


class Machine:
    """A lab that runs containers, and the commands that deploy to it."""

    def __init__(self, lab: Lab, directory: Path, engine: str) -> None:
        self.lab = lab
        self.directory = directory
        self.engine = engine
        changes = {
            "models": '["mobilenet"]',
            "memory_sizes_mb": "[1769]",
            "weights": '"random"',
            "base_image": json.dumps(BASE_IMAGE),
        }
        lines = BENCHMARK_TOML.read_text(encoding="utf-8").splitlines()
        for key, value in changes.items():
            index = next(number for number, line in enumerate(lines) if line.startswith(f"{key} ="))
            lines[index] = f"{key} = {value}"
        self.configuration = parse_configuration("\n".join(lines))
        (directory / "benchmark.toml").write_text("\n".join(lines), encoding="utf-8")

    def cdk(self, *arguments: str) -> None:
        done = subprocess.run(
            [CDK, *arguments, "--output", str(self.directory / "cdk.out")],
            cwd=REPOSITORY,
            env={
                **self.lab.environment,
                "BENCHMARK_TOML": str(self.directory / "benchmark.toml"),
                "BENCHMARK_PROFILE": "",
                "LAB_IMAGES": str(self.directory / "images"),
                "LAB_BUILD_NETWORK": "host",  # an engine that tools/start-engine started has no other
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"cdk {arguments} left with {done.returncode}\n{done.stdout}\n{done.stderr}"

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """GET below the deployed stage."""
        return self.lab.get(self.configuration, path)


@pytest.fixture(scope="module")
def deployed(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("engine")
    state = directory / "state"
    with running_lab(
        arguments=("--driver", "container", "--idle-minutes", "600"),
        state=state,
        variables={"LAB_IMAGES": str(directory / "images")},
    ) as lab:
        machine = Machine(lab, directory, engine)
        machine.cdk("bootstrap")
        machine.cdk("deploy", "--require-approval", "never")
        yield machine
    assert containers(engine, state) == [], "a stopped lab leaves no container behind"


def test_a_prediction_comes_back_through_the_gateway_out_of_the_built_image(deployed: Machine) -> None:
    assert deployed.lab.status()["limits"]["driver"] == "container"
    # Started by a direct invoke, as a busy machine may not get TensorFlow up within the gateway's 29 s.
    name = deployed.configuration.names.function(deployed.configuration.variants[0])
    started = deployed.lab.client("lambda", read_timeout=PATIENCE_S).invoke(
        FunctionName=name, Payload=b"{}", LogType="Tail"
    )
    assert "FunctionError" not in started, (started["Payload"].read(), deployed.lab.log[-20:])
    status, body = deployed.get("/mobilenet/1769?image=generated-0.jpg")
    assert status == 200, (body, deployed.lab.log[-20:])
    assert len(body.pop("top5")) == 5
    assert body.pop("event") == "inference"
    facts = HandlerFacts.model_validate(body)
    assert (facts.model, facts.weights, facts.memory_mb, facts.image) == (
        "mobilenet",
        "random",
        1769,
        "generated-0.jpg",
    )
    (container,) = containers(deployed.engine, deployed.lab.state)
    found = json.loads(subprocess.run([deployed.engine, "inspect", container], capture_output=True, check=True).stdout)[
        0
    ]
    limits = found["HostConfig"]
    assert limits["Memory"] == limits["MemorySwap"] == 1769 * 1024 * 1024
    # As the kernel has it, for the invoke; an engine may go on showing the quota of the init.
    assert quota_of(found["State"]["Pid"]) == [20_000, 20_000]


def test_the_same_container_serves_the_next_call_and_its_report_is_logged(deployed: Machine) -> None:
    group = deployed.configuration.names.log_group(deployed.configuration.variants[0])
    logs = deployed.lab.client("logs")

    def lines() -> list[dict[str, Any]]:
        messages = [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]
        return [json.loads(message) for message in messages if message.startswith("{")]

    def reports(request: str) -> list[dict[str, Any]]:
        found = [line["record"] for line in lines() if line.get("type") == "platform.report"]
        return [report for report in found if report["requestId"] == request]

    def answered() -> dict[str, Any]:
        answer: dict[str, Any] = deployed.get("/mobilenet/1769")[1]
        wait_until(lambda: reports(answer["request_id"]), "its report, after which the environment is idle")
        return answer

    first, second = answered(), answered()
    assert second["environment_id"] == first["environment_id"]
    assert second["call_number"] == first["call_number"] + 1
    (report,) = reports(second["request_id"])
    assert 100 < report["metrics"]["maxMemoryUsedMB"] <= 1769
    # The function's own line stands before the report of its invocation.
    order = [
        line.get("event") or line["type"]
        for line in lines()
        if second["request_id"] in {line.get("request_id"), line.get("record", {}).get("requestId")}
    ]
    assert order.index("inference") < order.index("platform.report")


def test_a_second_deployment_builds_nothing_and_changes_nothing(deployed: Machine) -> None:
    before = deployed.get("/mobilenet/1769")[1]["environment_id"]
    deployed.cdk("deploy", "--require-approval", "never")
    assert deployed.get("/mobilenet/1769")[1]["environment_id"] == before
