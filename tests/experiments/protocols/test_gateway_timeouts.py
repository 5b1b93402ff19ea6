"""Calls that take longer than the gateway waits: a 504 is what the user got, and the function goes on all the same."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import polars as pl
import pytest

from core.paths import REPOSITORY
from core.run.run_directory import RunDirectory
from tests.experiments.conftest import Deployed, configuration_text, deploy
from tests.stubs.making import write_stub

# The gateway has to wait for an ordinary cold start on a busy machine.
TIMEOUT_MS = 7000
INIT_MS = 8000

pytestmark = pytest.mark.slow  # waits twice for a cold start that is longer than the gateway's patience


@pytest.fixture(scope="module")
def slow_to_start(deployed, tmp_path_factory):
    """A deployment whose gateway waits for 7 s, and of whose two functions one takes longer to start."""
    directory = tmp_path_factory.mktemp("gateway")
    text = configuration_text(write_stub(directory / "stub")).partition("[profile.")[0]
    for pattern, line in {
        r"^name_prefix = .*": 'name_prefix = "impatient-lab"',
        r"^integration_timeout_ms = .*": f"integration_timeout_ms = {TIMEOUT_MS}",
        r"^memory_sizes_mb = .*": "memory_sizes_mb = [512]",
        r"^protocols = .*": "protocols = []",
        r"^gateway_samples = .*": "gateway_samples = 2",
        r"^connections = .*": 'connections = ["kept"]',
    }.items():
        text, count = re.subn(pattern, line, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
    path = directory / "benchmark.toml"
    path.write_text(text, encoding="utf-8")
    impatient = Deployed(deployed.lab, path)
    deploy(impatient, directory / "cdk.out")
    slow, _ = impatient.configuration.variants
    impatient.lab.client("lambda").update_function_configuration(
        FunctionName=impatient.configuration.names.function(slow),
        Environment={"Variables": {"STUB_INIT_MS": str(INIT_MS)}},
    )
    return impatient


def test_a_cold_start_longer_than_the_gateway_waits_is_a_labelled_504_and_its_report_is_collected(
    slow_to_start, tmp_path
):
    slow, quick = slow_to_start.configuration.variants
    done = slow_to_start.run("cold", "--results", str(tmp_path))
    assert all(part in done.stderr for part in ("cold: 4 calls (", "2 gateway_timeout", "2 ok"))
    run = RunDirectory(tmp_path / done.stdout.splitlines()[-1])
    records = list(run.client_records())
    given_up = [record for record in records if record.variant == slow.key]
    assert [(r.outcome, r.http_status, r.protocol, r.trigger) for r in given_up] == [
        ("gateway_timeout", 504, "gateway", "api")
    ] * 2
    assert all(r.client_latency_ms >= TIMEOUT_MS and r.handler is None and "504" in r.error for r in given_up)
    # The plan went on with the other variant, in both rounds.
    assert [(r.outcome, r.handler.cold) for r in records if r.variant == quick.key] == [("ok", True)] * 2
    assert run.read_manifest().stopped_because == ""
    # No call was sent before the function that the gateway gave up on had ended.
    sent = sorted(record.sent_at for record in records)
    for record in given_up:
        later = [moment for moment in sent if moment > record.sent_at]
        assert all(moment >= record.sent_at + INIT_MS / 1000 for moment in later)

    subprocess.run(
        [sys.executable, "analysis/collect.py", "--run", str(run.root), "--strict", "--no-report"],
        cwd=REPOSITORY,
        env=slow_to_start.environment(),
        check=True,
        capture_output=True,
    )
    rows = pl.read_parquet(run.data_directory / "invocations.parquet").filter(pl.col("variant") == slow.key)
    assert rows["call_id"].to_list() == [record.call_id for record in given_up]
    assert set(rows["outcome"]) == {"gateway_timeout"}
    assert set(rows["start_type"]) == {"cold"}
    # What the caller never saw is in the function's own report, and found by its time: no answer told the request id.
    assert rows["request_id"].n_unique() == 2
    assert rows["init_ms"].min() >= INIT_MS
    assert rows["billed_ms"].min() >= INIT_MS


def test_a_warm_series_whose_first_call_gets_a_504_goes_on_with_the_environment_it_left(slow_to_start, tmp_path):
    slow, _ = slow_to_start.configuration.variants
    # A change of its variables leaves the function without an environment.
    slow_to_start.lab.client("lambda").update_function_configuration(
        FunctionName=slow_to_start.configuration.names.function(slow),
        Environment={"Variables": {"STUB_INIT_MS": str(INIT_MS), "AGAIN": "1"}},
    )
    done = slow_to_start.run("warm", "--results", str(tmp_path), "--models", slow.model)
    records = list(RunDirectory(tmp_path / done.stdout.splitlines()[-1]).client_records())
    # Each environment of the series is made by a call that the gateway gives up on.
    starts = [number for number, record in enumerate(records) if record.warmup]
    assert starts[0] == 0
    assert {records[number].outcome for number in starts} == {"gateway_timeout"}
    for start, end in itertools.pairwise([*starts, len(records)]):
        answered = records[start + 1 : end]
        assert {r.outcome for r in answered} == {"ok"}
        assert [r.handler.call_number for r in answered] == list(range(2, 2 + len(answered)))
        assert len({r.handler.environment_id for r in answered}) == 1
    environments = {r.handler.environment_id for r in records if r.handler is not None}
    assert len(environments) == len(starts)
