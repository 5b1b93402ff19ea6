"""Traces of arrivals replayed against the lab, next to what the simulation expects of them.

The lab's idle life is shortened by its time scale, and the traces with it; calls take as long as they take. A call
sleeps for a random time, so that a busy machine disturbs it little. The simulation of a trace draws from the calls of
all other replays.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import numpy as np
import numpy.typing as npt

from bench.bench_lab import INVOKE_PATH, function_folder, running_lab
from bench.measurement import Comparison, hand_over, progress
from simulation.arrivals import DAY_S, Moments, blocks, shaped
from simulation.kernel import CALLS, COLD, GAVE_UP
from simulation.month import Effort, play_replicate
from simulation.pool import Calls, OnDemand, Pool, Samples
from simulation.sketch import quantile_ms

TIME_SCALE: Final = 84.0
IDLE_MINUTES: Final = 7.0
IDLE_S: Final = 60 * IDLE_MINUTES / TIME_SCALE  # 5 s
LOOK_EVERY_S: Final = 0.25  # an environment lives until the lab next looks for idle ones (lab/dataplane/plane.py)
REPLICATES: Final = 400
ROUNDING: Final = 1e-9  # a share of few calls is often a bound itself
BAND: Final = (0.025, 0.975)
HANDLER: Final = """\
import random, time
time.sleep(0.3)
calls = 0

def handler(event, context):
    global calls
    calls += 1
    time.sleep(0.02 + random.expovariate(1 / 0.06))
    return calls
"""


@dataclass(frozen=True)
class Trace:
    """Poisson arrivals, switched on and off or in batches where it says so; rates are per idle life."""

    name: str
    per_idle_life: float
    burstiness: float = 1.0
    batch_size: float = 1.0

    def times_s(self, seed: int, duration_s: float) -> npt.NDArray[np.float64]:
        """Arrival times in the lab's seconds."""
        arrivals = shaped(
            self.per_idle_life / IDLE_S * DAY_S,
            burstiness=(self.burstiness, self.burstiness),
            burst_s=IDLE_S,
            batch_size=self.batch_size,
        )
        stream = blocks(
            arrivals, np.random.default_rng(seed), from_s=0.0, until_s=duration_s, burstiness=self.burstiness
        )
        return np.concatenate([np.empty(0), *(block.copy() for block in stream)])


TRACES: Final = (
    Trace("rare", 1.0),
    Trace("steady", 4.0),
    Trace("busy", 40.0),
    Trace("bursts", 8.0, burstiness=12.0),
    Trace("batches", 8.0, batch_size=2.0),
)


@dataclass(frozen=True)
class Replay:
    """One trace as the lab answered it, in the order of the arrivals."""

    trace: Trace
    times_s: npt.NDArray[np.float64]
    latency_ms: npt.NDArray[np.float64]
    is_cold: npt.NDArray[np.bool_]
    most_late_ms: float

    @property
    def figures(self) -> dict[str, float]:
        """What is compared: the share of cold starts in percent, and the median latency."""
        return {"cold share, %": 100 * float(self.is_cold.mean()), "median, ms": float(np.median(self.latency_ms))}


def replay(port: int, trace: Trace, seed: int, duration_s: float) -> Replay:
    """Send a trace to the lab, each call at its time, once nothing of an earlier one lives."""
    time.sleep(1.5 * IDLE_S)
    times_s = trace.times_s(seed, duration_s)
    answers = asyncio.run(_send(f"http://127.0.0.1:{port}{INVOKE_PATH}", times_s))
    latency_ms, calls, late_ms = (np.array(column) for column in zip(*answers, strict=True))
    return Replay(trace, times_s, latency_ms, calls == 1, float(late_ms.max()))


async def _send(url: str, times_s: Sequence[float] | npt.NDArray[np.float64]) -> list[tuple[float, int, float]]:
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = loop.time() + 0.1

        async def call(at_s: float) -> tuple[float, int, float]:
            await asyncio.sleep(began + at_s - loop.time())
            sent = loop.time()
            async with session.post(url, data=b"{}") as answer:
                calls = int(await answer.text())
                return 1000 * (loop.time() - sent), calls, 1000 * (sent - began - at_s)

        return await asyncio.gather(*(call(float(at_s)) for at_s in times_s))


def samples_of(replays: Sequence[Replay]) -> Samples:
    """Return the calls of some replays as the simulation takes them."""
    latency_ms = np.concatenate([one.latency_ms for one in replays])
    is_cold = np.concatenate([one.is_cold for one in replays])

    def calls(values: npt.NDArray[np.float64]) -> Calls:
        return Calls(values, np.ceil(values), values, np.ones(len(values), bool))

    return Samples(warm=calls(latency_ms[~is_cold]), cold=calls(latency_ms[is_cold]))


def _resampled(calls: Calls, random: np.random.Generator) -> Calls:
    """Draw as many calls, with replacement. https://doi.org/10.1214/aos/1176344552"""
    drawn = random.integers(len(calls), size=len(calls))
    return Calls(calls.busy_ms[drawn], calls.billed_ms[drawn], calls.latency_ms[drawn], calls.is_correct[drawn])


def expected(one: Replay, samples: Samples, duration_s: float) -> Mapping[str, tuple[float, float]]:
    """Return the simulation's 95% band of each figure for one replay's arrivals."""
    if samples.cold is None:
        raise RuntimeError("no replay met a cold start")
    warm, cold_calls = samples.warm, samples.cold
    arrivals, pool = Moments(one.times_s, duration_s), Pool(front_door="function_url")
    cold, median = [], []
    for seed in np.random.SeedSequence(1).spawn(REPLICATES):
        random = np.random.default_rng(seed)
        # The lab looks for idle environments at moments that have nothing to do with the arrivals.
        idle_s = IDLE_S + LOOK_EVERY_S * random.random()
        state, _, _ = play_replicate(
            # What the simulation draws from is a sample itself: without its own scatter, the band would be too narrow.
            (_resampled(warm, random), _resampled(cold_calls, random)),
            arrivals,
            pool,
            OnDemand(),
            seed,
            idle_s=idle_s,
            burstiness=1.0,
            effort=Effort(replicates=1),
        )
        cold.append(100 * state.counters[COLD] / max(1.0, state.counters[CALLS]))
        median.append(quantile_ms(state.latencies, float(state.counters[GAVE_UP]), 0.5))
    bands = {"cold share, %": cold, "median, ms": median}
    return {name: (float(np.quantile(own, BAND[0])), float(np.quantile(own, BAND[1]))) for name, own in bands.items()}


def replays_of(traces: Sequence[Trace], *, repeats: int, duration_s: float) -> list[Replay]:
    """Replay each trace so many times, with other arrivals each time, against one lab."""
    found = []
    with tempfile.TemporaryDirectory(prefix="replay-bench-") as name:
        root = function_folder(Path(name), HANDLER)
        arguments = ("--time-scale", str(TIME_SCALE), "--idle-minutes", str(IDLE_MINUTES))
        with running_lab(Path(name) / "state", root, *arguments) as lab:
            for repeat in range(repeats):
                for place, trace in enumerate(traces):
                    progress(f"replay {trace.name}, {repeat + 1} of {repeats}")
                    found.append(replay(lab.port, trace, 100 * repeat + place, duration_s))
    return found


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield each check, then how many of them the simulation's band held."""
    repeats, duration_s = (1, 15.0) if quick else (2, 75.0)
    replays = replays_of(TRACES, repeats=repeats, duration_s=duration_s)
    inside = []
    for number, one in enumerate(replays):
        others = samples_of([other for place, other in enumerate(replays) if place != number])
        for name, (low, high) in expected(one, others, duration_s).items():
            value = one.figures[name]
            inside.append(low - ROUNDING <= value <= high + ROUNDING)
            yield Comparison(
                what=f"{one.trace.name}, replay {number // len(TRACES) + 1}: {name.partition(',')[0]}",
                unit=name.partition(", ")[2],
                ours=(value,),
                peer_name=f"simulation: {low:.3g} to {high:.3g}",
                goal="inside the simulation's 95% band",
                met=inside[-1],
                note=f"{len(one.times_s)} calls; sent at most {one.most_late_ms:.0f} ms late",
            )
    yield Comparison(
        what="checks in which the lab is inside the simulation's 95% band",
        unit=f"of {len(inside)}",
        ours=(float(sum(inside)),),
        peer_name="none",
        better="higher",
        goal="at least 19 of 20",
        met=sum(inside) >= 0.95 * len(inside),
    )


if __name__ == "__main__":
    hand_over("replay", (__doc__ or "").partition("\n")[0], measure)
