"""The protocols against a lab: real stacks, real Lambda API, stub functions."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.pipeline import highest_rates
from core.configuration import PILOT_CALLS, read_configuration
from core.errors import EXIT_CHECK_FAILED, CloudError, UserError
from core.money.prices import read_prices
from core.paths import REPOSITORY
from core.program.interruption import SIGNALS
from core.run.records import ClientRecord
from core.run.run_directory import RunDirectory
from core.run.stages import STAGES_FILE, complete_stages, read_stages, search_step, stage_of
from core.run.stops import STOPS_FILE, Stop, read_stops
from core.statistics.rate_search import expected_calls
from experiments.__main__ import main
from experiments.aws.lambda_control import NONCE_VARIABLE
from experiments.aws.scheduler import KEPT_FIELDS
from experiments.checks import cleanup
from experiments.checks.spend import estimate, total
from experiments.plan import GIVE_UP_AFTER, PARALLEL_WARMUPS, Series, all_series, forced_calls, shuffled, steps
from experiments.protocols.warm import is_warm_sample
from experiments.session import UNREACHABLE_AFTER
from loadtests.arrivals import shape_of
from tests.experiments.conftest import Deployed, deploy
from tests.experiments.relay import Relay, Seen
from tests.lab_support import refusing_port
from tests.stubs.door import door
from tests.stubs.making import write_stub

PATIENCE_S = 900.0  # a bound for a loaded machine; what is waited for is an event


def records_of(results, run_id) -> list[ClientRecord]:
    return list(RunDirectory(results / run_id).client_records())


def test_preflight_finds_a_fresh_deployment_in_order(deployed):
    done = deployed.run("preflight")
    assert "PROBLEM" not in done.stdout
    assert re.search(r"REST API: 4 .* 300000 ms", done.stdout)


def test_preflight_names_a_gateway_that_was_deployed_otherwise(here, tmp_path, monkeypatch, capsys):
    path = tmp_path / "benchmark.toml"
    text = here.configuration_path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("integration_timeout_ms = 300_000", "integration_timeout_ms = 60_000"), encoding="utf-8"
    )
    monkeypatch.setenv("BENCHMARK_TOML", str(path))
    assert main(["preflight"]) == 2
    (problem,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("PROBLEM")]
    assert re.search(r"REST API: .* 300000 .* 60000", problem)


def test_warm_calls_are_all_recorded_and_the_last_line_is_the_run(deployed, tmp_path):
    done = deployed.run("warm", "--results", str(tmp_path))
    run_id = done.stdout.splitlines()[-1]
    records = records_of(tmp_path, run_id)
    counted = Counter((r.variant, r.connection, r.warmup) for r in records)
    for variant in deployed.configuration.variants:
        for connection in ("kept", "new"):
            samples = [r for r in records if (r.variant, r.connection, r.warmup) == (variant.key, connection, False)]
            environments = {record.group for record in samples}
            assert counted[variant.key, connection, True] == len(environments) >= 2, "one in each environment"
            assert counted[variant.key, connection, False] >= 6
    # A round visits every series once, in an order of its own that follows from the seed in the manifest.
    seed = RunDirectory(tmp_path / run_id).read_manifest().seed
    assert seed == deployed.configuration.experiments.seed
    keys = sorted(series.key for series in all_series(deployed.configuration))
    samples = [record for record in records if not record.warmup]
    rounds = [shuffled(keys, seed, "warm", number) for number in range(6)]
    assert len({tuple(order) for order in rounds}) > 1
    assert [record.call_id for record in samples[: 6 * len(keys)]] == [
        f"warm/{key}/{number:06d}" for number, order in enumerate(rounds) for key in order
    ]
    assert all((record.connect_ms is None) == (record.connection == "kept") for record in samples)


KILLS = 50


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_run_killed_fifty_times_measures_every_call_once_and_loses_none(deployed, tmp_path):
    run = RunDirectory(tmp_path / "20261124T000000Z-0000")
    words = ["run", "--profile", "kills", "--results", str(tmp_path), "--run", run.run_id]
    killing = [sys.executable, "-m", "tests.experiments.killing", str(KILLS), "7", str(run.client_directory), *words]
    began_ms = int(time.time() * 1000)
    done = subprocess.run(
        killing, cwd=REPOSITORY, env=deployed.environment(), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["last"] == 0, done.stderr
    fates = found["fates"]
    ends = Counter(fate["end"] for fate in fates)
    assert ends["killed early"] + ends["killed in the middle"] == KILLS, ends
    assert ends["killed in the middle"] >= KILLS // 3
    assert all(fate["under_way"] <= PARALLEL_WARMUPS for fate in fates if not fate["in_load"]), fates

    configuration = read_configuration(deployed.configuration_path, profile="kills")
    (variant,) = configuration.variants
    records = list(run.client_records())
    ids = Counter(record.call_id for record in records)
    assert set(ids.values()) == {1}
    cold, warm = configuration.experiments.cold, configuration.experiments.warm
    planned = {call.call_id for call in forced_calls([variant], cold.forced_samples, configuration.experiments.seed)}
    for connection in warm.connections:
        series = Series(variant, connection)
        environments = range(warm.environments)
        planned |= {series.warmup(one, number).call_id for one in environments for number in range(warm.warmups)}
        planned |= {series.sample(0, number).call_id for number in range(warm.samples)}
    assert planned <= ids.keys()
    # Beyond the plan there are a warm-up a series and attempt, and a sample for each one that came out cold.
    for connection in warm.connections:
        samples = [r for r in records if r.experiment == "warm" and r.connection == connection and not r.warmup]
        assert sum(is_warm_sample(record) for record in samples) == warm.samples
    beyond = [r for r in records if r.experiment != "load" and r.call_id not in planned and is_warm_sample(r)]
    assert len(beyond) == sum(r.handler.cold for r in records if r.experiment == "warm" and not r.warmup)
    # A load that was killed is begun again: one came to its end, and its calls are all there.
    whole = complete_stages(run)
    assert len(whole) == 1
    stages = load_calls(run)
    assert [count for stage, count in stages.items() if stage in whole] == [
        round(shape_of(configuration.experiments.load).expected_arrivals)
    ]
    broken_off = {stop.connection for stop in all_stops(run) if stop.reason == "broken_off"}
    assert stages.keys() - whole == broken_off
    outcomes = Counter(
        record.outcome for record in records if not record.call_id.startswith(tuple(f"{name}-" for name in broken_off))
    )
    assert outcomes.keys() == {"ok"}

    # Every record's request is in the logs once; what no record knows of was under way when a kill came.
    known = {record.request_id for record in records if record.request_id}
    wait_for(lambda: known <= logged_calls(deployed, variant, began_ms).keys())
    reports = logged_calls(deployed, variant, began_ms)
    assert len(reports) - len(records) <= sum(fate["under_way"] for fate in fates)
    assert NONCE_VARIABLE not in deployed.variables_of(variant)


# --- cold ------------------------------------------------------------------------------------------------------------


def logged_calls(deployed, variant, since_ms):
    """Request ids that the platform reported, with how often."""
    pages = (
        deployed.lab.client("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=deployed.configuration.names.log_group(variant), startTime=since_ms)
    )
    return Counter(
        json.loads(event["message"])["record"]["requestId"]
        for page in pages
        for event in page["events"]
        if '"platform.report"' in event["message"]
    )


def schedules(deployed):
    client = deployed.lab.client("scheduler")
    names = deployed.configuration.names
    return [
        client.get_schedule(GroupName=names.schedule_group, Name=names.schedule(variant))
        for variant in deployed.configuration.variants
    ]


def deployed_schedule_fields(schedule):
    """What CloudFormation set, and an experiment must leave as it is."""
    return {name: schedule[name] for name in KEPT_FIELDS if name in schedule}


def fires_wanted(configuration):
    return configuration.experiments.cold.scheduled_samples


def test_schedules_fire_as_often_as_asked_are_written_down_and_off_again(deployed, tmp_path):
    before = [deployed_schedule_fields(schedule) for schedule in schedules(deployed)]
    since_ms = int(time.time() * 1000)
    done = deployed.run("cold", "--results", str(tmp_path))
    records = records_of(tmp_path, done.stdout.splitlines()[-1])
    wanted = fires_wanted(deployed.configuration)
    for variant in deployed.configuration.variants:
        mine = [record for record in records if record.variant == variant.key]
        assert [record.outcome for record in mine] == ["pending"] * wanted
        assert {(r.trigger, r.protocol, r.request_id, r.time_scale) for r in mine} == {
            ("schedule", "scheduled", None, 240.0)
        }
        assert len(logged_calls(deployed, variant, since_ms)) == wanted
    after = schedules(deployed)
    assert {schedule["State"] for schedule in after} == {"DISABLED"}
    assert [deployed_schedule_fields(schedule) for schedule in after] == before


@contextmanager
def stopped_when_fires_are_looked_for(deployed, words, **options):
    """A cold run that has switched every schedule on, and waits for its first answer from the logs."""
    look = Seen(b"PUT /schedules/", len(deployed.configuration.variants), then=b"FilterLogEvents")
    with Relay(deployed.lab.port, look) as relay:
        environment = deployed.environment(AWS_ENDPOINT_URL=relay.url)
        with subprocess.Popen(words, cwd=REPOSITORY, env=environment, **options) as process:
            relay.wait_until_stopped()
            yield process, relay


@pytest.mark.slow
def test_an_interrupted_schedule_is_off_at_once_and_resumed_for_what_is_missing(deployed, tmp_path):
    since_ms = int(time.time() * 1000)
    run = RunDirectory(tmp_path / "20261124T000000Z-0001")
    words = deployed.command("cold", "--results", str(tmp_path), "--run", run.run_id)
    with stopped_when_fires_are_looked_for(deployed, words, stderr=subprocess.PIPE, text=True) as (process, relay):
        process.send_signal(signal.SIGTERM)
        relay.resume()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert f"inference-lab experiments cold --resume {run.run_id} --results {tmp_path}" in said
    assert "Traceback" not in said
    assert {schedule["State"] for schedule in schedules(deployed)} == {"DISABLED"}
    assert run.read_manifest().stopped_because == "interrupted"

    deployed.run("cold", "--results", str(tmp_path), "--resume", run.run_id)
    assert run.read_manifest().stopped_because == ""
    ids = [record.call_id for record in run.client_records()]
    wanted = fires_wanted(deployed.configuration)
    assert len(ids) == len(set(ids)) == wanted * len(deployed.configuration.variants)
    for variant in deployed.configuration.variants:
        # A fire that fell into the moment of the interruption may have happened without a record; none is missing.
        assert wanted <= len(logged_calls(deployed, variant, since_ms)) <= wanted + 1


@pytest.mark.slow
def test_fires_that_happened_while_the_run_was_dead_are_found_and_not_asked_for_again(deployed, tmp_path):
    since_ms = int(time.time() * 1000)
    run = RunDirectory(tmp_path / "20261124T000000Z-0002")
    words = deployed.command("cold", "--results", str(tmp_path), "--run", run.run_id)
    with stopped_when_fires_are_looked_for(deployed, words, stderr=subprocess.DEVNULL) as (process, _):
        process.kill()
    wanted = fires_wanted(deployed.configuration)
    variants = deployed.configuration.variants
    wait_for(lambda: all(len(logged_calls(deployed, v, since_ms)) == wanted for v in variants))
    assert len(list(run.client_records())) < wanted * len(variants)
    # The schedules end half an interval after their last fire; a quick machine would resume before that.
    ends_at = max(schedule["EndDate"].timestamp() for schedule in schedules(deployed))
    wait_for(lambda: time.time() > ends_at)
    done = deployed.run("cold", "--results", str(tmp_path), "--resume", run.run_id)
    assert "is on, and calls its function" not in done.stderr  # its end date has passed
    ids = [record.call_id for record in run.client_records()]
    assert len(ids) == len(set(ids)) == wanted * len(variants)
    assert all(len(logged_calls(deployed, variant, since_ms)) == wanted for variant in variants)


def wait_for(condition, process=None):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, f"it ended before: {process.stderr and process.stderr.read()}"
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_forced_cold_starts_are_cold_by_evidence_and_leave_the_functions_as_they_were(deployed, tmp_path):
    forced = replace(deployed, profile="forced")
    variants = forced.configuration.variants
    before = {variant: forced.variables_of(variant) for variant in variants}
    done = forced.run("cold", "--results", str(tmp_path))
    run_id = done.stdout.splitlines()[-1]
    records = records_of(tmp_path, run_id)
    cold = forced.configuration.experiments.cold
    by_protocol = Counter(record.protocol for record in records)
    assert by_protocol == {
        "forced": len(variants) * cold.forced_samples,
        "burst": len(variants) * sum(cold.burst_sizes) * cold.burst_repeats,
        "gateway": len(variants) * cold.gateway_samples,
    }
    direct = [record for record in records if record.trigger == "invoke"]
    assert all(record.handler is not None for record in direct)
    # No update failed to make a new environment; one that did would show here, and be kept.
    assert {(r.handler.cold, r.handler.call_number) for r in direct if r.protocol == "forced"} == {(True, 1)}
    groups = {}
    for record in direct:
        if record.group:
            groups.setdefault(record.group, []).append(record)
    for members in groups.values():
        environments = Counter(record.handler.environment_id for record in members)
        first_calls = sum(record.handler.call_number == 1 for record in members)
        assert first_calls == len(environments)
    assert {variant: forced.variables_of(variant) for variant in variants} == before


@pytest.mark.slow
def test_calls_that_found_no_connection_are_made_again_by_a_resumed_run_and_no_others(deployed, tmp_path):
    forced = replace(deployed, profile="forced")
    variant = forced.configuration.variants[-1]
    words = ["--results", str(tmp_path), "--models", variant.model, "--memory-mb", str(variant.memory_mb)]
    run = RunDirectory(tmp_path / forced.run("cold", *words).stdout.splitlines()[-1])
    (path,) = run.client_directory.glob("cold*.jsonl")
    before = list(run.client_records())
    lost = {f"cold/forced/{variant.key}/0001", f"cold/gateway/{variant.key}/0000"}
    without = {"outcome": "connection", "error": "reset", "handler": None, "http_status": None}
    changed = [record.model_copy(update=without) if record.call_id in lost else record for record in before]
    path.write_text("".join(f"{record.model_dump_json()}\n" for record in changed), encoding="utf-8")
    for _ in range(2):
        forced.run("cold", *words, "--resume", run.run_id)
        records = list(run.client_records())
        assert records[: len(changed)] == changed
        again = {record.call_id: record for record in records[len(changed) :]}
        assert again.keys() == {f"{call_id}-again-1" for call_id in lost}
        assert {record.outcome for record in again.values()} == {"ok"}
        assert all(record.handler.cold for record in again.values())


# --- what cannot be, and what must not be ----------------------------------------------------------------------------


def test_a_variant_that_cannot_run_is_a_result_and_the_others_go_on(deployed, tmp_path):
    broken, *_ = deployed.configuration.variants
    function = deployed.configuration.names.function(broken)
    client = deployed.lab.client("lambda")
    client.update_function_configuration(FunctionName=function, Environment={"Variables": {"STUB_EXIT": "3"}})
    try:
        done = deployed.run("warm", "--results", str(tmp_path))
    finally:
        client.update_function_configuration(FunctionName=function, Environment={"Variables": {}})
    run_id = done.stdout.splitlines()[-1]
    outcomes = {}
    for record in records_of(tmp_path, run_id):
        outcomes.setdefault(record.variant, Counter())[record.outcome] += 1
    assert outcomes[broken.key].keys() == {"error"}
    assert outcomes[broken.key].total() <= GIVE_UP_AFTER + 1  # a warm-up a series, then no more
    assert {key: outcome for key, outcome in outcomes.items() if outcome.keys() != {"ok"}}.keys() == {broken.key}, (
        outcomes
    )
    stops = read_stops(RunDirectory(tmp_path / run_id))
    assert {(s.variant, s.connection) for s in stops if s.reason == "cannot_run"} == {
        (broken.key, "kept"),
        (broken.key, "new"),
    }


@contextmanager
def functions_changed(deployed, changes):
    """Functions configured otherwise for a while: `changes` holds arguments of UpdateFunctionConfiguration by name."""
    client = deployed.lab.client("lambda")
    kept = {name: client.get_function_configuration(FunctionName=name) for name in changes}
    try:
        for name, change in changes.items():
            client.update_function_configuration(FunctionName=name, **change)
        yield
    finally:
        for name, before in kept.items():
            client.update_function_configuration(
                FunctionName=name,
                Timeout=before["Timeout"],
                Environment={"Variables": before.get("Environment", {}).get("Variables", {})},
            )


@pytest.mark.slow
def test_a_kill_for_memory_and_a_function_timeout_are_recorded_as_such_and_not_tried_for_ever(deployed, tmp_path):
    outcomes = replace(deployed, profile="outcomes")
    configuration = outcomes.configuration
    wanted = [variant for variant in configuration.variants if variant.memory_mb == 256]
    (hungry, slow) = wanted
    others = [variant for variant in configuration.variants if variant not in wanted]
    sleeps = {"STUB_SLEEP_MS": "600000"}
    # With its own share, a busy machine would not fill the memory of the first within the timeout of both.
    variables = {hungry: {"STUB_HOG_MB": "300", "LAB_VCPU": "1", **sleeps}, slow: sleeps}
    changes = {
        configuration.names.function(variant): {
            "Timeout": configuration.function.timeout_s,
            "Environment": {"Variables": variables.get(variant, {})},
        }
        for variant in configuration.variants
    }
    with functions_changed(outcomes, changes):
        done = outcomes.run("cold", "--results", str(tmp_path))
    run = RunDirectory(tmp_path / done.stdout.splitlines()[-1])
    found = Counter((record.variant, record.outcome) for record in run.client_records())
    assert found == {
        (hungry.key, "out_of_memory"): GIVE_UP_AFTER,
        (slow.key, "timeout"): GIVE_UP_AFTER,
        **{(variant.key, "ok"): configuration.experiments.cold.forced_samples for variant in others},
    }
    stops = {stop.variant: stop for stop in read_stops(run)}
    assert {key: stop.reason for key, stop in stops.items()} == dict.fromkeys((hungry.key, slow.key), "cannot_run")
    assert "out_of_memory" in stops[hungry.key].detail
    assert "timeout" in stops[slow.key].detail


@pytest.mark.slow
def test_a_burst_of_ten_is_sent_at_once_and_one_larger_than_the_account_not_at_all(deployed, tmp_path):
    bursts = replace(deployed, profile="bursts")
    variant = bursts.configuration.variants[-1]
    narrow = ["--models", variant.model, "--memory-mb", str(variant.memory_mb)]
    client = bursts.lab.client("lambda")
    idle, burst = (bursts.configuration.names.function(one) for one in (bursts.configuration.variants[0], variant))
    room = client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    client.put_function_concurrency(FunctionName=idle, ReservedConcurrentExecutions=room - 100)
    try:
        # None answers before all are there.
        with (
            door(10) as port,
            functions_changed(bursts, {burst: {"Environment": {"Variables": {"STUB_DOOR": str(port)}}}}),
        ):
            done = bursts.run("cold", "--results", str(tmp_path), *narrow)
    finally:
        client.delete_function_concurrency(FunctionName=idle)
    assert re.search(r"burst .* 101 .* 100\b", done.stderr)
    run = RunDirectory(tmp_path / done.stdout.splitlines()[-1])
    records = list(run.client_records())
    assert Counter((record.group, record.outcome) for record in records) == {(f"burst-10/{variant.key}/0", "ok"): 10}
    # All were under way at one moment, so each had an environment of its own.
    assert max(record.sent_at for record in records) < min(record.answered_at for record in records)
    assert {record.handler.call_number for record in records} == {1}
    assert len({record.handler.environment_id for record in records}) == 10
    (stop,) = read_stops(run)
    assert (stop.protocol, stop.variant, stop.reason, stop.samples) == (
        "burst-101",
        variant.key,
        "over_concurrency",
        0,
    )


@pytest.mark.slow
def test_a_variant_that_cannot_start_is_not_hammered_by_bursts_and_its_calls_are_counted(deployed, tmp_path):
    forced = replace(deployed, profile="forced")
    broken, *_ = forced.configuration.variants
    function = forced.configuration.names.function(broken)
    client = forced.lab.client("lambda")
    client.update_function_configuration(FunctionName=function, Environment={"Variables": {"STUB_INIT_EXIT": "3"}})
    narrow = ["--models", broken.model, "--memory-mb", str(broken.memory_mb)]
    try:
        done = forced.run("cold", "--results", str(tmp_path), *narrow)
    finally:
        client.update_function_configuration(FunctionName=function, Environment={"Variables": {}})
    run = RunDirectory(tmp_path / done.stdout.splitlines()[-1])
    by_protocol = Counter(record.protocol for record in run.client_records())
    assert by_protocol["forced"] == forced.configuration.experiments.cold.forced_samples
    # The bursts are of 1 and of 4, in an order of their own; whichever came first was the last one.
    assert by_protocol["burst"] in (1, 4)
    assert by_protocol["gateway"] == 0
    stops = {stop.protocol: stop for stop in read_stops(run)}
    assert {name: stop.samples for name, stop in stops.items()} == {"burst": by_protocol["burst"], "gateway": 0}
    assert {stop.reason for stop in stops.values()} == {"cannot_run"}


def test_a_plan_over_the_limit_is_refused_before_its_first_call(here, tmp_path, capsys):
    words = ["warm", "--results", str(tmp_path), "--max-usd", "0.0000001"]
    with pytest.raises(UserError, match=r"1e-07 USD"):
        main(words)
    assert main([*words, "--dry-run"]) == 1
    said = capsys.readouterr()
    assert all(part in said.out for part in ("calls", "duration", "expected USD", "at most USD", "Limit: 1e-07 USD"))
    assert "would be refused" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_stops_when_its_billed_time_has_cost_the_limit_and_keeps_what_it_measured(deployed, tmp_path):
    # The limit is what the plan is expected to cost, and calls are made slower than expected. Of the quickest variant,
    # so that little time is worth the limit.
    *_, variant = deployed.configuration.variants
    prices = read_prices(deployed.configuration.prices)
    planned = [
        estimate(step, deployed.configuration, prices)
        for step in steps(deployed.configuration, ["warm"], time_scale=240)
        if step.variant == variant
    ]
    limit = str(1.01 * total(planned).expected_usd)
    narrow = ["--models", variant.model, "--memory-mb", str(variant.memory_mb)]
    function = deployed.configuration.names.function(variant)
    client = deployed.lab.client("lambda")
    client.update_function_configuration(FunctionName=function, Environment={"Variables": {"STUB_SLEEP_MS": "1500"}})
    try:
        stopped = deployed.run("warm", "--results", str(tmp_path), *narrow, "--max-usd", limit, code=2)
        run_id = stopped.stdout.splitlines()[-1]
        assert "the run has cost about" in stopped.stderr
        measured = len(records_of(tmp_path, run_id))
        assert 0 < measured < 14
        client.update_function_configuration(FunctionName=function, Environment={"Variables": {}})
        deployed.run("warm", "--results", str(tmp_path), "--resume", run_id, "--max-usd", "1")
    finally:
        client.update_function_configuration(FunctionName=function, Environment={"Variables": {}})
    ids = [record.call_id for record in records_of(tmp_path, run_id)]
    assert len(ids) == len(set(ids)) > measured


def test_two_processes_never_measure_one_run(deployed, tmp_path):
    run = RunDirectory(tmp_path / "20261124T000000Z-0003")
    words = ("--results", str(tmp_path), "--run", run.run_id)
    first = deployed.command("cold", *words)
    with stopped_when_fires_are_looked_for(deployed, first, stderr=subprocess.DEVNULL) as (process, relay):
        second = deployed.run("warm", *words, code=1)
        assert "is being measured by another process" in second.stderr
        assert run.read_manifest().experiments == ("cold",)  # and it has left nothing behind
        process.send_signal(signal.SIGINT)
        relay.resume()
    assert process.returncode == 130


def test_a_run_keeps_the_plan_it_began_with(deployed, here, tmp_path):
    run_id = deployed.run("warm", "--results", str(tmp_path)).stdout.splitlines()[-1]
    for words in (["--until-ci", "3%"], ["--models", "mobilenet"]):
        with pytest.raises(UserError, match=r"keeps (the|its) plan"):
            main(["warm", "--results", str(tmp_path), "--resume", run_id, *words])
    with pytest.raises(UserError, match="has profile ''"):
        main(["warm", "--results", str(tmp_path), "--resume", run_id, "--profile", "forced"])
    # An experiment may be added, and finds what is there.
    deployed.run("warm", "--results", str(tmp_path), "--run", run_id)
    assert len(records_of(tmp_path, run_id)) == len({r.call_id for r in records_of(tmp_path, run_id)})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["warm", "--models", "vgg"], "--models vgg: not in the matrix; allowed: resnet50, mobilenet"),
        (["warm", "--memory-mb", "100"], "--memory-mb 100: not in the matrix; allowed: 256, 512"),
        (["warm", "--resume", "latest"], "no run in"),
        (["warm", "--resume", "20261124T000000Z-beef"], "is not in"),
        (["warm", "--run", "mine"], "a new run needs a name like"),
        (["warm", "--profile", "fast"], "profile 'fast' does not exist"),
        (["warm", "--until-ci", "200"], "until_ci_percent is 200"),
        (["warm", "--max-usd", "-1"], "max_usd is -1"),
    ],
)
def test_a_mistake_on_the_command_line_is_named_with_what_to_do(here, tmp_path, words, said):
    with pytest.raises(UserError) as refused:
        main([*words, "--results", str(tmp_path)])
    assert said in str(refused.value)
    assert refused.value.hint
    assert not list(tmp_path.iterdir())


def test_results_that_cannot_be_written_are_named_with_what_to_do(here, tmp_path):
    path = tmp_path / "a file"
    path.write_text("")
    with pytest.raises(UserError) as refused:
        main(["warm", "--results", str(path)])
    assert str(path) in refused.value.message
    assert "--results" in refused.value.hint


@pytest.fixture
def here(deployed, monkeypatch):
    """This very process pointed at the lab, for commands that are refused before they measure."""
    for name, value in deployed.environment().items():
        monkeypatch.setenv(name, value)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield deployed
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
def test_without_a_lab_a_deployment_or_credentials_the_checks_fail_with_what_to_do(deployed, tmp_path):
    def checked(environment, said):
        done = subprocess.run(
            deployed.command("warm", "--results", str(tmp_path)),
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.iterdir())

    with refusing_port() as port:
        checked(deployed.environment(AWS_ENDPOINT_URL=f"http://localhost:{port}"), "inference-lab lab serve")
    aws = {k: v for k, v in deployed.environment().items() if not k.startswith("AWS_") and k != "HOME"}
    nothing = aws | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    checked(nothing, "no AWS region is set")
    checked(nothing | {"AWS_DEFAULT_REGION": "us-east-1"}, "no AWS credentials were found")
    elsewhere = tmp_path.parent / "elsewhere.toml"
    text = deployed.configuration_path.read_text(encoding="utf-8")
    elsewhere.write_text(text.replace('"inference-lab"', '"elsewhere"'), encoding="utf-8")
    checked(deployed.environment(BENCHMARK_TOML=str(elsewhere)), "stack elsewhere: not deployed")


def test_cleanup_switches_off_and_takes_back_what_a_broken_off_run_left(deployed, tmp_path):
    names, (variant, *_) = deployed.configuration.names, deployed.configuration.variants
    scheduler, functions = deployed.lab.client("scheduler"), deployed.lab.client("lambda")
    found = scheduler.get_schedule(GroupName=names.schedule_group, Name=names.schedule(variant))
    scheduler.update_schedule(**deployed_schedule_fields(found) | {"State": "ENABLED"}, StartDate=time.time() + 3600)
    functions.update_function_configuration(
        FunctionName=names.function(variant), Environment={"Variables": {NONCE_VARIABLE: "x", "STUB_INIT_MS": "1"}}
    )
    try:
        assert "is on, and calls its function" in deployed.run("preflight").stdout
        done = deployed.run("cleanup", "--results", str(tmp_path))
        assert "was on, and is off now" in done.stdout
        assert "schedules: all are off" in done.stdout
        assert f"{NONCE_VARIABLE} was left behind; removed" in done.stdout
        assert "log groups: 4 with" in done.stdout
        assert {schedule["State"] for schedule in schedules(deployed)} == {"DISABLED"}
        assert deployed.variables_of(variant) == {"STUB_INIT_MS": "1"}
    finally:
        functions.update_function_configuration(FunctionName=names.function(variant), Environment={"Variables": {}})


def test_cleanup_calls_nothing_ownerless_while_aws_does_not_say_whether_the_stack_exists(
    here, tmp_path, monkeypatch, capsys
):
    def refuse(_cloud, _name):
        raise CloudError("DescribeStacks: AccessDenied: not authorized")

    monkeypatch.setattr(cleanup, "stack_status", refuse)
    assert main(["cleanup", "--results", str(tmp_path)]) == EXIT_CHECK_FAILED
    said = capsys.readouterr().out
    assert "AccessDenied" in said
    assert "log groups: 4 with" in said
    assert cleanup.LEFT not in said


@pytest.mark.slow
def test_after_the_stacks_are_destroyed_cleanup_finds_the_images_alone_and_deletes_them(deployed, tmp_path):
    text = deployed.configuration_path.read_text(encoding="utf-8")
    stub = write_stub(tmp_path / "stub", init_ms=1)
    text = text.replace('"inference-lab"', '"gone-lab"').replace(
        str(deployed.configuration.function.directory), str(stub)
    )
    text = text.replace('models = ["resnet50", "mobilenet"]', 'models = ["mobilenet"]')
    text = text.replace("memory_sizes_mb = [256, 512]", "memory_sizes_mb = [256]")
    path = tmp_path / "benchmark.toml"
    path.write_text(text, encoding="utf-8")
    gone = Deployed(deployed.lab, path)
    deploy(gone, tmp_path / "cdk.out")
    results = ("--results", str(tmp_path / "results"))
    # The very first call of a newly deployed image is labeled, and no later one.
    labels = [
        [record.first_after_deploy for record in records_of(tmp_path / "results", done.stdout.splitlines()[-1])]
        for done in (gone.run("warm", *results), gone.run("warm", *results))
    ]
    assert labels[0] == [True] + [False] * (len(labels[0]) - 1)
    assert not any(labels[1])
    assert "cdk destroy" in gone.run("cleanup", *results).stdout
    gone.lab.client("cloudformation").delete_stack(StackName=gone.configuration.names.stack)
    left = gone.run("cleanup", *results, code=2).stdout
    assert [line for line in left.splitlines() if line.startswith("PROBLEM")] == [
        line for line in left.splitlines() if line.startswith("PROBLEM  image")
    ]
    assert "was unused; deleted" in gone.run("cleanup", "--images", *results).stdout
    assert "nothing is left of one" in gone.run("cleanup", *results).stdout


# --- load, and the whole ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_load_is_resumed_stage_by_stage(deployed, tmp_path):
    run = RunDirectory(tmp_path / "20261124T000000Z-0004")
    narrow = ("--memory-mb", "512")
    variants = [variant for variant in deployed.configuration.variants if variant.memory_mb == 512]
    words = deployed.command("load", "--results", str(tmp_path), "--run", run.run_id, *narrow)
    # In the middle of the second stage, whose calls get no answer from the fourth on.
    fourth = Seen(f"/v1/{variants[1].model}/".encode(), 3)
    with Relay(deployed.lab.port, fourth) as relay:
        environment = deployed.environment(AWS_ENDPOINT_URL=relay.url)
        with subprocess.Popen(words, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as process:
            relay.wait_until_stopped()
            wait_for(lambda: len(load_calls(run)) == 2, process)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if run.run_id in command_line(pid)]

    done = deployed.run("load", "--results", str(tmp_path), "--resume", run.run_id, *narrow)
    assert done.stdout.splitlines()[-1] == run.run_id
    whole = Counter(stage.variant for stage in read_stages(run) if not stage.interrupted)
    assert whole == {variant.key: 1 for variant in variants}
    (broken_off,) = [stop for stop in read_stops(run) if stop.reason == "broken_off"]
    assert broken_off.variant == variants[1].key
    offered = round(shape_of(deployed.configuration.experiments.load).expected_arrivals)
    counted = load_calls(run)
    assert 0 < counted.pop(broken_off.connection) <= offered
    assert list(counted.values()) == [offered] * len(variants)
    # The analysis reads the same from the run's files: what is left of the stages counts.
    assert complete_stages(run) == set(counted)


@pytest.mark.slow
def test_every_repeat_of_a_load_is_made_once_in_an_environment_of_its_own(deployed, tmp_path):
    repeated = replace(deployed, profile="repeated")
    (variant,) = repeated.configuration.variants
    done = repeated.run("load", "--results", str(tmp_path))
    run = RunDirectory(tmp_path / done.stdout.splitlines()[-1])
    environments = defaultdict(set)
    for record in run.client_records():
        if not record.warmup:
            assert record.outcome == "ok", record.error
            environments[stage_of(record.call_id)].add(record.handler.environment_id)
    first, *others = [stage.key for stage in read_stages(run)]
    assert set(environments) == {first, *others}
    assert len(others) == 2
    assert len(set().union(*environments.values())) == sum(map(len, environments.values())), "one answered two repeats"

    # As if it had been killed after the first one.
    path = run.root / STAGES_FILE
    path.write_text(path.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")
    repeated.run("load", "--results", str(tmp_path), "--resume", run.run_id)
    again = [stage.key for stage in read_stages(run)]
    assert again[0] == first
    assert len(again) == 3
    assert not set(again) & set(others)
    assert NONCE_VARIABLE not in repeated.variables_of(variant)


@pytest.mark.slow
def test_a_search_finds_the_rate_of_a_limited_concurrency_and_survives_an_interruption(deployed, tmp_path):
    searched = replace(deployed, profile="search")
    configuration = searched.configuration
    (variant,) = configuration.variants
    function, sleep_ms, environments = configuration.names.function(variant), 20.0, 2
    run = RunDirectory(tmp_path / "20261124T000000Z-0005")
    words = ("--results", str(tmp_path), "--find-rate")
    client = deployed.lab.client("lambda")
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=environments)
    try:
        with functions_changed(searched, {function: {"Environment": {"Variables": {"STUB_SLEEP_MS": str(sleep_ms)}}}}):
            command = [*searched.command("load", *words), "--run", run.run_id]
            # In its second step: the first, at far more than the function can answer, cannot be the last.
            second = Relay(deployed.lab.port, lambda data: b"GET /_aws/execute-api/" in data and bool(read_stages(run)))
            with second as relay:
                environment = searched.environment(AWS_ENDPOINT_URL=relay.url)
                with subprocess.Popen(
                    command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True
                ) as process:
                    relay.wait_until_stopped()
                    process.send_signal(signal.SIGTERM)
                    relay.resume()
                    process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 130
            before = [stage.key for stage in read_stages(run) if not stage.interrupted]
            searched.run("load", *words, "--resume", run.run_id)
    finally:
        client.delete_function_concurrency(FunctionName=function)
    stages = [stage for stage in read_stages(run) if not stage.interrupted]
    assert [stage.key for stage in stages][: len(before)] == before, "no step is made again"
    assert stages[0].rate_rps == configuration.experiments.load.end_rps
    found = highest_rates(run, configuration)[variant.key]
    # Arrivals are random: no step is planned to exceed the limit, but it may make a few calls more.
    made = [search_step(run, stage, configuration.goal.limit_ms).calls for stage in stages]
    planned = round((stages[-1].duration_s - stages[-1].lead_in_s) * (stages[-1].rate_rps or 0.0))
    assert sum(made) == found.calls
    assert sum(made[:-1]) + planned <= configuration.experiments.load.search_calls
    # A machine whose speed changes may leave the search without a rate, but not without the reason.
    assert found.rate_rps is not None or found.reason
    if found.rate_rps is not None:
        # Erlang's formula for two servers that lose a fifth: one environment busy on average. An environment is
        # occupied for longer than the stub sleeps and for no longer than the caller waits.
        waited_ms = [record.client_latency_ms for record in run.client_records() if record.outcome == "ok"]
        lowest_rps, highest_rps = 1000 / max(waited_ms), 1000 / sleep_ms
        assert found.low_rps <= 1.05 * highest_rps
        assert found.high_rps >= lowest_rps


def test_a_search_is_planned_by_its_expected_calls_and_judged_by_the_limit(here, tmp_path, capsys):
    words = ["load", "--find-rate", "--models", "mobilenet", "--memory-mb", "256", "--results", str(tmp_path)]
    assert main([*words, "--dry-run"]) == 0
    configuration = here.configuration
    calls = configuration.experiments.load.warmups + expected_calls(configuration.goal.max_bad_share)
    assert f"{calls:,}" in capsys.readouterr().out
    with pytest.raises(UserError, match="expected to cost"):
        main([*words, "--max-usd", "0.01"])
    with pytest.raises(UserError, match="cannot be sent from Fargate"):
        main([*words, "--on", "fargate"])


def all_stops(run):
    """Every reason that was written down, those of earlier attempts too."""
    return [Stop(**json.loads(line)) for line in (run.root / STOPS_FILE).read_text().splitlines()]


def load_calls(run):
    """Calls of each stage, by what their ids begin with."""
    arrivals = (r for r in run.client_records() if r.experiment == "load" and not r.warmup)
    return Counter(record.call_id.rpartition("-")[0] for record in arrivals)


def command_line(process):
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.slow
def test_samples_go_on_until_the_median_is_known_as_well_as_asked_and_the_reason_is_kept(deployed, tmp_path):
    variant, *_ = deployed.configuration.variants
    narrow = ["--models", variant.model, "--memory-mb", str(variant.memory_mb)]
    done = deployed.run("warm", "--results", str(tmp_path), *narrow, "--until-ci", "25%")
    run_id = done.stdout.splitlines()[-1]
    stops = [stop for stop in read_stops(RunDirectory(tmp_path / run_id)) if stop.experiment == "warm"]
    assert {stop.connection for stop in stops} == {"kept", "new"}
    for stop in stops:
        assert stop.reason in ("ci_reached", "max_samples")
        assert stop.reason != "ci_reached" or stop.half_width_percent <= 25
    manifest = RunDirectory(tmp_path / run_id).read_manifest()
    assert manifest.configuration["experiments"]["warm"]["until_ci_percent"] == 25


@pytest.mark.slow
def test_sampling_until_decided_survives_a_kill_and_ends_each_variant_with_its_reason(deployed, tmp_path):
    decided = replace(deployed, profile="decided")
    run = RunDirectory(tmp_path / "20261124T000000Z-0007")
    words = decided.command("warm", "--results", str(tmp_path), "--run", run.run_id, "--until-decided")
    with Relay(deployed.lab.port, Seen(b"GET /_aws/execute-api/", 60)) as relay:
        environment = decided.environment(AWS_ENDPOINT_URL=relay.url)
        with subprocess.Popen(words, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL) as process:
            relay.wait_until_stopped()
            process.kill()
    before = {record.call_id for record in run.client_records()}
    assert before
    assert not read_stops(run)
    decided.run("warm", "--results", str(tmp_path), "--resume", run.run_id)  # the run remembers what was asked for
    records = list(run.client_records())
    ids = [record.call_id for record in records]
    assert len(ids) == len(set(ids))
    assert before <= set(ids)
    stops = {(stop.variant, stop.connection): stop for stop in read_stops(run)}
    kept = [stop for (_, connection), stop in stops.items() if connection == "kept"]
    assert len(kept) == len(decided.configuration.variants)
    assert {stop.reason for stop in kept} <= {"meets", "dearer"}
    assert "meets" in {stop.reason for stop in kept}
    # Calls on new connections decide nothing, so they end with the pilot.
    warm = decided.configuration.experiments.warm
    pilot = PILOT_CALLS * warm.environments
    sampled = Counter((r.variant, r.connection) for r in records if not r.warmup)
    assert all(sampled[key] == pilot for key in stops if key[1] == "new")
    assert all(sampled[key] > pilot for key, stop in stops.items() if stop.reason == "meets")


@pytest.mark.slow
def test_a_lab_that_goes_away_ends_the_run_with_what_to_do_and_a_new_one_is_not_taken_for_it(deployed, tmp_path):
    run = RunDirectory(tmp_path / "20261124T000000Z-0005")
    words = deployed.command("warm", "--results", str(tmp_path), "--run", run.run_id)
    with Relay(deployed.lab.port, Seen(b"GET /_aws/execute-api/", 20)) as relay:
        environment = deployed.environment(AWS_ENDPOINT_URL=relay.url)
        with subprocess.Popen(words, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as process:
            relay.wait_until_stopped()
            relay.cut()
            _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, said
    assert "calls in a row found no connection" in said
    assert f"--resume {run.run_id}" in said
    assert "Traceback" not in said
    lost = [record for record in run.client_records() if record.outcome == "connection"]
    # Warm-ups go side by side: one may be under way when another is found to be the last.
    assert UNREACHABLE_AFTER <= len(lost) < UNREACHABLE_AFTER + PARALLEL_WARMUPS
