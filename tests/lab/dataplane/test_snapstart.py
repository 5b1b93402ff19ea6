"""SnapStart: init when a version is published, hooks in order, a restore at the first request, what refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal

import pytest

from lab.dataplane.rules import RESTORE_TIMEOUT_S
from lab.dataplane.settings import DataPlaneSettings
from lab.dataplane.snapstart import SnapStartEnvironment
from tests.lab.dataplane.harness import Lab, conditions, until

RESTORE_MS = 80.0
WITHOUT_HOOKS = "import os; os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'] = 'on-demand'\n"
HANDLER = """
import os
from snapshot_restore_py import register_after_restore, register_before_snapshot

steps = ["init " + os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]

@register_before_snapshot
def first():
    steps.append("before 1")

@register_before_snapshot
def second():
    steps.append("before 2")

@register_after_restore
def third():
    steps.append("after 1")

@register_after_restore
def fourth():
    steps.append("after 2")

def handler(event, context):
    steps.append("call")
    return [steps, os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")]
"""


@pytest.fixture
def lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr("lab.dataplane.snapstart.RESTORE_TIMEOUT_S", 600.0)
    lab.settings = dataclasses.replace(lab.settings, restore_ms=(RESTORE_MS, RESTORE_MS))
    return lab


def version_of(lab: Lab, source: str, **changes: object) -> str:
    """Deploy a function with a version 1 that has SnapStart; returns the function's name."""
    name = lab.function(source, **changes)
    version = dataclasses.replace(lab.catalogue.functions[name], version="1", initialization="snap-start")
    lab.catalogue.functions[version.key] = version
    return name


def allow(lab: Lab, name: str) -> None:
    """Give the image the label that lets a runtime without hooks be restored."""
    image = lab.images.images[f"{name}:1"]
    labels = {"com.amazonaws.lambda.feature.snapstart": "Allow"}
    lab.images.images[f"{name}:1"] = dataclasses.replace(image, labels=labels)


def restore_report(line: str) -> tuple[float, int, int]:
    """Restore Duration, Billed Restore Duration, and Billed Duration of a REPORT line."""
    found = re.search(
        r"Billed Duration: (\d+) ms.*\tRestore Duration: ([\d.]+) ms\tBilled Restore Duration: (\d+) ms", line
    )
    assert found, line
    return float(found[2]), int(found[3]), int(found[1])


async def test_a_version_is_initialized_when_it_is_published_and_restored_by_its_first_call(lab: Lab) -> None:
    name = version_of(lab, HANDLER)
    async with lab:
        assert await lab.plane.take_snapshot(name, "1") == ""
        assert [one.state for one in lab.plane.activity().environments] == ["snapshot"]
        (init_stream,) = lab.logs.streams(name).values()
        assert [line.split(":")[0] for line in init_stream] == ["INIT_REPORT Init Duration"]
        first, second = [await lab.call(name, qualifier="1") for _ in range(2)]
    hooks = ["init snap-start", "before 2", "before 1", "after 1", "after 2"]
    assert json.loads(first.payload) == [[*hooks, "call"], None]
    assert json.loads(second.payload) == [[*hooks, "call", "call"], None]
    init, served = lab.logs.streams(name).values()
    assert init == init_stream, "restored environments have streams of their own"
    assert served[0].startswith("RESTORE_REPORT Restore Duration: ")
    restored, warm = [line for line in served if line.startswith("REPORT")]
    restore_ms, billed_restore_ms, billed_ms = restore_report(restored)
    assert restore_ms >= RESTORE_MS + billed_restore_ms - 2  # each of the two is rounded
    assert billed_ms > billed_restore_ms >= 1
    assert "Init Duration" not in restored
    assert "Restore" not in warm


async def test_json_logs_tell_a_restore_by_platform_events(lab: Lab) -> None:
    name = version_of(lab, HANDLER, log_format="JSON", system_log_level="DEBUG")
    async with lab:
        await lab.plane.take_snapshot(name, "1")
        await lab.call(name, qualifier="1")
    events = [json.loads(line) for line in lab.logs.lines(name)]
    kinds = [event["type"] for event in events]
    assert {"platform.initReport", "platform.restoreStart", "platform.restoreRuntimeDone"} <= set(kinds)
    (init,) = [event["record"] for event in events if event["type"] == "platform.initReport"]
    assert init["initializationType"] == "snap-start"
    (restored,) = [event["record"] for event in events if event["type"] == "platform.restoreReport"]
    assert restored["status"] == "success"
    (report,) = [event["record"]["metrics"] for event in events if event["type"] == "platform.report"]
    assert report["restoreDurationMs"] == restored["metrics"]["durationMs"]
    assert "initDurationMs" not in report


async def test_a_restore_that_no_environment_was_ready_for_is_marked(lab: Lab) -> None:
    name = version_of(lab, HANDLER)
    async with lab:
        await lab.plane.take_snapshot(name, "1")
        answers = await asyncio.gather(*(lab.call(name, qualifier="1") for _ in range(2)))
        assert [answer.status for answer in answers] == [200, 200]
        await until(lambda: len(conditions(lab.logs.lines(name))) == 2, "two reports")
    assert any(one["hostContended"] for one in conditions(lab.logs.lines(name)))
    reports = [line for line in lab.logs.lines(name) if line.startswith("REPORT")]
    assert all("Restore Duration" in line and "Init Duration" not in line for line in reports)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no model')", "no model"),
        (
            """
            from snapshot_restore_py import register_before_snapshot
            register_before_snapshot(lambda: 1 / 0)
            handler = print
            """,
            "division by zero",
        ),
        ("import os; os._exit(3)", "exit status 3"),
    ],
)
async def test_a_failing_init_or_hook_says_why_no_snapshot_was_taken(lab: Lab, source: str, reason: str) -> None:
    name = version_of(lab, source + "\n")
    async with lab:
        assert reason in await lab.plane.take_snapshot(name, "1")
        assert lab.plane.environments == 0


async def test_a_runtime_without_hooks_needs_the_label_on_its_image(lab: Lab) -> None:
    name = version_of(lab, WITHOUT_HOOKS + "handler = lambda *_: 7\n")
    async with lab:
        assert "snapstart" in await lab.plane.take_snapshot(name, "1")
        allow(lab, name)
        assert await lab.plane.take_snapshot(name, "1") == ""
        assert (await lab.call(name, qualifier="1")).payload == b"7"
    (report,) = [line for line in lab.logs.lines(name) if line.startswith("REPORT")]
    assert restore_report(report)[1] == 0


async def test_a_failing_after_restore_hook_refuses_each_call(lab: Lab) -> None:
    name = version_of(
        lab,
        """
        from snapshot_restore_py import register_after_restore
        register_after_restore(lambda: 1 / 0)
        handler = print
        """,
    )
    async with lab:
        await lab.plane.take_snapshot(name, "1")
        for _ in range(2):
            refused = await lab.call(name, qualifier="1")
            assert (refused.status, refused.error_code) == (400, "SnapStartException")
    lines = lab.logs.lines(name)
    failed = [line for line in lines if line.startswith("RESTORE_REPORT")]
    assert len(failed) == 2
    assert all("Status: error" in line for line in failed)
    assert not any(line.startswith("REPORT") for line in lines)


@pytest.mark.slow
async def test_after_restore_hooks_have_ten_seconds(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.dataplane.snapstart.RESTORE_TIMEOUT_S", RESTORE_TIMEOUT_S)
    name = version_of(
        lab,
        """
        import time
        from snapshot_restore_py import register_after_restore
        register_after_restore(time.sleep, 3600)
        handler = print
        """,
    )
    async with lab:
        await lab.plane.take_snapshot(name, "1")
        refused = await lab.call(name, qualifier="1")
    assert (refused.status, refused.error_code) == (408, "SnapStartTimeoutException")
    assert any("Status: timeout" in line for line in lab.logs.lines(name) if line.startswith("RESTORE_REPORT"))


async def test_a_version_whose_snapshot_is_not_there_is_refused(lab: Lab) -> None:
    name = version_of(lab, HANDLER)
    async with lab:
        for state, code in (("Pending", "SnapStartNotReadyException"), ("Failed", "ResourceConflictException")):
            lab.change(f"{name}:1", state=state)
            refused = await lab.call(name, qualifier="1")
            assert (refused.status, refused.error_code) == (409, code)


async def test_the_latest_version_starts_on_demand(lab: Lab) -> None:
    name = version_of(lab, HANDLER)
    async with lab:
        await lab.plane.take_snapshot(name, "1")
        assert json.loads((await lab.call(name)).payload)[0] == ["init on-demand", "call"]
    (report,) = [line for line in lab.logs.lines(name) if line.startswith("REPORT")]
    assert "Init Duration" in report


async def test_an_idle_restored_environment_makes_room_for_the_next_restore(lab: Lab) -> None:
    lab.settings = dataclasses.replace(lab.settings, idle_s=0.2)
    name = version_of(lab, HANDLER)
    async with lab:
        await lab.plane.take_snapshot(name, "1")
        await lab.call(name, qualifier="1")
        inits = lambda: sum(line.startswith("INIT_REPORT") for line in lab.logs.lines(name))  # noqa: E731 - a condition
        await until(lambda: inits() == 2, "another environment is initialized")
        answer = await lab.call(name, qualifier="1")
        assert json.loads(answer.payload)[0].count("call") == 1


@pytest.mark.parametrize("hooks", [True, False])
async def test_a_process_that_dies_during_its_restore_is_refused_at_once(lab: Lab, *, hooks: bool) -> None:
    lab.settings = DataPlaneSettings(restore_ms=(1000.0, 1000.0))
    name = version_of(lab, HANDLER if hooks else WITHOUT_HOOKS + "handler = lambda *_: 7\n")
    allow(lab, name)
    async with lab:
        await lab.plane.take_snapshot(name, "1")
        (environment,) = lab.plane._all_environments()
        call = asyncio.create_task(lab.call(name, qualifier="1"))
        await until(lambda: [one.state for one in lab.plane.activity().environments] == ["restoring"], "a restore")
        assert environment._running is not None
        os.kill(environment._running.pid, signal.SIGKILL)
        refused = await call
        # A process that the kernel's older freezer holds dies only once it is thawed, perhaps with the event at hand.
        assert refused.error_code == "SnapStartException" or refused.function_error
        environment._around = dataclasses.replace(
            environment._around, settings=DataPlaneSettings(restore_ms=(0.0, 0.0))
        )
        assert (await lab.call(name, qualifier="1")).status == 200, "the next call initializes another process"


async def test_a_version_replaced_while_its_snapshot_is_taken_is_not_served_by_that_snapshot(lab: Lab) -> None:
    waits = """
    import os, time
    while not os.path.exists(os.path.dirname(__file__) + "/go"):
        time.sleep(0.01)
    import snapshot_restore_py
    handler = lambda *_: os.environ["NUMBER"]
    """
    name = version_of(lab, waits, environment={"NUMBER": "1"})
    async with lab:
        former = asyncio.create_task(lab.plane.take_snapshot(name, "1"))
        await until(lambda: lab.plane.environments == 1, "an init")
        lab.change(f"{name}:1", revision="2", environment={"NUMBER": "2"})
        later = asyncio.create_task(lab.plane.take_snapshot(name, "1"))
        await until(lambda: lab.plane.environments == 2, "another init")
        (lab.directory / name / "go").touch()
        assert ("replaced" in await former, await later) == (True, "")
        assert (await lab.call(name, qualifier="1")).payload == b'"2"'


async def test_an_init_ahead_that_breaks_leaves_no_environment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_environment: SnapStartEnvironment) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(SnapStartEnvironment, "prepare", broken)
    name = version_of(lab, HANDLER)
    async with lab:
        with pytest.raises(RuntimeError, match="broken"):
            await lab.plane.take_snapshot(name, "1")
        assert lab.plane.environments == 0
