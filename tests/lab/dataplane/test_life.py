"""How many environments there are, how long they live, and who is throttled."""

import asyncio
import dataclasses

import pytest

from tests.lab.dataplane.harness import reports, until
from tests.processes import is_alive

WHO = """
    import os, time
    def handler(event, context):
        print("begun", flush=True)
        time.sleep(event or 0)
        return os.getpid()
"""


def settings(lab, **changes):
    lab.settings = dataclasses.replace(lab.settings, **changes)


async def calls_begun(lab, count):
    await until(lambda: lab.logs.lines("function").count("begun") == count, f"{count} calls to begin")


async def test_an_idle_environment_is_reclaimed_after_the_idle_time(lab):
    settings(lab, idle_s=8.0, time_scale=16.0)  # half a second
    lab.function(WHO)
    async with lab:
        pid = await lab.answer()
        await until(lambda: lab.plane.environments == 0, "the environment to be reclaimed")
        await until(lambda: not is_alive(pid), "its process to end")
        assert await lab.answer() != pid
    assert [report["init_ms"] is not None for report in reports(lab.logs.lines("function"))] == [True, True]
    assert len(lab.logs.streams("function")) == 2


async def test_the_newest_idle_environment_serves_next_and_the_oldest_is_reclaimed_first(lab):
    lab.function(WHO)
    async with lab:
        pids = set(await asyncio.gather(lab.answer(), lab.answer()))
        assert len(pids) == 2
        pool = lab.plane._pools["function"]
        await until(lambda: len(pool.idle) == 2, "both environments to be idle")
        newer = await lab.answer()
        (older,) = pids - {newer}
        for _ in range(5):
            await until(lambda: len(pool.idle) == 2, "the one that has just answered to be idle again")
            assert await lab.answer() == newer
        await until(lambda: len(pool.idle) == 2, "both environments to be idle")
        oldest, _ = pool.idle
        oldest.idle_since -= lab.settings.idle_s
        await until(lambda: not is_alive(older), "the older environment's end")
        assert lab.plane.environments == 1
        assert await lab.answer() == newer


async def test_a_new_revision_replaces_idle_and_busy_environments(lab):
    lab.function(WHO)
    async with lab:
        idle = await lab.answer()
        busy = asyncio.ensure_future(lab.answer(event=1.0))
        await calls_begun(lab, 2)
        lab.change("function", revision="2", environment={"CHANGED": "yes"})
        after = await lab.answer()
        assert after not in (idle, await busy)
        assert await lab.answer() == after
        await until(lambda: lab.plane.environments == 1, "the old environments' end")


async def test_the_environments_of_a_deleted_function_end(lab):
    lab.function(WHO)
    async with lab:
        pid = await lab.answer()
        del lab.catalogue.functions["function"]
        await until(lambda: not is_alive(pid), "the environment's end")
        assert (await lab.call()).status == 404


async def test_reserved_concurrency_throttles_what_is_over_it(lab):
    lab.function(WHO, reserved_concurrency=2)
    lab.function(WHO, "off", reserved_concurrency=0)
    async with lab:
        results = await asyncio.gather(*(lab.call(event=0.5) for _ in range(5)))
        off = await lab.call("off")
        sequential = [await lab.call() for _ in range(20)]
    assert sorted(result.status for result in results) == [200, 200, 429, 429, 429]
    throttled = next(result for result in results if result.status == 429)
    assert throttled.error_code == "TooManyRequestsException"
    assert throttled.extra["reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert off.status == 429
    assert {result.status for result in sequential} == {200}
    assert lab.metrics.values["function", "Throttles"] == [1, 1, 1]


async def test_the_accounts_concurrency_is_shared_by_functions_without_a_reservation(lab):
    lab.catalogue.concurrency = 4
    lab.function(WHO, "a")
    lab.function(WHO, "b")
    lab.function(WHO, "reserved", reserved_concurrency=2)
    async with lab:
        await lab.call("reserved")
        calls = [lab.call(name, event=0.5) for name in ("a", "b", "a", "reserved", "reserved")]
        statuses = [result.status for result in await asyncio.gather(*calls)]
    assert sorted(statuses[:3]) == [200, 200, 429]  # 4 less the 2 that are reserved
    assert statuses[3:] == [200, 200]


async def test_new_environments_are_limited_to_a_burst_in_a_window(lab):
    settings(lab, new_environments_burst=3, burst_window_s=600.0)
    lab.function(WHO)
    async with lab:
        results = await asyncio.gather(*(lab.call(event=0.5) for _ in range(5)))
        assert (await lab.call()).status == 200  # a warm one needs no new environment
    assert sorted(result.status for result in results) == [200, 200, 200, 429, 429]


async def test_a_host_short_of_memory_reclaims_idle_environments_before_it_refuses(lab, monkeypatch):
    lab.function(WHO, "a")
    lab.function(WHO, "b")
    async with lab:
        from lab.dataplane import environment, plane

        monkeypatch.setattr(environment, "_REST_S", 600.0)  # so the idle one has only just answered
        await lab.call("a")
        await until(lambda: lab.plane._pools["a"].idle, "an idle environment")
        # 1 MB less than the reserve and a first environment take.
        monkeypatch.setattr(plane, "available_memory_mb", lambda: 767.0)
        assert (await lab.call("b")).status == 200
        assert len(lab.plane._pools["a"].all) == 0
        monkeypatch.setattr(plane, "available_memory_mb", lambda: 100.0)
        refused = await lab.call("a")
    assert refused.status == 429
    assert refused.extra["reason"] == "HostMemoryExceeded"


async def test_a_closing_lab_answers_who_waits_and_leaves_no_process(lab):
    lab.function(WHO)
    async with lab:
        pids = await asyncio.gather(*(lab.answer(event=0.3) for _ in range(3)))
        waiting = asyncio.ensure_future(lab.call(event=60))
        await calls_begun(lab, 4)
    result = await waiting
    assert result.function_error == "Unhandled"
    assert b"shut down" in result.payload
    assert not any(is_alive(pid) for pid in pids)
    assert len(reports(lab.logs.lines("function"))) == 4


@pytest.mark.parametrize("count", [30])
async def test_no_log_line_is_lost_or_reordered_under_concurrent_invocations(lab, count):
    lab.function(
        """
        import sys, time
        def handler(event, context):
            for number in range(50):
                (sys.stdout if number % 2 else sys.stderr).write(f"{context.aws_request_id} {number}\\n")
                if number % 10 == 0: time.sleep(0.001)
        """
    )
    async with lab:
        results = await asyncio.gather(*(lab.call() for _ in range(count)))
        results += await asyncio.gather(*(lab.call() for _ in range(count)))
    streams = lab.logs.streams("function")
    seen = {}
    for lines in streams.values():
        current = None
        for line in lines:
            if line.startswith("START RequestId: "):
                current = line.split()[2]
                seen[current] = []
            elif line.startswith("END RequestId: "):
                assert line.split()[2] == current
                current = None
            elif current is not None:
                seen[current].append(line)
    assert seen == {result.request_id: [f"{result.request_id} {number}" for number in range(50)] for result in results}
