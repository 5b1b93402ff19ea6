"""The lab next to AWS's Runtime Interface Emulator: overhead of a call, throughput, starts, logs, memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.config

from bench.http_clients import KeptConnection, SwarmResult, swarm
from bench.measurement import Comparison, hand_over, progress
from bench.peers import RIE_PATH, PeerMissingError, running_emulator
from core.paths import REPOSITORY
from core.program.processes import end_child, start_child
from core.variants import FUNCTION_LOG_GROUPS, MEMORY_MB_PER_VCPU
from lab.cli import client_environment
from lab.contracts import Image
from lab.drivers.process import ProcessDriver
from lab.drivers.protocol import LaunchSpec
from lab.host.resources import host_cpus

HANDLER: Final = "def handler(event, context):\n    return event\n"
DOCKERFILE: Final = (
    "ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.12\nFROM ${BASE_IMAGE}\n"
    'COPY handler.py ${LAMBDA_TASK_ROOT}/\nCMD ["handler.handler"]\n'
)
FUNCTION: Final = "bench"
LOG_GROUP: Final = f"{FUNCTION_LOG_GROUPS}{FUNCTION}"
WRITER: Final = b"lab.storage.writing"  # in the command line of the lab's writing processes
INVOKE_PATH: Final = f"/2015-03-31/functions/{FUNCTION}/invocations"
# A whole vCPU: the overhead of a call is the lab's, not the function's wait for its share.
MEMORY_MB: Final = MEMORY_MB_PER_VCPU


def measure(quick: bool) -> Iterator[Comparison]:
    """Every figure that the lab aims at."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name:
        directory = Path(name)
        root = function_folder(directory, HANDLER)
        with running_lab(directory / "state", root) as lab:
            yield from overhead(lab, root, quick=quick)
        yield from throughput(directory, root, quick=quick)
        yield from starting(root, quick=quick)
        yield from logs(directory, root, quick=quick)
        yield from memory(directory, root, quick=quick)


def function_folder(directory: Path, handler: str) -> Path:
    """Write what the image of a function of one handler is built from, and return its folder."""
    root = directory / "function"
    root.mkdir()
    (root / "handler.py").write_text(handler)
    (root / "Dockerfile").write_text(DOCKERFILE)
    return root


class Lab:
    """A running lab with one deployed function."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.process = process
        self.url = f"http://localhost:{port}"

    def client(self, service: str) -> Any:
        variables = client_environment(self.url)
        return boto3.client(
            service,  # type: ignore[call-overload]  # the name is not a literal here
            endpoint_url=self.url,
            region_name=variables["AWS_REGION"],
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
            config=botocore.config.Config(read_timeout=300),
        )

    def processes(self) -> list[int]:
        """The lab's own process and those that write its logs and metrics; not its environments and their launcher."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [
            self.process.pid,
            *(int(pid) for pid in children if WRITER in Path(f"/proc/{pid}/cmdline").read_bytes()),
        ]

    def resident_mb(self) -> float:
        """Resident memory of these processes."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.processes()]
        return sum(int(text.split("VmRSS:")[1].split()[0]) for text in texts) / 1024


@contextlib.contextmanager
def running_lab(state: Path, root: Path, *arguments: str) -> Iterator[Lab]:
    """Start a lab on a free port, deploy the function, stop it afterwards."""
    images = {"LAB_IMAGES": str(root.parent / "images")}  # not among those of the labs that people use
    with running_lab_process(state, *arguments, variables=images) as lab:
        create_function(lab, FUNCTION, root, variables=images)
        yield lab


@contextlib.contextmanager
def running_lab_process(state: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """Start a lab on a free port and stop it afterwards."""
    command = [sys.executable, "-m", "lab", "serve", "--port", "0", "--state", str(state), *arguments]
    process = start_child(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        ready = process.stdout.readline() if process.stdout else ""
        if not ready.startswith("ready "):
            raise RuntimeError(f"the lab did not start: {ready!r}")
        yield Lab(int(ready.rsplit(":", 1)[1]), process)
    finally:
        end_child(process, within_s=60)


def create_function(
    lab: Lab, name: str, folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> None:
    """Build a folder's image with the lab's own stand-in for docker, and create a function of it."""
    repository = lab.client("ecr").create_repository(repositoryName=name)["repository"]["repositoryUri"]
    for words in (["build", *arguments, "--tag", f"{repository}:1", str(folder)], ["push", f"{repository}:1"]):
        subprocess.run(
            [sys.executable, "-m", "lab", "docker", *words],
            cwd=REPOSITORY,
            env={**os.environ, **client_environment(lab.url), **(variables or {})},
            check=True,
            capture_output=True,
        )
    role = lab.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    lab.client("lambda").create_function(
        FunctionName=name,
        Role=role,
        PackageType="Image",
        Code={"ImageUri": f"{repository}:1"},
        MemorySize=MEMORY_MB,
        Timeout=60,
    )


def percentile(values: list[float], share: float) -> float:
    """The order statistic at this share, rounded up."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def overhead(lab: Lab, root: Path, *, quick: bool) -> Iterator[Comparison]:
    """An empty handler over one kept connection: blocks of calls to the lab and to the emulator in turn."""
    rounds, calls = (3, 100) if quick else (15, 1000)
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    our_cpu: list[float] = []
    their_cpu: list[float] = []
    peer_name = "AWS's RIE"
    with contextlib.ExitStack() as stack:
        peer, peer_pid = None, 0
        try:
            port, peer_pid = stack.enter_context(running_emulator(root))
            peer = KeptConnection(port, RIE_PATH)
        except PeerMissingError as error:
            peer_name = f"none: {error}"
        mine = KeptConnection(lab.port, INVOKE_PATH)
        for connection in (mine, peer):
            for _ in range(50):
                if connection is not None and (answer := connection.call())[1:] != (200, b"{}"):
                    raise RuntimeError(f"unexpected answer {answer}")
        for number in range(rounds):
            progress(f"overhead: round {number + 1} of {rounds}")
            before = cpu_ms(*lab.processes())
            ours.append([mine.call()[0] for _ in range(calls)])
            our_cpu.append((cpu_ms(*lab.processes()) - before) / calls)
            if peer is not None:
                before = cpu_ms(peer_pid)
                theirs.append([peer.call()[0] for _ in range(calls)])
                their_cpu.append((cpu_ms(peer_pid) - before) / calls)
    for label, share in (("median", 0.5), ("p99", 0.99)):
        mine_ms = tuple(percentile(block, share) for block in ours)
        peer_ms = tuple(percentile(block, share) for block in theirs)
        yield Comparison(
            f"empty handler, one kept connection, {label} of a call",
            "ms",
            mine_ms,
            peer_ms,
            peer_name,
            goal="at most 1.0 x RIE",
            met=statistics.median(mine_ms) <= statistics.median(peer_ms) if peer_ms else None,
            note=f"{calls} calls a run, the two in turn",
        )

    yield Comparison(
        "CPU of a call in the lab's own processes, the writing of logs and metrics included (RIE's in its own)",
        "ms",
        tuple(our_cpu),
        tuple(their_cpu),
        peer_name,
        note="does not depend on what else the machine does, but for its caches; RIE keeps no logs and no metrics",
    )


def cpu_ms(*pids: int) -> float:
    """CPU time of the processes' threads so far, by the scheduler's own count."""
    total = 0
    for task in (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()):
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e6


def numbered(number: int) -> bytes:
    return b'{"n": %d}' % number


def all_answered(result: SwarmResult, total: int) -> bool:
    """Whether every request got its own answer."""
    return all(result.answers.get(n, (0, b""))[1] == numbered(n) for n in range(total))


def throughput(directory: Path, root: Path, *, quick: bool) -> Iterator[Comparison]:
    """A hundred environments at once, and the same to the emulator, which has one."""
    connections, total, runs = (20, 500, 1) if quick else (100, 6000, 5)
    rates, lost, twice = [], 0, 0
    with running_lab(directory / "state-throughput", root, "--account-concurrency", "1000") as lab:
        progress(f"starting {connections} environments")
        swarm(lab.port, INVOKE_PATH, connections=connections, total=connections * 3, body=numbered)
        before = started(lab, expected=connections * 3)
        for number in range(runs):
            progress(f"throughput: run {number + 1} of {runs}")
            result = swarm(lab.port, INVOKE_PATH, connections=connections, total=total, body=numbered)
            rates.append(result.ok / result.seconds)
            lost += 0 if all_answered(result, total) else total - result.ok
        twice = started(lab, expected=before + runs * total) - before - runs * total
    peer: tuple[float, ...] = ()
    note = f"{lost} lost, {twice} run twice, of {runs * total}"
    try:
        with running_emulator(root) as (port, _):
            theirs = swarm(port, RIE_PATH, connections=connections, total=total, body=numbered, patience_s=10)
            right = sum(1 for n, (_, body) in theirs.answers.items() if body == numbered(n))
            note += f"; RIE gave {right} of {total} requests their own answer"
            if right:
                peer = (right / theirs.seconds,)
        peer_name = "AWS's RIE"
    except PeerMissingError as error:
        peer_name = f"none: {error}"
    yield Comparison(
        f"{connections} environments of an empty handler at once",
        "invokes/s",
        tuple(rates),
        peer,
        peer_name,
        better="higher",
        goal="at least 1,500 on 2 cores, none lost, none twice",
        met=statistics.median(rates) >= 1500 and lost == 0 and twice == 0,
        note=note,
    )


def started(lab: Lab, *, expected: int) -> int:
    """How many invocations the log group knows of; asked again while lines are still on their way."""
    deadline = time.monotonic() + 30
    while (count := sum(1 for _ in start_lines(lab))) < expected and time.monotonic() < deadline:
        time.sleep(0.5)
    return count


def start_lines(lab: Lab) -> Iterator[str]:
    pages = lab.client("logs").get_paginator("filter_log_events")
    for page in pages.paginate(logGroupName=LOG_GROUP, filterPattern='"START RequestId"'):
        for event in page["events"]:
            yield event["message"].split()[2]


def starting(root: Path, *, quick: bool) -> Iterator[Comparison]:
    """The lab's own share of a start: from the order to the executed interpreter, group and limits set."""
    count = 10 if quick else 60
    ours = asyncio.run(_launches(root, count))
    bare = []
    for _ in range(count):
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", ""], cwd=root)
        bare.append((time.perf_counter() - begun) * 1000)
        process.wait()
    yield Comparison(
        "start of an environment, the lab's own share (spawn to exec, limits set)",
        "ms",
        tuple(ours),
        tuple(bare),
        "subprocess.Popen, no limits",
        goal="at most 30 ms",
        met=statistics.median(ours) <= 30,
        note=f"p99 {percentile(ours, 0.99):.1f} ms",
    )


async def _launches(root: Path, count: int) -> list[float]:
    driver = ProcessDriver()
    await driver.start()
    times = []
    try:
        for number in range(count):
            spec = LaunchSpec(
                environment_id=f"{number:032x}",
                function_name=FUNCTION,
                image=Image(reference="bench:1", root=root, command=("handler.handler",), environment={}),
                command=("handler.handler",),
                working_directory="",
                variables={},
                runtime_api_port=9,
                memory_mb=MEMORY_MB,
                init_vcpu=2.0,
                cpus=tuple(host_cpus())[:2],
                on_output=lambda _: None,
            )
            begun = time.perf_counter()
            environment = await driver.launch(spec)
            times.append((time.perf_counter() - begun) * 1000)
            await environment.kill()
    finally:
        await driver.close()
    return times


def logs(directory: Path, root: Path, *, quick: bool) -> Iterator[Comparison]:
    """Invocations logged and read back: all there, and how the time grows with their number."""
    sizes = (100, 1000) if quick else (1000, 10_000, 50_000)
    per_thousand = {}
    for size in sizes:
        with running_lab(directory / f"state-logs-{size}", root, "--account-concurrency", "1000") as lab:
            progress(f"logs: {size} invocations")
            result = swarm(lab.port, INVOKE_PATH, connections=20, total=size, body=numbered)
            runs = []
            for _ in range(3):
                begun = time.perf_counter()
                found = list(start_lines(lab))
                runs.append((time.perf_counter() - begun) * 1000 / (size / 1000))
            per_thousand[size] = runs
            whole = len(found) == len(set(found)) == result.ok == size
            linear = statistics.median(runs) <= 2 * statistics.median(per_thousand[sizes[0]])
            yield Comparison(
                f"{size:,} invocations read back by filter_log_events, time for each 1,000",
                "ms",
                tuple(runs),
                goal="all there; time linear",
                met=whole and linear,
                peer_name="none: RIE keeps no logs",
                note=f"{len(set(found)):,} of {size:,} found",
            )


def memory(directory: Path, root: Path, *, quick: bool) -> Iterator[Comparison]:
    """Resident memory of the lab while invocations go by."""
    total, step = (2000, 500) if quick else (100_000, 10_000)
    retention = total // 10
    arguments = ("--account-concurrency", "1000", "--log-retention-invocations", str(max(1000, retention)))
    with running_lab(directory / "state-memory", root, *arguments) as lab:
        sizes = []
        for done in range(0, total, step):
            swarm(lab.port, INVOKE_PATH, connections=20, total=step, body=numbered)
            sizes.append(lab.resident_mb())
            progress(f"memory: {sizes[-1]:.0f} MB after {done + step:,}")
    # The first fifth fills what is kept by design: indexes and buffers up to the retention.
    settled = sizes[len(sizes) // 5 :]
    growth_mb = settled[-1] - settled[0]
    yield Comparison(
        f"memory of the lab over {total:,} invocations, retention {max(1000, retention):,}",
        "MB",
        tuple(sizes),
        goal="flat",
        met=growth_mb <= 0.05 * settled[0],
        peer_name="none",
        note=f"a reading every {step:,}: {sizes[0]:.0f} MB first, {sizes[-1]:.0f} MB last; "
        f"{growth_mb:+.1f} MB after the first fifth",
    )


if __name__ == "__main__":
    hand_over("lab", "The lab next to AWS's Runtime Interface Emulator.", measure)
