"""The load generator next to its peers: what each reports of a server that stalls, and how well it keeps to its rate.

Closed-loop generators send the next request only after the last answer. While a server stalls they hardly send, so the
stall hardly shows in their percentiles (G. Tene's "coordinated omission"). Peers: a Locust user; wrk (Debian's package;
closed loop, as fast as its connections allow); autocannon (npm; a constant rate over a fixed number of connections).
The last two add the calls that they did not send to their percentiles afterwards, by the rate they expected. wrk2 and
vegeta, which keep a constant rate as ours does, are in neither Debian 12, PyPI nor npm.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measurement import RAW, Comparison, hand_over, progress
from core import strict_json
from core.aws.endpoint import ENDPOINT_VARIABLE, REST_API_PATH
from core.paths import LOCUSTFILE, REPOSITORY
from core.program.processes import start_child
from core.run.records import ClientRecord
from core.run.run_directory import find_run
from loadtests.account import percentiles, send_lag_ms

SERVER: Final = REPOSITORY / "tests" / "loadtests" / "server.py"
AUTOCANNON: Final = "autocannon@8.0.0"
VARIANT: Final = ("mobilenet", "1024")
RATE_RPS: Final = 100
STALL_S: Final = 2.0
SERVICE_MS: Final = 20
# A call that arrives during the stall waits for the rest of it, and any moment is as likely: of 20 s at a steady rate
# one call in ten meets the stall and waits between 0 and 2 s; one in a hundred waits longer than 1.8 s.
DURATION_S: Final = 20.0
# One user can have one call under way; ten of them at ten calls a second each are the usual way to ask for 100.
LOCUST_USERS: Final = 10

CLOSED_LOOP_LOCUSTFILE: Final = """
from locust import FastHttpUser, constant_throughput, task

class ClosedLoop(FastHttpUser):
    wait_time = constant_throughput({rate_per_user})

    @task
    def call(self):
        self.client.get("{path}")
"""


@dataclass(frozen=True)
class Endpoint:
    """The stalling server."""

    url: str

    @property
    def path(self) -> str:
        return f"{REST_API_PATH}abc/v1/{VARIANT[0]}/{VARIANT[1]}"

    def set(self, **settings: float) -> None:
        request = urllib.request.Request(f"{self.url}/set", strict_json.dumps(settings).encode(), method="POST")  # noqa: S310 - our own server
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310 - as above

    def stall(self, after_s: float) -> None:
        """Stall once for STALL_S, this long after the next call."""
        self.set(stall_after_s=after_s, stall_s=STALL_S)


@contextlib.contextmanager
def endpoint(service_ms: float) -> Iterator[Endpoint]:
    """A server process of its own."""
    process = start_child([sys.executable, str(SERVER), str(service_ms)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Endpoint(strict_json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait()


def ours(server: Endpoint, *, duration_s: float) -> list[ClientRecord]:
    """Records of our own sender at a constant rate."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--results", directory),
            *("--model", VARIANT[0], "--memory-mb", VARIANT[1], "--shape", "constant"),
            *("--end-rps", str(RATE_RPS), "--duration-s", str(duration_s), "--warmups", "0"),
        ]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BENCHMARK_"))},
            ENDPOINT_VARIABLE: server.url,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        subprocess.run(command, check=True, capture_output=True, env=environment, cwd=REPOSITORY)
        return list(find_run("latest", Path(directory)).client_records())


def ours_p99_ms(server: Endpoint, duration_s: float) -> float:
    records = ours(server, duration_s=duration_s)
    return percentiles(r.latency_from_intended_ms for r in records if r.latency_from_intended_ms is not None)[2].value


def locust_statistics(server: Endpoint, *, users: int, duration_s: float) -> dict[str, float]:
    """What Locust reports of closed-loop users that together ask for RATE_RPS."""
    with tempfile.TemporaryDirectory() as directory:
        locustfile = Path(directory) / "closed_loop.py"
        locustfile.write_text(
            CLOSED_LOOP_LOCUSTFILE.format(rate_per_user=RATE_RPS / users, path=server.path), encoding="utf-8"
        )
        subprocess.run(
            [
                *(sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--host", server.url),
                *("--users", str(users), "--spawn-rate", str(users), "--run-time", f"{duration_s:.0f}s"),
                *("--csv", str(Path(directory) / "out")),
            ],
            check=True,
            capture_output=True,
            cwd=directory,
        )
        with (Path(directory) / "out_stats.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {"p99_ms": float(rows[-1]["99%"]), "requests": float(rows[-1]["Request Count"])}


def locust_p99_ms(server: Endpoint, duration_s: float) -> float:
    return locust_statistics(server, users=LOCUST_USERS, duration_s=duration_s)["p99_ms"]


def wrk_p99_ms(server: Endpoint, duration_s: float) -> float:
    command = ["wrk", "-t1", "-c2", f"-d{duration_s:.0f}s", "--latency", "--timeout", "30s", server.url + server.path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    if found is None:
        raise RuntimeError(f"wrk reported no 99%: {text}")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def autocannon_p99_ms(server: Endpoint, duration_s: float) -> float:
    program = _autocannon()
    command = [
        *(_node("node"), str(program), "--json", "--connections", "50", "--overallRate", str(RATE_RPS)),
        *("--timeout", "30", "--duration", f"{duration_s:.0f}", server.url + server.path),
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(strict_json.loads(text.strip().splitlines()[-1])["latency"]["p99"])


def _node(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _autocannon() -> Path:
    directory = RAW / "peers" / "autocannon"
    program = directory / "node_modules" / "autocannon" / "autocannon.js"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = [_node("npm"), "install", "--ignore-scripts", "--no-save", "--prefix", str(directory), AUTOCANNON]
        subprocess.run(command, check=True, capture_output=True, env=environment)
    return program


def _peers() -> Iterator[tuple[str, Callable[[Endpoint, float], float] | None]]:
    """Peers by name; None for one that cannot be had here, its name saying why."""
    yield f"Locust, {LOCUST_USERS} closed-loop users", locust_p99_ms
    if shutil.which("wrk"):
        yield "wrk, closed loop, 2 connections, corrected afterwards", wrk_p99_ms
    else:
        yield "wrk is not installed (Debian: apt-get install wrk)", None
    try:
        _autocannon()
    except (OSError, subprocess.CalledProcessError) as error:
        yield f"{AUTOCANNON} could not be installed: {error}", None
    else:
        yield f"{AUTOCANNON}, constant rate, corrected afterwards", autocannon_p99_ms


def measure(quick: bool) -> Iterator[Comparison]:
    """Yield what each reports of a stall, then rates and send lags of our own."""
    yield from _stall(runs=1 if quick else 3, duration_s=6.0 if quick else DURATION_S)
    for service_ms in (200, 2000):
        yield from _rate(service_ms, runs=1 if quick else 3, duration_s=5.0 if quick else DURATION_S)


def _stall(*, runs: int, duration_s: float) -> Iterator[Comparison]:
    true_p99_ms = STALL_S * 1000 - 0.01 * duration_s * 1000 + SERVICE_MS
    peers = list(_peers())
    found: dict[str, list[float]] = {"ours": [], **{name: [] for name, _ in peers}}
    with endpoint(SERVICE_MS) as server:
        # Run by run around all of them, so that a busy minute does not fall on one.
        for run in range(runs):
            progress(f"stall, run {run + 1} of {runs}")
            server.stall(duration_s / 2)
            found["ours"].append(ours_p99_ms(server, duration_s))
            for name, p99_ms in peers:
                if p99_ms is not None:
                    server.stall(duration_s / 2)
                    found[name].append(p99_ms(server, duration_s))
    reached = all(abs(value / true_p99_ms - 1) <= 0.05 for value in found["ours"])
    for name, _ in peers:
        yield Comparison(
            what=f"p99 reported, {RATE_RPS} requests/s, the server stalls {STALL_S:g} s of {duration_s:g} s",
            unit="ms",
            ours=tuple(found["ours"]),
            peer=tuple(found[name]),
            peer_name=name,
            better="higher",
            goal=f"{true_p99_ms:.0f} ms, what arrivals at a steady rate meet, to 5%",
            met=reached,
            note="far below it: the stall is left out",
        )


def _rate(service_ms: int, *, runs: int, duration_s: float) -> Iterator[Comparison]:
    achieved, lags_ms, closed = [], [], []
    # As many users as the usual rule asks for: rate times service time, at one call a second each at least.
    users = RATE_RPS
    with endpoint(service_ms) as server:
        for run in range(runs):
            progress(f"{service_ms} ms service time, run {run + 1} of {runs}")
            records = ours(server, duration_s=duration_s)
            first = min(record.intended_at for record in records) - 0.5 / RATE_RPS
            sent = [record for record in records if record.sent_at is not None]
            in_time = [record for record in sent if (record.sent_at or 0) <= first + duration_s]
            achieved.append(len(in_time) / duration_s / RATE_RPS * 100)
            lags_ms.append(percentiles(send_lag_ms(record) for record in sent)[2].value)
            requests = locust_statistics(server, users=users, duration_s=duration_s)["requests"]
            closed.append(requests / duration_s / RATE_RPS * 100)
    yield Comparison(
        what=f"rate achieved of {RATE_RPS} requests/s offered, {service_ms} ms service time",
        unit="%",
        ours=tuple(achieved),
        peer=tuple(closed),
        peer_name=f"Locust, {users} closed-loop users, answers counted",
        better="higher",
        goal="within 1%",
        met=all(abs(value - 100) <= 1 for value in achieved),
    )
    yield Comparison(
        what=f"p99 of the send lag at {RATE_RPS} requests/s, {service_ms} ms service time",
        unit="ms",
        ours=tuple(lags_ms),
        peer_name="none: a closed loop has no intended time",
        goal="under 10 ms",
        met=all(value < 10 for value in lags_ms),
    )


if __name__ == "__main__":
    hand_over("load", __doc__.partition("\n")[0], measure)
