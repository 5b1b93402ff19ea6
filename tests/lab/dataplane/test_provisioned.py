"""Provisioned concurrency: environments initialized ahead of need, kept, and what spills over."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from lab.dataplane.settings import DataPlaneSettings
from tests.lab.dataplane.harness import Lab, quota_of, reports, until

HANDLER = """
import os, time

def handler(event, context):
    time.sleep(event or 0)
    return [os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]]
"""


def version_of(lab: Lab, count: int, source: str = HANDLER, **changes: object) -> str:
    """Deploy a function with a version 1 that has so many provisioned environments; returns the function's name."""
    name = lab.function(source, **changes)
    version = dataclasses.replace(lab.catalogue.functions[name], version="1", provisioned=count)
    lab.catalogue.functions[version.key] = version
    return name


async def there(lab: Lab, name: str, count: int) -> None:
    function = lab.catalogue.functions[f"{name}:1"]
    await until(lambda: lab.plane.provisioned_state(function) == (count, ""), f"{count} provisioned environments")


async def test_provisioned_environments_are_there_before_any_call_and_the_rest_spills_over(lab: Lab) -> None:
    name = version_of(lab, 1, log_format="JSON")
    async with lab:
        await there(lab, name, 1)
        inits = [json.loads(line) for line in lab.logs.lines(name)]
        assert [(one["type"], one["record"]["initializationType"]) for one in inits] == [
            ("platform.initReport", "provisioned-concurrency")
        ]
        answers = await asyncio.gather(*(lab.call(name, 0.5, qualifier="1") for _ in range(2)))
        kinds = sorted(json.loads(answer.payload)[0] for answer in answers)
        assert kinds == ["on-demand", "provisioned-concurrency"]
        await until(lambda: sum("platform.report" in line for line in lab.logs.lines(name)) == 2, "both are idle")
        again = json.loads((await lab.call(name, qualifier="1")).payload)
        assert again[0] == "provisioned-concurrency", "it is taken before one that started on demand"
    records = [json.loads(line) for line in lab.logs.lines(name)]
    with_init = [one for one in records if "initDurationMs" in one["record"].get("metrics", {})]
    assert len(with_init) == 1, "what spilled over reports its init"
    values = lab.metrics.values
    assert values[name, "ProvisionedConcurrencyInvocations"] == [1.0, 1.0]
    assert values[name, "ProvisionedConcurrencySpilloverInvocations"] == [1.0]


async def test_init_ahead_gets_no_more_cpu_than_the_share(lab: Lab) -> None:
    name = version_of(lab, 1, "import time; time.sleep(600)\nhandler = print\n", memory_mb=512)
    async with lab:
        if lab.plane.limits.cpu not in ("cgroup-v1", "cgroup-v2"):
            pytest.skip("needs CPU groups of the kernel, whose quota it reads")
        await until(lambda: lab.plane.environments == 1, "an environment is initialized")
        (pool,) = lab.plane._pools.values()
        (environment,) = pool.all
        await until(lambda: environment._running is not None, "its process runs")
        quota_us, period_us = quota_of(environment._running.pid)
        assert quota_us / period_us < 0.5
    assert not reports(lab.logs.lines(name))


async def test_idle_provisioned_environments_stay_and_end_when_they_are_no_longer_wanted(lab: Lab) -> None:
    lab.settings = DataPlaneSettings(idle_s=0.2)
    name = version_of(lab, 1)
    async with lab:
        await there(lab, name, 1)
        first = json.loads((await lab.call(name, qualifier="1")).payload)
        (pool,) = lab.plane._pools.values()
        await until(lambda: pool.idle, "it is idle again")
        pool.idle[0].idle_since -= lab.settings.idle_s
        await lab.looked_after()
        assert json.loads((await lab.call(name, qualifier="1")).payload) == first
        lab.change(f"{name}:1", provisioned=0)
        await until(lambda: lab.plane.environments == 0, "it has ended")


async def test_a_failing_init_ahead_says_why_and_is_not_tried_for_ever(lab: Lab) -> None:
    name = version_of(lab, 1, "raise RuntimeError('no model')\n")
    async with lab:
        function = lab.catalogue.functions[f"{name}:1"]

        def inits() -> int:
            return sum(line.startswith("INIT_REPORT") for line in lab.logs.lines(name))

        await until(lambda: "no model" in lab.plane.provisioned_state(function)[1], "the failure is known")
        await lab.looked_after()
        (pool,) = lab.plane._pools.values()
        assert (inits(), pool.provisioning) == (1, False)
        lab.plane.provision_again(function)
        await until(lambda: inits() == 2, "it is tried again when it is asked for again")
        await until(lambda: "no model" in lab.plane.provisioned_state(function)[1], "and fails again")
        lab.change(f"{name}:1", revision="2")
        await until(lambda: inits() == 3, "new code is tried, too")


async def test_concurrency_withdrawn_before_it_is_ready_starts_nothing_more(lab: Lab) -> None:
    name = version_of(
        lab,
        2,
        """
        import os, time
        while not os.path.exists(os.path.dirname(__file__) + "/go"):
            time.sleep(0.01)
        handler = print
        """,
        log_format="JSON",
    )
    async with lab:
        await until(lambda: lab.plane.environments == 1, "the first of two is being initialized")
        (pool,) = lab.plane._pools.values()
        lab.change(f"{name}:1", provisioned=0)
        await until(lambda: pool.configuration.provisioned == 0, "the lab knows")
        (lab.directory / name / "go").touch()
        await until(lambda: not pool.provisioning and lab.plane.environments == 0, "it has ended")
        assert sum("platform.initReport" in line for line in lab.logs.lines(name)) == 1


async def test_an_exception_while_environments_are_looked_after_stops_nothing(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    name = version_of(lab, 1)
    provisioned = lab.catalogue.provisioned
    lab.catalogue.provisioned = lambda: 1 / 0
    async with lab:
        await until(lambda: "division by zero" in caplog.text, "it is logged")
        lab.catalogue.provisioned = provisioned
        await there(lab, name, 1)


async def test_a_lab_that_cannot_close_one_of_its_parts_still_ends_its_environments(lab: Lab) -> None:
    name = version_of(lab, 1)
    await lab.__aenter__()
    await there(lab, name, 1)
    (environment,) = lab.plane._all_environments()
    lab.plane._asynchronous.close = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await lab.plane.close()
    assert environment.ended
    assert environment._running is None
