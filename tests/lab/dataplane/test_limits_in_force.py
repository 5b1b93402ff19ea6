"""Time, memory, payloads: what a function may not exceed, and what Lambda says when it does."""

import asyncio
import errno
import json
import time

import pytest

from lab.dataplane.rules import MAX_RESPONSE_BYTES
from lab.limits.processes import cpu_clock
from tests.lab.dataplane.harness import conditions, quota_of, reports, until

STUBBORN = """
    import os, signal, sys, time
    calls = 0
    def handler(event, context):
        global calls
        calls += 1
        match event:
            case "sleep": time.sleep(60)
            case "exit": sys.exit(3)
            case "exit 0": os._exit(0)
            case "segfault": os.kill(os.getpid(), signal.SIGSEGV)
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
            case int(size): return "x" * size
            case {"hold_mb": mb}:
                held = bytearray(mb << 20)
                held[::4096] = b"x" * len(held[::4096])
                return len(held)
        return calls
"""


async def test_a_function_over_its_timeout_is_killed_and_its_environment_reset(lab):
    lab.function(STUBBORN, timeout_s=15)  # enough for the third call, whose init is part of its time
    async with lab:
        assert await lab.answer() == 1
        result = await lab.call(event="sleep")
        assert await lab.answer() == 1  # a new process, in the same environment
    assert json.loads(result.payload) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {result.request_id} Error: Task timed out after 15.00 seconds",
    }
    lines = lab.logs.lines("function")
    assert any(line.endswith(f"Z {result.request_id} Task timed out after 15.00 seconds") for line in lines)
    _, timed_out, after = reports(lines)
    assert (timed_out["status"], timed_out["duration_ms"], timed_out["billed_ms"]) == ("timeout", "15000.00", "15000")
    assert after["init_ms"] is None  # the init inside the invoke is part of Duration
    assert float(after["duration_ms"]) > 20
    assert len(lab.logs.streams("function")) == 1


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("exit", "Runtime exited with error: exit status 3"),
        ("exit 0", "Runtime exited without providing a reason"),
        ("segfault", "Runtime exited with error: signal: segmentation fault"),
        ("kill", "Runtime exited with error: signal: killed"),
    ],
)
async def test_a_runtime_that_ends_is_an_exit_error_with_its_reason(lab, event, reason):
    lab.function(STUBBORN)
    async with lab:
        result = await lab.call(event=event)
        assert await lab.answer() == 1
    assert result.function_error == "Unhandled"
    message = f"RequestId: {result.request_id} Error: {reason}"
    assert json.loads(result.payload) == {"errorType": "Runtime.ExitError", "errorMessage": message}
    lines = lab.logs.lines("function")
    assert f"{message}\nRuntime.ExitError" in lines
    assert reports(lines)[0]["error_type"] == "Runtime.ExitError"


async def test_memory_over_the_limit_kills_the_function(lab):
    lab.function(STUBBORN, memory_mb=128, environment={"LAB_VCPU": "1"})  # its own share would take seconds
    async with lab:
        if lab.plane.limits.memory == "none":
            pytest.skip("this host enforces no memory limit")
        assert await lab.answer(event={"hold_mb": 64}) == 64 << 20
        result = await lab.call(event={"hold_mb": 256})
        assert await lab.answer() == 1
    assert json.loads(result.payload) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {result.request_id} Error: Runtime exited with error: signal: killed",
    }
    within, over, _ = reports(lab.logs.lines("function"))
    assert 64 <= int(within["max_mb"]) < 128
    assert over["max_mb"] == over["memory_mb"] == "128"


async def test_tmp_is_on_disk_holds_more_than_the_memory_and_ends_at_its_own_size(lab):
    lab.function(
        """
        import os
        from pathlib import Path
        def handler(event, context):
            before = "fill" in os.listdir("/tmp")
            written = 0
            try:
                with open("/tmp/fill", "wb") as file:
                    while event:
                        written += file.write(b"x" * 1_000_000)
            except OSError as error:
                return [before, error.errno, written // 1_000_000]
            return [before, 0, 0]
        """,
        memory_mb=128,
        environment={"LAB_VCPU": "1"},
    )
    async with lab:
        if any("/tmp is in memory" in note or "temporary directory" in note for note in lab.driver.notes):
            pytest.skip("; ".join(lab.driver.notes))
        before, number, megabytes = await lab.answer(event=True)
        again, _, _ = await lab.answer()
        lab.change("function", revision="2")
        other, _, _ = await lab.answer()
    assert (before, number) == (False, errno.ENOSPC)
    assert 512 <= megabytes <= 540
    assert again is True  # an environment keeps what it has written
    assert other is False
    assert {report["status"] for report in reports(lab.logs.lines("function"))} == {None}


async def test_the_memory_of_child_processes_counts(lab):
    lab.function(
        """
        import subprocess, sys
        code = "held = bytearray(80 << 20); held[::4096] = b'x' * len(held[::4096]); print('held', flush=True); input()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        def handler(event, context): pass
        """
    )
    async with lab:
        if lab.plane.limits.memory == "none":
            pytest.skip("without a group nobody knows its processes")
        await lab.call()
    (report,) = reports(lab.logs.lines("function"))
    assert int(report["max_mb"]) >= 90


async def test_a_response_over_six_megabytes_is_refused(lab):
    lab.function(STUBBORN)
    async with lab:
        fits = await lab.call(event=6_000_000)
        result = await lab.call(event=MAX_RESPONSE_BYTES + 1)
        again = await lab.call()
    assert fits.function_error is None
    assert len(fits.payload) == 6_000_002
    assert result.function_error == "Unhandled"
    assert json.loads(result.payload) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes).",
    }
    assert again.function_error is None


async def test_a_request_over_the_limit_never_reaches_the_function(lab):
    lab.function(STUBBORN)
    async with lab:
        synchronous = await lab.plane.invoke("function", b'"' + b"x" * (6 << 20) + b'"')
        asynchronous = await lab.plane.invoke("function", b'"' + b"x" * (1 << 20) + b'"', invocation_type="Event")
    assert (synchronous.status, synchronous.error_code) == (413, "RequestTooLargeException")
    assert (asynchronous.status, asynchronous.error_code) == (413, "RequestTooLargeException")
    assert not lab.logs.events


@pytest.mark.parametrize(
    "share",
    [{"memory_mb": 442}, {"memory_mb": 3008, "environment": {"LAB_VCPU": "0.25"}}],
    ids=["by memory", "asked for"],
)
async def test_cpu_time_is_a_share_of_wall_time(lab, share):
    lab.function(
        """
        import time
        def handler(event, context):
            start, used = time.monotonic(), time.process_time()
            while time.process_time() - used < event:
                pass
            return time.monotonic() - start
        """,
        **share,  # a quarter of a vCPU either way
    )
    async with lab:
        if not lab.plane.limits.cpu.startswith("cgroup"):
            pytest.skip("the kernel enforces no CPU share here: no cgroup can be written")
        await lab.answer(event=0.01)
        elapsed_s = await lab.answer(event=0.25)
    # The kernel hands out 5 ms in each 20 ms: 0.25 s of CPU take about a second, and never much less.
    assert elapsed_s > 0.8


@pytest.mark.parametrize(("memory_mb", "vcpu"), [(442, 0.25), (3008, 1.7), (10_240, 5.79)])
async def test_the_kernel_holds_lambdas_quota_with_its_period_once_init_is_over(lab, memory_mb, vcpu):
    lab.function("def handler(event, context): pass", memory_mb=memory_mb)
    async with lab:
        if not lab.plane.limits.cpu.startswith("cgroup"):
            pytest.skip("the kernel enforces no CPU share here: no cgroup can be written")
        await lab.call()
        (environment,) = lab.plane._all_environments()
        found = quota_of(environment._running.pid)
    assert found == [pytest.approx(vcpu * 20_000, rel=0.001), 20_000]


async def test_an_idle_environment_is_frozen_and_thawed_by_the_next_call(lab):
    lab.function(
        """
        import threading, time
        spun = 0
        def spin():
            global spun
            while True:
                spun += 1
        threading.Thread(target=spin, daemon=True).start()
        def handler(event, context):
            return [spun, time.process_time()]
        """
    )
    async with lab:
        (environment,) = await _environments_after_a_call(lab)
        await until(lambda: environment.is_frozen, "the environment to be frozen")
        clock = cpu_clock(environment._running.pid)
        used_ms = [1000 * time.clock_gettime(clock)]
        # A signal arrives when the busy process is scheduled next, so this may take any number of half seconds. A
        # process that spins on uses CPU in each of them, and the test ends at its time limit.
        while len(used_ms) < 2 or used_ms[-1] - used_ms[-2] > 20:  # one tick of the kernel's accounting either way
            await asyncio.sleep(0.5)
            used_ms.append(1000 * time.clock_gettime(clock))
        spun, _ = await lab.answer()
        assert spun > 0


async def _environments_after_a_call(lab):
    await lab.call()
    return lab.plane._all_environments()


async def test_major_page_faults_of_each_invocation_are_counted(lab):
    lab.function(
        """
        import mmap, os
        def handler(event, context):
            path = "/var/tmp/faults-" + str(os.getpid())
            with open(path, "wb") as file:
                file.write(b"x" * (8 << 20))
                file.flush()
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
                pages.madvise(mmap.MADV_RANDOM)
                sum(pages[::4096])
            os.unlink(path)
        """
    )
    async with lab:
        await lab.call()
        await lab.call()
    _, second = conditions(lab.logs.lines("function"))
    assert second["majorPageFaults"] > 100
