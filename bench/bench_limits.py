"""The duty cycle next to cgroups: CPU share, time of calls, and what the enforcement itself costs."""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.bench_lab import DOCKERFILE, FUNCTION, Lab, percentile, running_lab
from bench.measurement import Comparison, hand_over, progress
from core import strict_json
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
    if "cpu_ms" in event:
        end = time.process_time() + event["cpu_ms"] / 1000
        while time.process_time() < end:
            pass
        return {"ms": (time.monotonic() - started) * 1000}
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
SHARES: Final = (0.29, 0.58, 1.0, 1.7)
# CPU time of one warm call of each model in TensorFlow, one core (docs/reference/function.md has the models).
CALLS_CPU_MS: Final = {"MobileNet": 9.5, "ResNet50": 44.0, "InceptionV3": 58.0}
PEER: Final = "cgroups"
_COST_GOAL_PERCENT: Final = 2.0
# All calls of a cell together: short ones vary most, so there are more of them.
_CPU_PER_CELL_MS: Final = 6_000


def measure(quick: bool) -> Iterator[Comparison]:
    """Two labs on the same machine in the same minutes, asked in turn."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name, contextlib.ExitStack() as stack:
        labs = {}
        for mechanism in ("auto", "duty-cycle"):
            root = Path(name) / mechanism / "function"
            root.mkdir(parents=True)
            (root / "handler.py").write_text(HANDLER)
            (root / "Dockerfile").write_text(DOCKERFILE)
            labs[mechanism] = stack.enter_context(running_lab(root.parent / "state", root, "--limits", mechanism))
        peer, ours = (_Function(lab) for lab in labs.values())
        for vcpu in SHARES:
            ours.set_share(vcpu)
            peer.set_share(vcpu)
            yield from _shares(ours, peer, vcpu, quick=quick)
            for model, cpu_ms in CALLS_CPU_MS.items():
                yield from _calls(ours, peer, vcpu, model, cpu_ms, quick=quick)


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


def _calls(
    ours: _Function, peer: _Function, vcpu: float, model: str, cpu_ms: float, *, quick: bool
) -> Iterator[Comparison]:
    progress(f"calls of {model} at {vcpu} vCPU")
    source = random.Random(1)  # noqa: S311 - times to wait, no secret
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(10 if quick else round(_CPU_PER_CELL_MS / cpu_ms)):
        for function, found in ((ours, mine), (peer, theirs)):
            # Without a pause each call would begin at the point of a period where the call before it ended, and the
            # time of a short call depends on that point most of all.
            time.sleep(source.uniform(0, CFS_PERIOD_US / 1e6))
            found.append(function.call({"cpu_ms": cpu_ms})["ms"])
    for label, share, percent in (("median", 0.5, 10), ("p95", 0.95, 25)):
        one, other = percentile(mine, share), percentile(theirs, share)
        yield Comparison(
            f"call that needs {cpu_ms:g} ms of CPU ({model}'s) at {vcpu} vCPU, {label}",
            "ms",
            (one,),
            (other,),
            PEER,
            goal=f"within {percent}% of cgroups",
            met=abs(one / other - 1) <= percent / 100,
            note=f"{len(mine)} calls each, in turn, at random points of a period; a loop, not the model",
        )


class _Function:
    """The deployed function of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._client = lab.client("lambda")
        children = Path(f"/proc/{lab.process.pid}/task/{lab.process.pid}/children").read_text().split()
        launcher = next(pid for pid in children if b"launcher.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
        self._launcher_clock = cpu_clock(int(launcher))

    def set_share(self, vcpu: float) -> None:
        """Give the function a CPU share apart from its memory size, and make one call that starts it."""
        self._client.update_function_configuration(
            FunctionName=FUNCTION, Environment={"Variables": {"LAB_VCPU": str(vcpu)}}
        )
        self._client.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
        self.call({"cpu_ms": 1})

    def call(self, event: dict[str, float]) -> Any:
        answer = self._client.invoke(FunctionName=FUNCTION, Payload=strict_json.dumps(event))
        return strict_json.loads(answer["Payload"].read())

    def launcher_cpu_s(self) -> float:
        return time.clock_gettime(self._launcher_clock)


if __name__ == "__main__":
    hand_over("limits", "The duty cycle next to cgroups, both on this machine in the same minutes.", measure)
