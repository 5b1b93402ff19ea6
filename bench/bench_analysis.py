"""The analysis on generated log sets of 10,000 to 10,000,000 invocations: time, memory, the report's size."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bench.measurement import Comparison, hand_over, progress
from core import strict_json
from core.configuration import Configuration, read_configuration
from core.paths import REPOSITORY
from core.program.processes import start_child
from core.run.records import EndpointFacts, LimitsInForce, Manifest
from core.run.run_directory import RunDirectory
from core.variants import Variant

SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES: Final = (1_000, 5_000, 20_000)
REPORTED_SIZE: Final = 1_000_000  # estimates hold all rows of a run in memory
PAGE_INVOCATIONS: Final = 3_333  # of three events each: CloudWatch gives 10,000 a page
PAGE_ENVIRONMENTS: Final = 20
_PAGE: Final = b"PAGENUMB"  # marks that are replaced, page by page
_SECOND: Final = b"SECONDS___"
STARTED_AT: Final = 1_795_000_000.0
RUN_ID: Final = "20261124T101500Z-0001"
INFERENCE_MS: Final = {"mobilenet": 9.5, "resnet50": 44.0, "inceptionv3": 58.0}
NO_PEER: Final = "none: no other tool joins platform logs in two formats with client records"

# Each stage in a process of its own, so that the peak is the stage's; it prints its seconds, the join those of CPU too.
JOIN: Final = """
import resource, sys, time
from analysis.pipeline import make_rows, run_configuration
from core.run.run_directory import RunDirectory
run = RunDirectory(__import__("pathlib").Path(sys.argv[1]))
manifest = run.read_manifest()
began = time.perf_counter()
make_rows(run, manifest, run_configuration(manifest))
taken = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_SELF)
print(taken, used.ru_utime + used.ru_stime)
"""
REPORT: Final = """
import sys, time
from analysis.estimate.cells import ANALYSED_COLUMNS
from analysis.pipeline import read_summary
from analysis.report.page import write_report
from analysis.ingest.run_files import read_rows
from core.run.run_directory import RunDirectory
run = RunDirectory(__import__("pathlib").Path(sys.argv[1]))
summary = read_summary(run)
began = time.perf_counter()
write_report(run, read_rows(run, ANALYSED_COLUMNS), summary)
print(time.perf_counter() - began)
"""
SUMMARIZE: Final = """
import sys, time
from analysis.estimate.cells import ANALYSED_COLUMNS
from analysis.pipeline import run_configuration
from core.money.prices import read_prices
from analysis.ingest.run_files import read_rows
from analysis.estimate.run_summary import make_summary
from core.run.run_directory import RunDirectory, write_atomically
run = RunDirectory(__import__("pathlib").Path(sys.argv[1]))
manifest = run.read_manifest()
configuration = run_configuration(manifest)
began = time.perf_counter()
rows = read_rows(run, ANALYSED_COLUMNS)
summary = make_summary(rows, manifest, configuration, read_prices(configuration.prices))
print(time.perf_counter() - began)
write_atomically(run.root / "summary.json", summary.model_dump_json())
"""
# So few invocations that their own work is a hundredth of the smallest size's: what is left is what every run begins
# with, such as the compiled expressions.
START_UP_INVOCATIONS: Final = 100
START_UP_RUNS: Final = 5
GOALS_S: Final = {1_000_000: 10, 10_000_000: 150}
PEAK_NOTE: Final = "the highest resident memory of its one process, as the kernel accounts for it"


def measure(quick: bool) -> Iterator[Comparison]:
    """Parse and join at several sizes; estimate and report at the largest that memory holds."""
    sizes = QUICK_SIZES if quick else SIZES
    seconds: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-analysis-") as folder:
        root = write_log_set(Path(folder), START_UP_INVOCATIONS)
        progress("measuring the start-up")
        seconds[START_UP_INVOCATIONS] = [_stage(JOIN, root).seconds for _ in range(START_UP_RUNS)]
        shutil.rmtree(root)
        for size in sizes:
            progress(f"generating {size:,} invocations")
            root = write_log_set(Path(folder), size)
            os.sync()  # otherwise, the first run would share the disk with writes of what was generated
            progress(f"parsing and joining {size:,} invocations")
            # The first large run in a fresh copy of the code compiles its reader, which takes ten seconds.
            runs = [_stage(JOIN, root) for _ in range(1 if size > REPORTED_SIZE else 3)]
            seconds[size] = [run.seconds for run in runs]
            yield from _joining(size, runs)
            if size == (sizes[-1] if quick else REPORTED_SIZE):
                yield from _report(root, size)
            shutil.rmtree(root)
    yield _linearity(seconds, sizes, quick=quick)


def _joining(size: int, runs: Sequence[Stage]) -> Iterator[Comparison]:
    goal_s = GOALS_S.get(size)
    yield Comparison(
        what=f"parse and join {size:,} invocations",
        unit="s",
        ours=tuple(run.seconds for run in runs),
        peer_name=NO_PEER,
        goal=f"under {goal_s} s" if goal_s else "",
        met=min(run.seconds for run in runs) < goal_s if goal_s else None,
        note=f"{min(run.cpu_seconds for run in runs):.1f} s of CPU, on all CPUs together",
    )
    if goal_s:
        yield Comparison(
            what=f"memory to parse and join {size:,} invocations",
            unit="MB",
            ours=tuple(run.peak_mb for run in runs),
            peer_name=NO_PEER,
            goal="under 2 GB",
            met=max(run.peak_mb for run in runs) < 2048,
            note=PEAK_NOTE,
        )


def _linearity(seconds: Mapping[int, Sequence[float]], sizes: Sequence[int], *, quick: bool) -> Comparison:
    start_up = seconds[START_UP_INVOCATIONS]
    start_up_s = min(start_up)
    each = [1e6 * (min(seconds[count]) - start_up_s) / count for count in sizes]
    return Comparison(
        what=f"time per invocation without start-up, from {sizes[0]:,} to {sizes[-1]:,}",
        unit="us",
        ours=tuple(each),
        peer_name=NO_PEER,
        goal="linear or better: at a larger size at most 1.5 times what it is at any smaller one",
        # The quick sizes take little more than the start-up varies by: they say nothing of linearity.
        met=None if quick else all(large <= 1.5 * small for small, large in itertools.combinations(each, 2)),
        note=(
            f"{', '.join(f'{value:.1f}' for value in each)} in the order of size; "
            f"the least of {len(start_up)} runs with {START_UP_INVOCATIONS} invocations is taken for "
            f"start-up, {start_up_s:.2f} s (at most {max(start_up):.2f} s), and taken off the least time "
            f"of each size, {min(seconds[sizes[0]]):.2f} s at the smallest"
        ),
    )


def _report(root: Path, size: int) -> Iterator[Comparison]:
    progress(f"estimating from {size:,} invocations")
    estimating = _stage(SUMMARIZE, root)
    yield Comparison(
        what=f"estimate from {size:,} invocations",
        unit="s",
        ours=(estimating.seconds,),
        peer_name=NO_PEER,
        note=f"peak {estimating.peak_mb:,.0f} MB",
    )
    progress(f"drawing the report of {size:,} invocations")
    drawing = _stage(REPORT, root)
    yield Comparison(
        what=f"report of {size:,} invocations",
        unit="s",
        ours=(drawing.seconds,),
        peer_name=NO_PEER,
        goal="under 30 s",
        met=drawing.seconds < 30,
        note=f"peak {drawing.peak_mb:,.0f} MB",
    )
    size_mb = (root / "report.html").stat().st_size / 1e6
    yield Comparison(
        what=f"size of the report of {size:,} invocations",
        unit="MB",
        ours=(size_mb,),
        peer_name=NO_PEER,
        goal="under 5 MB",
        met=size_mb < 5,
    )
    progress(f"parsing, joining, estimating and drawing {size:,} invocations in one command")
    began = time.perf_counter()
    peak_mb, _printed = _watched([sys.executable, "-m", "analysis", "report", str(root)])
    taken = time.perf_counter() - began
    yield Comparison(
        what=f"memory of `inference-lab analysis report`, {size:,} invocations",
        unit="MB",
        ours=(peak_mb,),
        peer_name=NO_PEER,
        goal="under 2 GB",
        met=peak_mb < 2048,
        note=f"parse, join, estimates, figures and page in {taken:.0f} s; {PEAK_NOTE}",
    )


@dataclass(frozen=True)
class Stage:
    """What one stage took."""

    seconds: float
    peak_mb: float
    cpu_seconds: float = 0.0


def _stage(code: str, root: Path) -> Stage:
    peak_mb, printed = _watched([sys.executable, "-c", code, str(root)])
    seconds, *cpu_seconds = (float(word) for word in printed.split())
    return Stage(seconds, peak_mb, *cpu_seconds)


def _watched(command: Sequence[str]) -> tuple[float, str]:
    """Run a command that starts no processes; the peak of its resident memory in MB, and what it printed."""
    with tempfile.TemporaryFile("w+") as printed, start_child(command, cwd=REPOSITORY, stdout=printed) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        printed.seek(0)
        return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20, printed.read()


def write_log_set(folder: Path, invocations: int) -> Path:
    """Write a run of so many invocations, spread evenly over the matrix: client records, JSON logs, manifest."""
    configuration = read_configuration(profile="")
    root = folder / RUN_ID
    run = RunDirectory(root)
    run.client_directory.mkdir(parents=True)
    variants = configuration.variants
    share = -(-invocations // len(variants))
    source = random.Random(1)  # noqa: S311 - figures to measure with, no secret
    left = invocations
    with (run.client_directory / "load.jsonl").open("wb") as clients:
        for variant in variants:
            count = min(share, left)
            left -= count
            _write_group(run, configuration, variant, count, source, clients)
    run.write_manifest(
        Manifest(
            run_id=RUN_ID,
            started_at=STARTED_AT,
            finished_at=STARTED_AT + 600,
            endpoint=EndpointFacts(
                source="lab",
                endpoint_url="http://localhost:4566",
                account_id="123456789012",
                region="us-east-1",
                host="bench",
                limits=LimitsInForce(driver="process", cpu="cgroup-v2", memory="cgroup-v2", freezer="cgroup-v2"),
            ),
            configuration=configuration.model_dump(mode="json"),
            profile="",
            experiments=("load",),
            seed=1,
            versions={},
            commit="",
        )
    )
    return root


def _write_group(
    run: RunDirectory,
    configuration: Configuration,
    variant: Variant,
    count: int,
    source: random.Random,
    clients: IO[bytes],
) -> None:
    """Write one page of invocations again and again, with other request ids, environments, and times."""
    function = configuration.names.function(variant)
    directory = run.raw_directory / "logs" / function
    directory.mkdir(parents=True)
    invocations = [_invocation(variant, number, source) for number in range(min(PAGE_INVOCATIONS, count))]
    pages = -(-count // PAGE_INVOCATIONS)
    for page in range(pages):
        mine = invocations[: count - page * PAGE_INVOCATIONS]
        second = round(STARTED_AT) + page * 600 // pages
        values = (_PAGE, b"%08x" % page), (_SECOND, b"%010d" % second)
        _write_page(directory, page, _filled("".join(events for events, _ in mine), values))
        clients.write(_filled("".join(record for _, record in mine), values))
    if not pages:
        _write_page(directory, 0, b"")
    cursor = {
        "log_group": configuration.names.log_group(variant),
        "start_ms": 0,
        "end_ms": 1,
        "pages": max(1, pages),
        "next_token": None,
        "done": True,
    }
    (directory / "cursor.json").write_text(strict_json.dumps(cursor))


def _filled(text: str, values: Iterable[tuple[bytes, bytes]]) -> bytes:
    data = text.encode()
    for mark, value in values:
        data = data.replace(mark, value)
    return data


def _invocation(variant: Variant, number: int, source: random.Random) -> tuple[str, str]:
    """Return the log events and the client record of one invocation, with marks for its page and its second."""
    request_id = f"{_PAGE.decode()}{str(uuid.UUID(int=source.getrandbits(128), version=4))[8:]}"
    environment = number % PAGE_ENVIRONMENTS
    environment_id = f"{_PAGE.decode()}{environment:08x}"
    stream = f"2026/11/24/[$LATEST]0123456789abcdef{environment_id}"
    at_ms = f"{_SECOND.decode()}{number % 300:03d}"
    duration_ms = INFERENCE_MS[variant.model] / min(variant.vcpu_share, 1.7) * source.lognormvariate(0, 0.2) + 6
    call_number = number // PAGE_ENVIRONMENTS + 1
    facts = (
        f'{{"event": "inference", "schema_version": 1, "model": "{variant.model}", "engine": "tensorflow", '
        f'"architecture": "x86_64", "weights": "random", "memory_mb": {variant.memory_mb}, '
        f'"request_id": "{request_id}", "environment_id": "{environment_id}", "call_number": {call_number}, '
        f'"cold": {"true" if call_number == 1 else "false"}, "image": "tabby.jpg", '
        f'"inference_ms": {duration_ms - 6:.3f}, '
        f'"decode_ms": 4.5, "handler_ms": {duration_ms - 1:.3f}, "phases": {{"import_ms": null, "load_ms": null, '
        '"first_inference_ms": null}'
    )
    lines = (
        (
            f'{{"time":"2026-11-18T11:06:40.000Z","type":"platform.start","record":{{"requestId":"{request_id}",'
            '"version":"$LATEST"}}'
        ),
        facts + "}",
        (
            f'{{"time":"2026-11-18T11:06:40.000Z","type":"platform.report","record":{{"requestId":"{request_id}",'
            f'"metrics":{{"durationMs":{duration_ms:.3f},"billedDurationMs":{int(duration_ms) + 1},"memorySizeMB":'
            f'{variant.memory_mb},"maxMemoryUsedMB":{variant.memory_mb * 3 // 4}}},"status":"success"}}}}'
        ),
    )
    events = "".join(
        f'{{"logStreamName":"{stream}","timestamp":{at_ms},"ingestionTime":{at_ms},"message":'
        f'{strict_json.dumps(line)},"eventId":"0{at_ms}{number:08d}{place}"}}\n'
        for place, line in enumerate(lines)
    )
    return events, _client(variant, number, request_id, duration_ms, facts)


def _write_page(directory: Path, number: int, text: bytes) -> None:
    (directory / f"{number:06d}.jsonl.gz").write_bytes(gzip.compress(text, 1))


def _client(variant: Variant, number: int, request_id: str, duration_ms: float, facts: str) -> str:
    latency_ms = duration_ms + 4
    handler = facts.removeprefix('{"event": "inference", ')
    sent_ms = number % 300
    sent = f"{_SECOND.decode()}.{sent_ms:03d}"
    answered = f"{_SECOND.decode()}.{min(999_999, sent_ms * 1000 + round(latency_ms * 1000)):06d}"
    return (
        f'{{"schema_version":1,"run_id":"{RUN_ID}","call_id":"load/{variant.key}/{_PAGE.decode()}{number:04d}",'
        f'"experiment":"load","protocol":"linear","trigger":"api","variant":"{variant.key}","model":"{variant.model}",'
        f'"engine":"tensorflow","architecture":"x86_64","memory_mb":{variant.memory_mb},"warmup":false,'
        f'"first_after_deploy":false,"group":"","connection":"kept","intended_at":{sent},"sent_at":{sent},'
        f'"answered_at":{answered},"connect_ms":null,"client_latency_ms":{latency_ms},'
        f'"latency_from_intended_ms":{latency_ms + 1},'
        f'"http_status":200,"outcome":"ok","error":"","request_id":"{request_id}","gateway_request_id":"{request_id}",'
        f'"handler":{{{handler}}},"time_scale":1.0}}\n'
    )


if __name__ == "__main__":
    hand_over("analysis", (__doc__ or "").partition("\n")[0], measure)
