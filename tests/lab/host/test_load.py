"""What other programs take from the host: the rule by figures, and the kernel's own accounting."""

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.host.load import CpuReading, is_taken_by_others, parse_stat
from lab.host.resources import host_cpus
from tests.lab.dataplane.harness import conditions, until

START = CpuReading(busy_s=100.0, idle_s=50.0, steal_s=1.0, environments_s=40.0)


def after(*, environments, others=0.0, idle=0.0, steal=0.0):
    return CpuReading(
        busy_s=START.busy_s + environments + others + steal,
        idle_s=START.idle_s + idle,
        steal_s=START.steal_s + steal,
        environments_s=START.environments_s + environments,
    )


@pytest.mark.parametrize(
    ("reading", "taken"),
    [
        (after(environments=1.0), False),  # full of environments: what the ledger is for
        (after(environments=0.97, others=0.03), False),
        (after(environments=0.9, others=0.1), True),
        (after(environments=0.9, steal=0.1), True),
        (after(environments=0.5, others=0.4, idle=0.1), False),  # a CPU was idle: nobody had to wait
        (after(environments=0.0, others=1.0), True),
        (after(environments=0.0), False),  # no time has passed
    ],
)
def test_others_take_cpu_when_the_host_is_full_and_not_with_environments_alone(reading, taken):
    assert is_taken_by_others(START, reading) is taken


@given(*[st.floats(0, 10, allow_subnormal=False)] * 3)
def test_without_an_account_of_environments_only_steal_is_held_against_others(busy, idle, steal):
    before = CpuReading(0.0, 0.0, 0.0, None)
    found = is_taken_by_others(before, CpuReading(busy + steal, idle, steal, None))
    if steal == 0 or idle > 0.5 * (busy + steal):
        assert not found
    if idle == 0 and steal > busy and steal > 0.01:
        assert found


def test_the_kernels_text_is_read_for_the_cpus_that_the_lab_may_use():
    lines = ("cpu  9 9 9 9 9 9 9 9 0 0", "cpu0 1 2 3 100 10 4 5 6 1 1", "cpu1 10 0 0 50 0 0 0", "cpu10 1 1 1 1 1 1 1 1")
    text = "\n".join([*lines, "intr 5 cpu1", ""])
    assert parse_stat(text, (0,), 100, 1.5) == CpuReading(0.21, 1.1, 0.06, 1.5)
    assert parse_stat(text, (0, 1), 100, None) == CpuReading(0.31, 1.6, 0.06, None)
    assert parse_stat(text, (7,), 100, None) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the accounting is Linux's")
async def test_a_call_beside_programs_that_take_every_cpu_is_marked_with_the_reason(lab):
    lab.function(
        """
        import time
        def handler(event, context):
            end = time.monotonic() + event
            while time.monotonic() < end:
                pass
        """,
        memory_mb=1769,
    )
    async with lab:
        if lab.driver.environments_cpu_ms() is None:
            pytest.skip("nobody accounts for the CPU time of environments here")
        # Nice, so that tests beside this one get on; a CPU that one of them takes is not idle all the same.
        command = ["nice", sys.executable, "-c", "while True: pass"]
        hogs = [await asyncio.create_subprocess_exec(*command) for _ in host_cpus()]
        try:
            await until(lambda: lab.plane._watch.taken_since(1 << 40), "others to be noticed")
            await lab.answer(event=0.05)
        finally:
            for hog in hogs:
                hog.kill()
                await hog.wait()
    (record,) = conditions(lab.logs.lines("function"))
    assert record["hostContended"] is True
    if len(host_cpus()) > 1:  # it was owed no more than this host has: the ledger alone would not have seen it
        assert record["contendedBy"] == "others"


async def test_what_environments_use_is_accounted_to_them_and_stays_when_they_have_ended(lab):
    lab.function("import time\ndef handler(event, context):\n    while time.process_time() < 0.3: pass\n")
    async with lab:
        before = lab.driver.environments_cpu_ms()
        if before is None:
            pytest.skip("nobody accounts for the CPU time of environments here")
        await lab.answer()
        used = lab.driver.environments_cpu_ms() - before
        assert 250 <= used <= 5000
        lab.change("function", revision="2")
        await asyncio.gather(lab.answer())
        assert lab.driver.environments_cpu_ms() - before >= used + 250
