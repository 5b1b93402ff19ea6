"""The duty cycle next to cgroups: CPU share, time of calls, and what the enforcement itself costs."""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.bench_lab import FUNCTION, Lab, create_function, function_folder, percentile, running_lab_process
from bench.bench_threads import deploy_model
from bench.measurement import Comparison, hand_over, progress
from core import strict_json
from core.models import ENGINE_NAMES, PAPER_MODELS
from lab.dataplane.rules import CFS_PERIOD_US
from lab.limits.processes import cpu_clock

HANDLER: Final = '''
import os
import time


def spin(seconds):
    """Burn CPU for a wall time; returns the CPU time that it got."""
    before, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return time.process_time() - before


def handler(event, context):
    started = time.monotonic()
    # A second process instead of a second thread: Python runs one thread at a time.
    reader, writer = os.pipe()
    for _ in range(event["busy"] - 1):
        if os.fork() == 0:
            os.write(writer, str(spin(event["seconds"])).encode())
            os._exit(0)
    used = spin(event["seconds"])
    for _ in range(event["busy"] - 1):
        os.wait()
        used += float(os.read(reader, 64))
    os.close(reader)
    os.close(writer)
    return {"vcpu": used / (time.monotonic() - started)}
'''
# CPU shares, and the memory sizes to which Lambda gives them.
SHARES: Final = {0.29: 512, 0.58: 1024, 1.0: 1769, 1.7: 3008}
ENGINE: Final = "onnxruntime"  # the demo's
# Calls of each environment, with each model under each mechanism at each share. Short ones vary most, so they are more.
CALLS: Final = {"mobilenet": 30, "resnet50": 10, "inceptionv3": 6}
# The kernel looks at quotas at its own ticks, and where these fall in an environment's periods never changes. At
# 0.29 vCPU, it moves the median of a call that needs 10 ms of CPU between 11 and 16 ms: one environment says little.
ENVIRONMENTS: Final = 8
IDLE_ENVIRONMENTS: Final = 20
PEER: Final = "cgroups"
_COST_GOAL_PERCENT: Final = 2.0
_FREEZE_PATIENCE_S: Final = 60.0


def measure(quick: bool) -> Iterator[Comparison]:
    """Two labs on the same machine in the same minutes, asked in turn."""
    models = list(CALLS)[:1] if quick else list(CALLS)
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name, contextlib.ExitStack() as stack:
        root = function_folder(Path(name), HANDLER)
        labs = []
        for mechanism in ("duty-cycle", "auto"):
            arguments = ("--limits", mechanism, "--account-concurrency", "1000")
            lab = stack.enter_context(running_lab_process(Path(name) / mechanism, *arguments))
            create_function(lab, FUNCTION, root)
            for model in models:
                deploy_model(lab, model, ENGINE, name=model)
            labs.append(lab)
        ours, peer = (_Function(lab, FUNCTION) for lab in labs)
        yield _idle(ours, quick=quick)
        for vcpu, memory_mb in SHARES.items():
            for function in (ours, peer):
                function.set_memory(memory_mb)
            yield from _shares(ours, peer, vcpu, quick=quick)
        for model in models:
            mine, theirs = (_Function(lab, model) for lab in labs)
            for vcpu, memory_mb in SHARES.items():
                progress(f"{model} at {vcpu} vCPU")
                yield from _calls(mine, theirs, vcpu, memory_mb, quick=quick)


def _idle(function: _Function, *, quick: bool) -> Comparison:
    """What environments cost that are frozen between calls."""
    progress(f"{IDLE_ENVIRONMENTS} idle environments")
    function.set_memory(128)
    with ThreadPoolExecutor(IDLE_ENVIRONMENTS) as pool:
        # As long as one of the calls waits for its environment, no other call has ended: each has one of its own.
        list(pool.map(function.call, [{"seconds": 10.0, "busy": 1}] * IDLE_ENVIRONMENTS))
    give_up_at = time.monotonic() + _FREEZE_PATIENCE_S
    while time.monotonic() < give_up_at and function.frozen() < IDLE_ENVIRONMENTS:
        time.sleep(0.1)
    cost = []
    for _ in range(1 if quick else 5):
        before, started = function.launcher_cpu_s(), time.monotonic()
        time.sleep(2.0)
        cost.append(100 * (function.launcher_cpu_s() - before) / (time.monotonic() - started))
    return Comparison(
        f"CPU of the enforcement, {IDLE_ENVIRONMENTS} idle environments",
        "% of one CPU",
        tuple(cost),
        peer_name="none: the kernel's part shows nowhere",
        goal="nothing",
        met=statistics.median(cost) == 0,
        note=f"the launcher's own CPU time over 2 s; environments frozen: {function.frozen()}",
    )


def _shares(ours: _Function, peer: _Function, vcpu: float, *, quick: bool) -> Iterator[Comparison]:
    for busy in (1, 2):
        expected = min(vcpu, busy)
        mine, theirs, cost = [], [], []
        for _ in range(1 if quick else 5):
            before, started = ours.launcher_cpu_s(), time.monotonic()
            mine.append(ours.call({"seconds": 1.0, "busy": busy})["vcpu"])
            cost.append(100 * (ours.launcher_cpu_s() - before) / (time.monotonic() - started))
            theirs.append(peer.call({"seconds": 1.0, "busy": busy})["vcpu"])
        yield Comparison(
            f"CPU share of {busy} busy at {vcpu} vCPU, over 1 s",
            "vCPU",
            tuple(mine),
            tuple(theirs),
            PEER,
            goal=f"within 3% of {expected:g}",
            met=abs(statistics.median(mine) / expected - 1) <= 0.03,
        )
        yield Comparison(
            f"CPU of the enforcement, {busy} busy at {vcpu} vCPU",
            "% of one CPU",
            tuple(cost),
            peer_name="none: the kernel's part shows nowhere",
            goal=f"at most {_COST_GOAL_PERCENT:g}%",
            met=statistics.median(cost) <= _COST_GOAL_PERCENT,
            note="the launcher's own CPU time",
        )


def _calls(ours: _Function, peer: _Function, vcpu: float, memory_mb: int, *, quick: bool) -> Iterator[Comparison]:
    source = random.Random(1)  # noqa: S311 - times to wait, no secret
    environments, calls = (1, 5) if quick else (ENVIRONMENTS, CALLS[ours.name])
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(environments):
        for function in (ours, peer):
            function.set_memory(memory_mb)
        for _ in range(calls):
            for function, found in ((ours, mine), (peer, theirs)):
                # Without a pause each call would begin at the point of a period where the call before it ended, and
                # the time of a short call depends on that point most of all.
                time.sleep(source.uniform(0, CFS_PERIOD_US / 1e6))
                found.append(function.call({})["handler_ms"])
    for label, share, percent in (("median", 0.5, 10), ("p95", 0.95, 25)):
        one, other = percentile(mine, share), percentile(theirs, share)
        yield Comparison(
            f"call of {PAPER_MODELS[ours.name].display_name} on {ENGINE_NAMES[ENGINE]} at {vcpu} vCPU, {label}",
            "ms",
            (one,),
            (other,),
            PEER,
            goal=f"within {percent}% of cgroups",
            met=abs(one / other - 1) <= percent / 100,
            note=f"{environments} environments each, {calls} warm calls of each, in turn, at random points of a period",
        )


class _Function:
    """A deployed function of one lab."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = name
        self._client = lab.client("lambda")
        children = Path(f"/proc/{lab.process.pid}/task/{lab.process.pid}/children").read_text().split()
        self._launcher = next(
            int(pid) for pid in children if b"launcher.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )

    def set_memory(self, memory_mb: int) -> None:
        """Give the function a memory size and a new environment, which three calls start and warm."""
        self._client.update_function_configuration(FunctionName=self.name, MemorySize=memory_mb)
        self._client.get_waiter("function_updated_v2").wait(FunctionName=self.name)
        for _ in range(3):
            self.call({"seconds": 0.0, "busy": 1})

    def call(self, event: dict[str, float]) -> Any:
        answer = self._client.invoke(FunctionName=self.name, Payload=strict_json.dumps(event))
        return strict_json.loads(answer["Payload"].read())

    def launcher_cpu_s(self) -> float:
        return time.clock_gettime(cpu_clock(self._launcher))

    def frozen(self) -> int:
        """Number of processes of the lab's environments that are stopped."""
        children = Path(f"/proc/{self._launcher}/task/{self._launcher}/children").read_text().split()
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children]
        return states.count("T")


if __name__ == "__main__":
    hand_over("limits", "The duty cycle next to cgroups, both on this machine in the same minutes.", measure)
