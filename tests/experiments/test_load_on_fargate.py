"""`experiments load --on fargate` against a lab: real stack, real bucket, real endpoint; each task is a process."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import EXIT_CHECK_FAILED
from core.paths import REPOSITORY
from core.run.run_directory import RunDirectory
from core.run.stages import read_stages
from loadtests.results import SECONDS_FILE
from tests.experiments.conftest import Deployed, configuration_text, deploy
from tests.experiments.fargate import Tasks, fargate
from tests.lab_support import running_lab
from tests.stubs.making import write_stub

PROFILE = """
[profile.large.matrix]
models = ["mobilenet"]
memory_sizes_mb = [256]

[profile.large.experiments.load]
shape = "constant"
end_rps = 8.0
duration_s = 50
"""
OFFERED, WORKERS = 400, 2
PATIENCE_S = 900.0
FARGATE = ("--on", "fargate", "--workers", str(WORKERS))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A lab with the load tasks deployed."""
    directory = tmp_path_factory.mktemp("fargate")
    path = directory / "benchmark.toml"
    text = configuration_text(write_stub(directory / "stub")) + PROFILE
    path.write_text(text.replace("load_tasks = false", "load_tasks = true"), encoding="utf-8")
    variables = {"BENCHMARK_TOML": str(path), "BENCHMARK_PROFILE": "large"}
    with running_lab(state=directory / "state", variables=variables) as lab:
        deployed = Deployed(lab, path, "large")
        deploy(deployed, directory / "cdk.out", but_for="loadtests/Dockerfile", BENCHMARK_PROFILE="large")
        yield deployed


@pytest.fixture
def tasks(large: Deployed, tmp_path: Path) -> Iterator[tuple[Tasks, dict[str, str]]]:
    with fargate(tmp_path, large.environment()) as served:
        yield served


def start(large: Deployed, results: Path, variables: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        large.command("load", "--results", str(results), *FARGATE, *words),
        cwd=REPOSITORY,
        env=large.environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_until_sending(large: Deployed, directory: Path, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Start a load and wait until its tasks have some records, which leaves them most of their time."""
    process = start(large, directory / "results", variables)
    until(lambda: len(sent(directory)) > 20, process)
    return process


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def sent(directory: Path) -> set[str]:
    """Ids of the calls that have a record on the disk of a task."""
    return {
        json.loads(line)["call_id"]
        for path in directory.glob("task-*/results/*/client/load-[0-9]*.jsonl")
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    }


def objects(large: Deployed) -> list[str]:
    s3 = large.lab.client("s3", s3={"addressing_style": "path"})
    (bucket,) = (one["Name"] for one in s3.list_buckets()["Buckets"] if "assets" not in one["Name"])
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_load_on_tasks_leaves_the_files_of_a_local_one_and_reports_a_worker_that_was_killed(
    large: Deployed, tasks: tuple[Tasks, dict[str, str]], tmp_path: Path
) -> None:
    served, variables = tasks
    results = tmp_path / "results"
    process = start_until_sending(large, tmp_path, variables)
    # Only a task that the load has seen at work ends early.
    until(lambda: served.was_described("worker-001"), process)
    served.kill("worker-001")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    run = RunDirectory(results / out.split()[-1])
    (stage,) = read_stages(run) or []
    assert (stage.workers, stage.offered, len(stage.lost_workers), stage.stopped_because) == (WORKERS, OFFERED, 1, "")
    records = [record for record in run.client_records() if not record.warmup]
    numbers = [int(record.call_id.rpartition("-")[2]) for record in records]
    assert len(set(numbers)) == len(numbers)
    shares = [[number for number in numbers if number % WORKERS == index] for index in range(WORKERS)]
    assert sorted(len(share) == OFFERED / WORKERS for share in shares) == [False, True]
    assert max(min(shares, key=len)) >= OFFERED - 8  # sent to its end by its heir
    assert {record.outcome for record in records} == {"ok"}
    assert "worker-001 ended early" in err
    assert f"left, {OFFERED - len(numbers)} arrivals have no record" in err
    assert (run.root / SECONDS_FILE).exists()
    assert f"{OFFERED - len(numbers)} arrivals have no record" in (run.root / "load.log").read_text()
    assert objects(large) == []
    assert not any(process.poll() is None for process in served.processes.values())
    assert all(
        asked["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"
        for operation, asked in served.requests
        if operation == "RunTask"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_load_keeps_its_records_and_is_resumed(
    large: Deployed, tasks: tuple[Tasks, dict[str, str]], tmp_path: Path, number: signal.Signals
) -> None:
    served, variables = tasks
    results = tmp_path / "results"
    process = start_until_sending(large, tmp_path, variables)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    running = served.pause()  # else they might come to their end before a slow machine resumes the run
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert (running, objects(large)) == ([], [])
    before = sent(tmp_path)
    resumed = start(large, results, variables, "--resume", "latest")
    out, err = resumed.communicate(timeout=PATIENCE_S)
    assert resumed.returncode == 0, out + err
    if number == signal.SIGKILL:
        assert f"stopping {len(running)} tasks" in err
    run = RunDirectory(results / out.split()[-1])
    ids = [record.call_id for record in run.client_records()]
    assert len(ids) == len(set(ids))
    whole = [stage for stage in read_stages(run) or [] if not stage.interrupted]
    assert [stage.offered for stage in whole] == [OFFERED]
    assert sum(call_id.startswith(f"{whole[0].key}-") for call_id in ids) == OFFERED
    assert before <= set(ids)
    assert objects(large) == []


def test_cleanup_ends_the_tasks_of_an_interrupted_load_and_names_what_it_left(
    large: Deployed, tasks: tuple[Tasks, dict[str, str]], tmp_path: Path
) -> None:
    served, variables = tasks
    results = tmp_path / "results"
    process = start_until_sending(large, tmp_path, variables)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    running = served.pause()  # else they might come to their end before a slow machine cleans up

    def clean_up() -> subprocess.CompletedProcess[str]:
        words = large.command("cleanup", "--results", str(results))
        environment = large.environment(**variables)
        return subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    done = clean_up()
    assert f"load tasks on Fargate: {len(running)} were running" in done.stdout, done.stdout + done.stderr
    assert "NAT gateway: nat-" in done.stdout
    for arn in running:
        served.processes[arn].wait(PATIENCE_S)
    again = clean_up()
    assert again.returncode == EXIT_CHECK_FAILED
    assert "load tasks" not in again.stdout
    assert f"{len(objects(large))} objects of an interrupted load" in again.stdout
    resumed = start(large, results, variables, "--resume", "latest")
    out, err = resumed.communicate(timeout=PATIENCE_S)
    assert resumed.returncode == 0, out + err
    assert objects(large) == []


def test_a_lab_runs_no_tasks_and_says_what_to_do(large: Deployed, tmp_path: Path) -> None:
    done = large.run("load", "--results", str(tmp_path / "results"), *FARGATE, code=2)
    assert "the account may run 0" in done.stderr
    assert "omit --on fargate" in done.stderr
    assert not (tmp_path / "results").exists()
    with pytest.raises(Exception, match=r"ClientException.*The lab runs no Fargate tasks.*--processes"):
        large.lab.client("ecs").run_task(cluster="inference-lab-load", taskDefinition="inference-lab-load")


def test_the_tasks_of_a_load_go_with_their_stack(large: Deployed) -> None:
    """Last, as it takes the deployment of the others away."""
    cloudformation, stack = large.lab.client("cloudformation"), large.configuration.names.stack
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    ec2 = large.lab.client("ec2")
    assert [vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]] == []
    assert [one for one in ec2.describe_nat_gateways()["NatGateways"] if one["State"] != "deleted"] == []
    assert ec2.describe_addresses()["Addresses"] == []
    clusters = large.lab.client("ecs").describe_clusters(clusters=["inference-lab-load"])["clusters"]
    assert [one for one in clusters if one["status"] == "ACTIVE"] == []
    buckets = large.lab.client("s3", s3={"addressing_style": "path"}).list_buckets()["Buckets"]
    assert [one for one in buckets if "assets" not in one["Name"]] == []
