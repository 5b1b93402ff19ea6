"""The commands as users run them, against a lab with the real stacks: measure, collect, report, vary CPU and memory."""

import json
import subprocess
import sys

import polars as pl
import pytest

from core.paths import REPOSITORY
from core.run.run_directory import find_run
from experiments.protocols.swapping import samples_of
from tests.experiments.conftest import Deployed, configuration_text, deploy
from tests.lab_support import running_lab
from tests.stubs.making import write_stub


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("analysis")
    path = directory / "benchmark.toml"
    path.write_text(configuration_text(write_stub(directory / "stub")), encoding="utf-8")
    variables = {"BENCHMARK_TOML": str(path), "BENCHMARK_PROFILE": ""}
    arguments = ("--time-scale", "240", "--idle-minutes", "1440", "--account-concurrency", "1000")
    with running_lab(arguments=arguments, state=directory / "state", variables=variables) as lab:
        found = Deployed(lab, path)
        deploy(found, directory / "cdk.out")
        yield found


def python(deployed, *words, code=0):
    done = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=deployed.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.slow
def test_a_measured_run_is_collected_whole_with_one_command(deployed, tmp_path):
    deployed.run("run", "--results", str(tmp_path))
    done = python(deployed, "analysis/collect.py", "--results", str(tmp_path), "--strict")
    run = find_run("latest", tmp_path)
    rows = pl.read_parquet(run.data_directory / "invocations.parquet")
    assert rows.filter(pl.col("call_id").is_null()).height == 0
    for variant in deployed.configuration.variants:
        for experiment in ("cold", "warm", "load"):
            assert f"| {variant.memory_mb} | {experiment} |" in done.stdout
            mine = rows.filter((pl.col("variant") == variant.key) & (pl.col("experiment") == experiment))
            assert mine.height
            assert (mine.filter(pl.col("outcome") == "ok")["start_evidence"] == "call_number").all()
    summary = json.loads((run.root / "summary.json").read_text())
    assert {c["share"] for c in summary["coverage"]} == {1.0}
    # On a busy machine a function's Duration, up to its next request, may end well after the gateway has its answer.
    assert {check["metric"] for check in summary["metric_checks"] if check["agrees"] is False} <= {"IntegrationLatency"}
    assert any(check["agrees"] for check in summary["metric_checks"])
    assert run.report_path.stat().st_size > 100_000
    again = python(deployed, "-m", "analysis", "report", str(run.root), "--no-report")
    assert again.stdout.splitlines()[2:6] == done.stdout.splitlines()[2:6]


@pytest.mark.slow
def test_share_and_memory_are_varied_apart_and_put_back(deployed, tmp_path):
    done = deployed.run("swapping", "--results", str(tmp_path))
    run = find_run(done.stdout.split()[-1], tmp_path)
    python(deployed, "analysis/collect.py", "--run", str(run.root), "--no-report")
    rows = pl.read_parquet(run.data_directory / "invocations.parquet")
    # The window reaches back a little: on a quick machine it holds calls of the run before, without a record here.
    rows = rows.filter(pl.col("call_id").is_not_null())
    assert rows["group"].n_unique() == 8
    # Each cell was measured in as many environments as there are rounds.
    environments = (
        rows.filter(pl.col("environment_id").is_not_null())
        .group_by("model", "group")
        .agg(pl.col("environment_id").n_unique())
    )
    assert set(environments["environment_id"]) == {len(samples_of(deployed.configuration))}
    assert rows["major_page_faults"].null_count() < rows.height
    summary = json.loads((run.root / "summary.json").read_text())
    assert len(summary["claims"][10]["numbers"]) >= 8
    for variant in deployed.configuration.variants:
        assert not {"LAB_VCPU", "INFERENCE_THREADS"} & set(deployed.variables_of(variant))
        name = deployed.configuration.names.function(variant)
        found = deployed.lab.client("lambda").get_function_configuration(FunctionName=name)
        assert found["MemorySize"] == variant.memory_mb
