"""The container driver on a real engine, with a function that misbehaves on request."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from lab.contracts import Image
from lab.dataplane.plane import LambdaDataPlane
from lab.dataplane.settings import DataPlaneSettings
from lab.drivers.container import LABEL, ContainerDriver
from lab.drivers.protocol import LaunchError, LaunchSpec
from lab.images.engine import Engine, EngineError, find_engine
from tests.lab.dataplane.harness import Lab, quota_of
from tests.lab.images.test_engine import containers, engine  # noqa: F401 - a fixture
from tests.stubs.making import STUB

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]


class ContainerLab(Lab):
    """A data plane whose environments are containers of the stub's image."""

    def __init__(self, directory: Path, image: Image) -> None:
        super().__init__(directory)
        self.image = image
        self.state = directory / "state"

    def stub(self, name: str = "stub", **changes: Any) -> str:
        self.function("", name, **changes)
        self.images.images[f"{name}:1"] = self.image
        return name

    async def __aenter__(self) -> Self:
        self.driver = ContainerDriver(state_directory=self.state)
        self.plane = LambdaDataPlane(
            catalogue=self.catalogue,
            images=self.images,
            logs=self.logs,
            metrics=self.metrics,
            driver=self.driver,
            settings=DataPlaneSettings(),
        )
        await self.plane.start()
        return self


@pytest.fixture(scope="module")
def image(engine: str) -> Image:  # noqa: F811 - the fixture
    from tests.lab.images.test_engine import BASE_IMAGE

    os.environ.setdefault("LAB_BUILD_NETWORK", "host")
    record = Engine(engine).build(STUB, STUB / "Dockerfile", {"BASE_IMAGE": BASE_IMAGE}, "", use_cache=True)
    return Image(record.id, None, record.command, record.environment)


@pytest.fixture
def lab_of_containers(engine: str, image: Image, tmp_path: Path) -> Iterator[ContainerLab]:  # noqa: F811 - the fixture
    lab = ContainerLab(tmp_path, image)
    yield lab
    assert containers(engine, lab.state) == [], "no container stays behind"
    assert list(lab.state.glob("output-*")) == [], "no pipe stays behind"


def test_limits_variables_and_file_system_are_lambdas(lab_of_containers: ContainerLab) -> None:
    async def scenario() -> tuple[Any, list[str], list[int]]:
        async with lab_of_containers as lab:
            name = lab.stub(memory_mb=1769, environment={"MINE": "1"})
            assert (lab.driver.limits.driver, lab.driver.limits.memory) == ("container", "container")
            result = await lab.call(name, {"echo": 1, "fill_tmp_mb": 600}, log_tail=True)  # once it is idle
            assert result.function_error is None, result
            second = json.loads((await lab.call(name, {})).payload)
            assert second["call_number"] == 2
            (running,) = lab.driver._running.values()
            return json.loads(result.payload), lab.logs.lines(name), quota_of(running.pid)

    answer, lines, quota = asyncio.run(scenario())
    variables = answer["echo"]["environment"]
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "1769"
    assert variables["LAMBDA_TASK_ROOT"] == "/var/task"
    assert variables["MINE"] == "1"
    assert variables["RECORD"] == '{"name": "mobilenet"}'
    assert answer["echo"]["open_files"] == 1024
    # Whatever the engine says of its settings, the kernel holds the quota of the invoke, no longer that of the init.
    assert quota == [20_000, 20_000]
    assert "No space left" in answer["tmp"], "its /tmp holds 512 MB"
    kinds = [line.split(" ")[0].split("\t")[0] for line in lines if line.startswith(("START", "END", "REPORT", "{"))]
    ordered = [kind if not kind.startswith("{") else "own" for kind in kinds]
    # Before END and REPORT of its call stands what the function wrote in it.
    assert ordered[:4] == ["START", "own", "END", "REPORT"], lines


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"hog_mb": 400}, "signal: killed"),
        ({"signal": 11}, "signal: segmentation fault"),
        ({"signal": 9}, "signal: killed"),
        ({"exit": 3}, "exit status 3"),
    ],
)
def test_a_function_that_dies_is_reported_as_lambda_does_and_the_next_call_succeeds(
    event: dict[str, int], status: str, lab_of_containers: ContainerLab
) -> None:
    async def scenario() -> tuple[dict[str, Any], Any]:
        async with lab_of_containers as lab:
            name = lab.stub(memory_mb=256)
            result = await lab.call(name, event)
            assert result.function_error == "Unhandled"
            return json.loads(result.payload), json.loads((await lab.call(name, {})).payload)

    failure, after = asyncio.run(scenario())
    assert failure["errorType"] == "Runtime.ExitError"
    assert status in failure["errorMessage"]
    assert after["call_number"] == 1, "a new process"


def test_a_timeout_ends_the_container_and_an_idle_one_is_frozen(lab_of_containers: ContainerLab) -> None:
    async def scenario() -> None:
        async with lab_of_containers as lab:
            late = lab.stub("late", timeout_s=1.0)
            result = await lab.call(late, {"sleep_ms": 60_000})
            assert "timed out" in json.loads(result.payload)["errorMessage"]

            name = lab.stub("idle")
            await lab.call(name, {})
            paused: list[str] = []
            chosen = ["--filter", "status=paused", "--filter", f"label={LABEL}={lab.state}"]
            words = [lab.driver.program, "ps", "--all", "--quiet", *chosen]
            while not paused:
                done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
                paused = done.stdout.split()
                await asyncio.sleep(0.05)
            answer = json.loads((await lab.call(name, {})).payload)
            assert answer["call_number"] == 2

    asyncio.run(scenario())


def test_containers_of_a_killed_lab_are_removed_by_the_next_one_and_others_are_left_alone(
    engine: str,  # noqa: F811 - the fixture
    image: Image,
    tmp_path: Path,
) -> None:
    async def launched(state: Path) -> ContainerDriver:
        driver = ContainerDriver(state_directory=state)
        await driver.start()
        await driver.launch(
            LaunchSpec(
                environment_id="0" * 32,
                function_name="stub",
                image=image,
                command=image.command,
                working_directory="",
                variables={**image.environment, "STUB_INIT_MS": "600000"},
                runtime_api_port=9,
                memory_mb=256,
                init_vcpu=1,
                cpus=(0,),
                on_output=lambda _: None,
            )
        )
        return driver

    async def scenario() -> None:
        mine, other = tmp_path / "mine", tmp_path / "other"
        killed = await launched(mine)
        await killed._connected().close()  # and forgotten, as a kill -9 forgets
        survivor = await launched(other)
        assert len(containers(engine, mine)) == 1
        successor = ContainerDriver(state_directory=mine)
        await successor.start()
        assert containers(engine, mine) == []
        assert len(containers(engine, other)) == 1
        await successor.close()
        await survivor.close()
        assert containers(engine, other) == []

    asyncio.run(scenario())


def test_an_image_that_the_lab_built_itself_is_refused_with_what_to_do(
    engine: str,  # noqa: F811 - the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_ENGINE", engine)

    async def scenario() -> None:
        driver = ContainerDriver(state_directory=tmp_path)
        await driver.start()
        try:
            with pytest.raises(LaunchError, match="without a container engine"):
                await driver.launch(
                    LaunchSpec("1" * 32, "f", Image("x", tmp_path, (), {}), (), "", {}, 9, 256, 1, (0,), print)
                )
        finally:
            await driver.close()

    asyncio.run(scenario())


def test_an_engine_that_is_not_there_or_hangs_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("LAB_ENGINE", raising=False)
    with pytest.raises(EngineError, match="docker is not on PATH; podman is not on PATH"):
        find_engine()
    monkeypatch.setenv("LAB_ENGINE", "docker")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr("lab.images.engine._PATIENCE_S", 0.01)
    (tmp_path / "docker").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(EngineError, match=r"docker: no answer within 0\.01 s"):
        find_engine()
    monkeypatch.setenv("LAB_ENGINE", "abacus")
    with pytest.raises(EngineError, match="abacus"):
        find_engine()
