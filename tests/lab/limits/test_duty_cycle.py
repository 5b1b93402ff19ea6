"""The duty cycle on real processes: what every user has, so nothing here needs a privilege."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from core.paths import REPOSITORY
from lab.limits.governor import Governor
from lab.limits.probe import find_limits
from lab.limits.processes import ProcessTree, cpu_clock
from tests.lab.dataplane.harness import conditions, reports, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads CPU clocks of other processes and /proc")

PERIOD_US = 20_000
SPIN = "while True: pass"
IN_RECORDS = "duty-cycle"


@pytest.fixture
def start():
    """Start Python programs, each the leader of a process group of its own, and end them."""
    running = []

    def one(source, **options):
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", textwrap.dedent(source)], start_new_session=True, **options
        )
        running.append(process)
        return process

    yield one
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def govern(governor, done):
    """Do what the launcher does between two messages, until something has happened."""
    while not done():
        wait_s = governor.look()
        assert wait_s is not None
        time.sleep(wait_s)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def cpu_ns(pid):
    return time.clock_gettime_ns(cpu_clock(pid))


def added(governor, process, *, vcpu=2.0, memory_mb=4096):
    governor.add(process.pid, vcpu=vcpu, cpus=2, memory_bytes=memory_mb << 20, period_us=PERIOD_US)
    return process


def test_a_busy_process_uses_no_more_than_its_allowance(start):
    governor = Governor()
    process = added(governor, start(SPIN), vcpu=0.25)
    started_ns, before_ns = time.monotonic_ns(), cpu_ns(process.pid)
    looked_ns, longest_ns = started_ns, 0
    while (now_ns := time.monotonic_ns()) - started_ns < 500_000_000:
        wait_s = governor.look()
        longest_ns = max(longest_ns, time.monotonic_ns() - looked_ns)
        looked_ns = now_ns
        time.sleep(wait_s)
    used_ns, passed_ns = cpu_ns(process.pid) - before_ns, time.monotonic_ns() - started_ns
    longest_ns = max(longest_ns, started_ns + passed_ns - looked_ns)
    # A quota ahead, and what ran in the longest time between two looks. A busy machine makes that time long and lets
    # the process use less, so the bound holds on it, too.
    assert used_ns <= 0.25 * passed_ns + 0.25 * PERIOD_US * 1000 + longest_ns


def test_children_count_and_are_stopped_with_their_parent(start):
    governor = Governor()
    source = """
        import os, sys
        child = os.fork()
        if child == 0:
            os.setsid()  # out of its parent's process group
            while True: pass
        print(child, flush=True)
        os.waitpid(child, 0)
    """
    # So little that what one tick of a busy machine's scheduler gives is too much.
    process = added(governor, start(source, stdout=subprocess.PIPE), vcpu=0.05)
    child = int(process.stdout.readline())
    govern(governor, lambda: state_of(child) == "T")
    governor.freeze(process.pid)
    assert governor.look() is None
    used_ns = cpu_ns(child)
    assert cpu_ns(child) == used_ns
    governor.thaw(process.pid)
    govern(governor, lambda: cpu_ns(child) > used_ns)
    os.kill(child, signal.SIGKILL)


def test_a_child_that_was_started_just_before_a_freeze_is_stopped_too(start):
    governor = Governor()
    source = """
        import os, sys
        sys.stdin.readline()
        if os.fork() == 0:
            os.setsid()
            print(os.getpid(), flush=True)
            while True: pass
        sys.stdin.readline()
    """
    process = added(governor, start(source, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    governor.look()  # the last search for processes before the child
    process.stdin.write(b"\n")
    process.stdin.flush()
    child = int(process.stdout.readline())
    governor.freeze(process.pid)
    while state_of(child) != "T":
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)


def test_a_child_counts_from_the_next_period_on(start):
    source = """
        import os, sys, time
        for line in sys.stdin:
            if os.fork() == 0:
                end = time.process_time() + 0.05
                while time.process_time() < end: pass
                print("busy", flush=True)
                while True: time.sleep(1)
    """
    process = start(source, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tree = ProcessTree(process.pid)
    for children in (1, 2, 3):
        tree.cpu_ns(time.monotonic_ns())
        process.stdin.write(b"another\n")
        process.stdin.flush()
        process.stdout.readline()
        next_period_ns = time.monotonic_ns() + PERIOD_US * 1000
        assert tree.cpu_ns(next_period_ns) >= children * 50_000_000
    tree.close()


def test_time_of_ended_children_stays_on_the_account(start):
    source = """
        import os, sys, time
        for _ in range(2):
            if os.fork() == 0:
                end = time.process_time() + 0.2
                while time.process_time() < end: pass
                os._exit(0)
            os.wait()
        print("done", flush=True)
        sys.stdin.read()
    """
    process = start(source, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tree = ProcessTree(process.pid)
    process.stdout.readline()
    assert tree.cpu_ns(time.monotonic_ns()) >= 380_000_000  # the kernel tells it in ticks of 10 ms
    tree.close()


def test_a_frozen_process_stays_stopped_and_needs_no_look(start):
    governor = Governor()
    process = added(governor, start(SPIN), vcpu=0.25)
    govern(governor, lambda: cpu_ns(process.pid) > 50_000_000)
    governor.freeze(process.pid)
    assert governor.look() is None
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED) is not None
    governor.set_cpu(process.pid, 2.0)  # a change of the share thaws nothing
    assert governor.look() is None
    assert state_of(process.pid) == "T"
    used_ns = cpu_ns(process.pid)
    governor.thaw(process.pid)
    govern(governor, lambda: cpu_ns(process.pid) > used_ns)


def test_a_process_over_its_memory_is_killed(start):
    governor = Governor()
    process = added(governor, start("held = [b'x' * (1 << 20) for _ in range(200)]\nwhile True: pass"), memory_mb=64)
    govern(governor, lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGKILL
    assert governor.remove(process.pid)


def test_memory_is_limited_also_while_the_account_of_cpu_time_stands_still(start, monkeypatch):
    monkeypatch.setattr(ProcessTree, "cpu_ns", lambda *_: 0)
    governor = Governor()
    process = added(governor, start("held = [b'x' * (1 << 20) for _ in range(200)]\nwhile True: pass"), memory_mb=64)
    govern(governor, lambda: process.poll() is not None)
    assert governor.remove(process.pid)


def test_memory_shared_after_a_fork_counts_once(start):
    source = """
        import os, sys
        held = b"x" * (60 << 20)
        children = [os.fork() for _ in range(1)]
        if children == [0]:
            sys.stdin.read()
            os._exit(0)
        print("ready", flush=True)
        sys.stdin.read()
    """
    process = start(source, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    tree = ProcessTree(process.pid)
    tree.cpu_ns(time.monotonic_ns())
    assert 60 << 20 <= tree.anonymous_bytes(limit_bytes=100 << 20) < 100 << 20
    tree.close()


def test_a_process_that_ends_while_it_is_watched_is_no_error(start):
    governor = Governor()
    process = added(governor, start("pass"), vcpu=0.25)
    govern(governor, lambda: process.poll() is not None)
    governor.look()
    governor.freeze(process.pid)
    governor.thaw(process.pid)
    assert governor.remove(process.pid) is False
    assert governor.remove(process.pid) is False
    assert governor.look() is None


def test_the_duty_cycle_can_be_asked_for_and_says_so():
    limits = find_limits("duty-cycle")
    assert (limits.cpu, limits.memory, limits.freezer) == ("duty-cycle", "duty-cycle", "signal")


@pytest.mark.parametrize("page", ["how-to/machine-without-root.md", "reference/lab.md"])
def test_the_pages_say_what_a_record_holds(page):
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    assert re.findall(r"`limits\W+([\w/-]*duty-cycle[\w/-]*)\W", text) == [IN_RECORDS]


HOLDS = """
    import time
    def handler(event, context):
        held = bytearray(event << 20)
        held[::4096] = b"x" * len(held[::4096])
        while event > 128: time.sleep(0.01)  # until it is killed
        return len(held)
"""


async def test_a_function_over_its_memory_is_an_exit_error(lab):
    lab.mechanism = "duty-cycle"
    lab.function(HOLDS, memory_mb=128)
    async with lab:
        assert await lab.answer(event=32) == 32 << 20
        result = await lab.call(event=600)
        assert await lab.answer(event=32) == 32 << 20  # a new process
    message = f"RequestId: {result.request_id} Error: Runtime exited with error: signal: killed"
    assert json.loads(result.payload) == {"errorType": "Runtime.ExitError", "errorMessage": message}
    lines = lab.logs.lines("function")
    assert [report["max_mb"] for report in reports(lines)][1] == "128"
    assert {line["limits"] for line in conditions(lines)} == {IN_RECORDS}


async def test_an_idle_function_is_frozen_and_answers_again(lab):
    lab.mechanism = "duty-cycle"
    lab.function(
        """
        import os, threading
        def spin():
            while True: pass
        threading.Thread(target=spin, daemon=True).start()
        def handler(event, context): return os.getpid()
        """,
        environment={"LAB_VCPU": "0.5"},
    )
    async with lab:
        pid = await lab.answer()
        (environment,) = lab.plane._all_environments()
        await until(lambda: environment.is_frozen and state_of(pid) == "T", "the function to be frozen")
        used_ns = -1  # the launcher may have been about to continue it
        while used_ns != (now_ns := cpu_ns(pid)) or state_of(pid) != "T":
            used_ns = now_ns
            await asyncio.sleep(0.5)
        assert await lab.answer() == pid
