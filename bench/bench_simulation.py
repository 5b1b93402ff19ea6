"""The traffic simulation next to SimFaaS: requests per second on one core, growth to 10^9 requests, memory.

SimFaaS (N. Mahmoudi and H. Khazaei, IEEE Transactions on Cloud Computing 10, 2022) plays the example of its own
documentation: 0.9 requests/s, 1.991 s warm, 2.244 s cold, 600 s idle life. It is installed into a folder of its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from bench.measurement import RAW, Comparison, hand_over, progress
from bench.peers import install_peer
from core import strict_json
from core.configuration import read_configuration
from core.money.prices import read_prices
from simulation.arrivals import shaped
from simulation.month import Billing, Effort, simulate
from simulation.pool import Calls, OnDemand, Pool, Provisioned, Samples, SnapStart, TargetTracking, WarmPings

SIMFAAS: Final = "simfaas==0.2.2"
RATE_RPS, WARM_S, COLD_S, IDLE_S = 0.9, 1.991, 2.244, 600.0
DAY_S: Final = 86_400.0
PEER_PROGRAM: Final = f"""
import json, time
import numpy as np
from simfaas.ServerlessSimulator import ServerlessSimulator
np.random.seed(1)
simulator = ServerlessSimulator(
    arrival_rate={RATE_RPS}, warm_service_rate=1 / {WARM_S}, cold_service_rate=1 / {COLD_S},
    expiration_threshold={IDLE_S}, max_time=MAX_TIME_S,
)
began = time.process_time()
simulator.generate_trace(debug_print=False, progress=False)
print(json.dumps([simulator.total_req_count, simulator.total_cold_count, time.process_time() - began]))
"""


def simfaas() -> Path:
    """SimFaaS with what it needs, in a folder of its own. Raises PeerMissingError."""
    directory = RAW / "peers" / "simfaas"
    if not (directory / "simfaas").exists():
        install_peer(SIMFAAS, directory)
    return directory


def peer_run(max_time_s: float) -> tuple[int, int, float]:
    """Requests, cold starts and seconds of CPU of one run of SimFaaS."""
    program = PEER_PROGRAM.replace("MAX_TIME_S", str(max_time_s))
    environment = {**os.environ, "PYTHONPATH": str(simfaas()), "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    requests, cold, seconds = strict_json.loads(done.stdout)
    return requests, cold, seconds


def exponential(mean_s: float, count: int = 1000) -> Calls:
    """Quantiles of an exponential distribution as samples."""
    values = -np.log1p(-(np.arange(count) + 0.5) / count)
    busy_ms = values * 1000 * mean_s / values.mean()
    return Calls(busy_ms, np.ceil(busy_ms), busy_ms, np.ones(count, bool))


def our_run(requests: float) -> tuple[int, float, float]:
    """Requests, share of cold starts and seconds of CPU of one replicate of the same example."""
    days = requests / (RATE_RPS * DAY_S)
    # A replicate is a month at most: more requests than a month of this rate has need a faster clock, on which all
    # times are shorter, so that as many environments are busy.
    factor = max(1.0, days / 30)
    samples = Samples(exponential(WARM_S / factor), exponential(COLD_S / factor))
    idle_minutes = IDLE_S / 60 / factor
    began = time.process_time()
    month = simulate(
        samples,
        shaped(RATE_RPS * DAY_S * factor),
        Pool(idle_minutes=(idle_minutes, idle_minutes), front_door="function_url"),
        OnDemand(),
        Billing(memory_mb=1024, architecture="x86_64"),
        read_prices(),
        limit_ms=1000.0,
        seed=1,
        effort=Effort(replicates=1, min_requests=int(requests), max_requests=int(2 * requests)),
    )
    return month.simulated_requests, month.cold_share.value, time.process_time() - began


def matrix_seconds(replicates: int) -> float:
    """Simulate a month of 10^6 requests for every variant of benchmark.toml under each of five strategies."""
    arrivals, effort = shaped(1e6 / 30.4), Effort(replicates=replicates)
    strategies = (OnDemand(), SnapStart(), Provisioned((2,)), TargetTracking(), WarmPings(2))
    samples = Samples(exponential(0.06, 200), exponential(4.0, 20), exponential(1.0, 20))
    began = time.process_time()
    for variant in read_configuration().variants:
        billing = Billing(variant.memory_mb, variant.architecture)
        for strategy in strategies:
            simulate(
                samples, arrivals, Pool(), strategy, billing, read_prices(), limit_ms=1000.0, seed=1, effort=effort
            )
    return time.process_time() - began


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield speed next to SimFaaS, its growth and memory, and the time of the whole matrix."""
    our_run(10_000)  # compiles
    yield from _speed(runs=1 if quick else 5, peer_s=20_000.0 if quick else 200_000.0)
    yield from _growth((1e5, 1e6) if quick else (1e6, 1e7, 1e8, 1e9))
    matrix_seconds(1)
    seconds = tuple(matrix_seconds(2 if quick else 20) for _ in range(1 if quick else 3))
    yield Comparison(
        what="every variant of benchmark.toml x 5 strategies, a month of 10^6 requests, 20 replicates",
        unit="s",
        ours=seconds,
        peer_name="none: no other tool prices strategies by simulation",
        goal="under 10 s",
        met=max(seconds) < 10,
        note="CPU time of one core",
    )


def _speed(*, runs: int, peer_s: float) -> Iterator[Comparison]:
    ours, peer, shares, peer_shares = [], [], [], []
    for run in range(runs):
        progress(f"speed, run {run + 1} of {runs}")
        requests, share, seconds = our_run(2e6)
        ours.append(requests / seconds)
        shares.append(share)
        requests, cold, seconds = peer_run(peer_s)
        peer.append(requests / seconds)
        peer_shares.append(cold / requests)
    yield Comparison(
        what="requests simulated per second of one core, SimFaaS's own example",
        unit="requests/s",
        ours=tuple(ours),
        peer=tuple(peer),
        peer_name=SIMFAAS,
        better="higher",
        goal="at least 100 x",
        met=float(np.median(ours)) >= 100 * float(np.median(peer)),
        note=f"cold share {100 * np.mean(shares):.3f}%, SimFaaS {100 * np.mean(peer_shares):.3f}%",
    )


def _growth(sizes: tuple[float, ...]) -> Iterator[Comparison]:
    each_ns, memory_mb = [], []
    for size in sizes:
        progress(f"{size:,.0f} requests")
        requests, _, seconds = our_run(size)
        each_ns.append(1e9 * seconds / requests)
        memory_mb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    yield Comparison(
        what=f"time per request, from {sizes[0]:,.0f} to {sizes[-1]:,.0f} requests",
        unit="ns",
        ours=tuple(each_ns),
        peer_name="none: SimFaaS keeps every event",
        goal="at the largest size at most 1.5 times what it is at the smallest",
        met=each_ns[-1] <= 1.5 * each_ns[0],
        note=f"{', '.join(f'{value:.0f}' for value in each_ns)} in the order of size, at the same concurrency",
    )
    yield Comparison(
        what=f"peak memory of the process, from {sizes[0]:,.0f} to {sizes[-1]:,.0f} requests",
        unit="MB",
        ours=tuple(memory_mb),
        peer_name="none: SimFaaS keeps every event",
        goal="flat: at most 10 MB more",
        met=memory_mb[-1] <= memory_mb[0] + 10,
    )


if __name__ == "__main__":
    hand_over("simulation", __doc__.partition("\n")[0], measure)
