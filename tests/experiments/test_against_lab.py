"""The protocols against a lab: real stacks, real Lambda API, stub functions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmark.configuration import read_configuration
from benchmark.records import ClientRecord
from benchmark.store import RunDirectory
from experiments.lambda_control import NONCE_VARIABLE
from experiments.plan import Series, forced_calls

REPOSITORY = Path(__file__).resolve().parents[2]


def records_of(results, run_id) -> list[ClientRecord]:
    return list(RunDirectory(results / run_id).client_records())


def test_preflight_finds_a_fresh_deployment_in_order(deployed):
    done = deployed.run("preflight")
    assert "PROBLEM" not in done.stdout


def test_warm_calls_are_all_recorded_and_the_last_line_is_the_run(deployed, tmp_path):
    done = deployed.run("warm", "--results", str(tmp_path))
    run_id = done.stdout.splitlines()[-1]
    records = records_of(tmp_path, run_id)
    counted = Counter((r.variant, r.connection, r.warmup) for r in records)
    for variant in deployed.configuration.variants:
        for connection in ("kept", "new"):
            assert counted[variant.key, connection, True] == 1
            assert counted[variant.key, connection, False] >= 6


KILLS = 50


@pytest.mark.slow
def test_a_run_killed_fifty_times_measures_every_call_once_and_loses_none(deployed, tmp_path):
    run = RunDirectory(tmp_path / "20261124T000000Z-0000")
    words = ["run", "--profile", "kills", "--results", str(tmp_path), "--run", run.run_id]
    killing = [sys.executable, "-m", "tests.experiments.killing", str(KILLS), "7", str(run.client_directory), *words]
    began_ms = int(time.time() * 1000)
    done = subprocess.run(
        killing, cwd=REPOSITORY, env=deployed.environment(), capture_output=True, text=True, timeout=280, check=True
    )
    fates = json.loads(done.stdout)
    assert fates["last"] == 0, done.stderr
    killed = [fate for fate in fates["fates"] if fate.startswith("killed")]
    assert len(killed) == KILLS, Counter(fates["fates"])
    assert killed.count("killed in the middle") >= KILLS // 3

    configuration = read_configuration(deployed.configuration_path, profile="kills")
    (variant,) = configuration.variants
    records = list(run.client_records())
    ids = Counter(record.call_id for record in records)
    assert set(ids.values()) == {1}
    cold, warm = configuration.experiments.cold, configuration.experiments.warm
    planned = {call.call_id for call in forced_calls([variant], cold.forced_samples, configuration.experiments.seed)}
    for connection in warm.connections:
        series = Series(variant, connection)
        planned |= {series.warmup(number).call_id for number in range(warm.warmups)}
        planned |= {series.sample(number).call_id for number in range(warm.samples)}
    assert planned <= ids.keys()
    # Beyond the plan there are warm-ups of resumed attempts, one a series, and samples that came out cold.
    extra = [record for record in records if record.call_id not in planned]
    assert all(record.warmup or record.handler is None or record.handler.cold for record in extra) or len(extra) <= 9
    assert {record.outcome for record in records} == {"ok"}

    # Every record's request is in the logs once; what no record knows of was under way when a kill came.
    logs = deployed.lab.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=configuration.names.log_group(variant), startTime=began_ms
    )
    reports = Counter(
        json.loads(event["message"])["record"]["requestId"]
        for page in pages
        for event in page["events"]
        if '"platform.report"' in event["message"]
    )
    known = [record.request_id for record in records if record.request_id]
    assert set(known) <= reports.keys()
    assert len(reports) - len(records) <= KILLS
    assert NONCE_VARIABLE not in deployed.variables_of(variant)
