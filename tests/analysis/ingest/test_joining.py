"""Rows made from files tell what the generator of those files knew."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis.estimate.cells import with_rules
from analysis.ingest.client_records import read_clients
from analysis.ingest.joining import _match_fires, decide, join_calls
from analysis.ingest.log_groups import read_group
from analysis.ingest.platform_logs import LogParser
from analysis.ingest.run_files import raw_group
from core.configuration import read_configuration
from core.run.run_directory import RunDirectory
from tests.analysis import synthetic


def joined(run: RunDirectory, configuration, *, with_clients: bool = True) -> pl.DataFrame:
    clients = read_clients(run)
    endpoint = run.read_manifest().endpoint
    parts = []
    for variant in configuration.variants:
        logged = read_group(raw_group(run, configuration.names.function(variant))).invocations
        mine = clients.filter(pl.col("variant") == variant.key) if with_clients else clients.clear()
        parts.append(
            decide(pl.concat(join_calls(logged, mine, 2)), variant, endpoint, run.run_id, logs_alone=not with_clients)
        )
    return pl.concat(parts)


@pytest.mark.parametrize("log_format", ["JSON", "Text"])
def test_a_run_read_back_from_its_files_is_the_run_that_was_written(tmp_path, log_format):
    configuration = synthetic.with_starts(read_configuration(profile="demo"), ("on_demand", "snapstart", "provisioned"))
    truth = synthetic.make_rows(configuration)
    # Pages of 997 events cut many invocations in two.
    run = synthetic.write_run(tmp_path, configuration, truth, log_format=log_format, page_size=997)
    found = joined(run, configuration).sort("call_id")
    wanted = synthetic.frame(truth).sort("call_id")
    loose = ["error", "http_status"]  # worded by whoever saw it
    if log_format == "Text":
        # Text format has no time of its own: the event's whole milliseconds are all there is.
        assert (found["logged_at"] - wanted["logged_at"]).abs().max() <= 0.0006
        loose.append("logged_at")
    assert_frame_equal(found.drop(loose), wanted.drop(loose), abs_tol=1e-3)


def test_the_logs_alone_rebuild_what_the_platform_knows(tmp_path):
    configuration = read_configuration(profile="demo")
    truth = [row for row in synthetic.make_rows(configuration) if row["request_id"]]
    run = synthetic.write_run(tmp_path, configuration, truth)
    found = joined(run, configuration, with_clients=False).sort("request_id")
    wanted = synthetic.frame(truth).sort("request_id")
    columns = ["request_id", "variant", "start_type", "start_evidence", "outcome", "duration_ms", "init_ms", "weights"]
    assert_frame_equal(found.select(columns), wanted.select(columns))
    assert found["experiment"].to_list() == found["start_type"].to_list()
    assert found["call_id"].null_count() == found.height


def test_fires_take_their_invocations_in_order_even_when_intervals_are_short_and_starts_late():
    def matched(fires, starts):
        free = pl.DataFrame({"request_id": [f"r{n}" for n in range(len(starts))], "logged_at": starts})
        return _match_fires(list(range(len(fires))), fires, free)

    assert matched([0.0, 2.5, 5.0], [0.6, 3.4, 5.1]) == {0: "r0", 1: "r1", 2: "r2"}
    # A late start falls into the next interval: the order still tells them apart.
    assert sorted(matched([0.0, 2.5], [2.6, 2.7]).values()) == ["r0", "r1"]
    # A fire that never began stays without an invocation, and an invocation long after is nobody's.
    assert matched([0.0, 600.0, 1200.0], [3.0, 1203.0]) == {0: "r0", 2: "r1"}
    assert matched([0.0], [500.0, 4000.0]) == {0: "r0"}
    assert matched([600.0], [1.0]) == {}


def logged_by(*lines):
    parser = LogParser()
    parser.feed(["stream"] * len(lines), [1_000 * place for place in range(len(lines))], lines)
    return parser.frame()


def platform(kind, second, **record):
    return json.dumps({"time": f"2026-11-24T10:00:{second:06.3f}Z", "type": f"platform.{kind}", "record": record})


def cold_start(request_id, *, started_s, waited):
    """INIT takes 3 s; START follows it at once, or at `started_s` where the platform initialized ahead of the call."""
    metrics = {"durationMs": 80.0, "billedDurationMs": 3081, "initDurationMs": 3000.0}
    return (
        platform("initStart", started_s - (3.01 if waited else 40), initializationType="on-demand"),
        platform("start", started_s, requestId=request_id),
        json.dumps({"event": "inference", "request_id": request_id, "call_number": 1}),
        platform("report", started_s + 0.1, requestId=request_id, metrics=metrics, status="success"),
    )


@pytest.fixture(scope="module")
def demo():
    return read_configuration(profile="demo")


@pytest.mark.parametrize("waited", [True, False])
def test_an_init_that_nobody_waited_for_makes_no_cold_start(demo, waited):
    variant = demo.variants[0]
    run_rows = synthetic.make_rows(demo, cold_samples=1, warm_samples=1, load_rps=1, load_s=1)
    endpoint = synthetic.manifest_of(demo, run_rows).endpoint
    logged = logged_by(*cold_start("r1", started_s=50, waited=waited))
    nobody = read_clients(RunDirectory(Path("nowhere")))
    rows = decide(pl.concat(join_calls(logged, nobody, 2)), variant, endpoint, "run", logs_alone=True)
    told = rows.select("start_type", "start_evidence", "init_status", "init_ms").row(0)
    if waited:
        assert told == ("cold", "call_number", "success", 3000.0)
    else:
        assert told == ("warm", "initialised_ahead", "ahead", 3000.0)
    (row,) = with_rules(rows).iter_rows(named=True)
    assert row["total_ms"] == pytest.approx(3080 if waited else 80)
    assert row["rule"] == (None if waited else "initialised_ahead")
    in_load = with_rules(rows.with_columns(pl.lit("load").alias("experiment")))
    assert in_load["rule"].to_list() == [None], "users of a load test meet it"


@pytest.mark.parametrize(
    ("init_to_call_ms", "wanted"),
    [
        (40_000.0, ("warm", "initialised_ahead", "ahead", 40_000.0)),
        (3.0, ("cold", "call_number", "success", 3.0)),
        (None, ("cold", "call_number", "success", None)),
    ],
)
def test_an_init_ahead_of_need_shows_at_log_level_info(demo, init_to_call_ms, wanted):
    """At system level INFO, the platform logs platform.start and platform.report, and nothing about the init."""
    run_rows = synthetic.make_rows(demo, cold_samples=1, warm_samples=1, load_rps=1, load_s=1)
    endpoint = synthetic.manifest_of(demo, run_rows).endpoint
    facts = {"event": "inference", "request_id": "r1", "call_number": 1, "init_to_call_ms": init_to_call_ms}
    metrics = {"durationMs": 80.0, "billedDurationMs": 3081, "initDurationMs": 3000.0}
    logged = logged_by(
        platform("start", 50, requestId="r1"),
        json.dumps(facts),
        platform("report", 50.1, requestId="r1", metrics=metrics, status="success"),
    )
    nobody = read_clients(RunDirectory(Path("nowhere")))
    rows = decide(pl.concat(join_calls(logged, nobody, 2)), demo.variants[0], endpoint, "run", logs_alone=True)
    assert rows.select("start_type", "start_evidence", "init_status", "init_to_call_ms").row(0) == wanted


def test_the_first_call_in_a_provisioned_environment_is_no_cold_start(demo):
    run_rows = synthetic.make_rows(demo, cold_samples=1, warm_samples=1, load_rps=1, load_s=1)
    endpoint = synthetic.manifest_of(demo, run_rows).endpoint
    metrics = {"durationMs": 80.0, "billedDurationMs": 81}

    def told(kind):
        logged = logged_by(
            platform(
                "initReport", 1, initializationType=kind, phase="init", status="success", metrics={"durationMs": 9}
            ),
            platform("start", 2, requestId="r1"),
            json.dumps({"event": "inference", "request_id": "r1", "call_number": 1}),
            platform("report", 2.1, requestId="r1", metrics=metrics, status="success"),
        )
        nobody = read_clients(RunDirectory(Path("nowhere")))
        rows = decide(pl.concat(join_calls(logged, nobody, 2)), demo.variants[0], endpoint, "run", logs_alone=True)
        return rows.select("start_type", "start_evidence", "init_status").row(0)

    assert told("provisioned-concurrency") == ("warm", "initialised_ahead", "ahead")
    assert told("on-demand")[:2] == ("cold", "call_number")


@pytest.mark.parametrize(
    ("kind", "crashed", "wanted"),
    [
        ("provisioned-concurrency", False, ("warm", "initialised_ahead", "ahead")),
        ("on-demand", False, ("cold", "call_number", "success")),
        # Its next caller waits for another init, which the environment's type does not tell.
        ("provisioned-concurrency", True, ("cold", "call_number", None)),
    ],
)
def test_a_function_that_says_how_it_was_initialised_needs_no_other_evidence(demo, kind, crashed, wanted):
    """On AWS, REPORT of the first call in a provisioned environment has an Init Duration, which nobody waited for."""
    run_rows = synthetic.make_rows(demo, cold_samples=1, warm_samples=1, load_rps=1, load_s=1)
    endpoint = synthetic.manifest_of(demo, run_rows).endpoint
    metrics = {"durationMs": 80.0, "billedDurationMs": 81}
    first = [
        platform("start", 1, requestId="r0"),
        platform("report", 1.1, requestId="r0", metrics=metrics, status="error", errorType="Runtime.ExitError"),
    ]
    logged = logged_by(
        *(first if crashed else ()),
        platform("start", 2, requestId="r1"),
        json.dumps({"event": "inference", "request_id": "r1", "call_number": 1, "initialization": kind}),
        platform(
            "report",
            2.1,
            requestId="r1",
            metrics=metrics if crashed else metrics | {"initDurationMs": 4000.0},
            status="success",
        ),
    )
    nobody = read_clients(RunDirectory(Path("nowhere")))
    rows = decide(pl.concat(join_calls(logged, nobody, 2)), demo.variants[0], endpoint, "run", logs_alone=True)
    (row,) = rows.filter(pl.col("request_id") == "r1").iter_rows(named=True)
    assert (row["start_type"], row["start_evidence"], row["init_status"]) == wanted
    assert row["initialization"] == kind


def test_a_caller_who_was_quicker_than_the_init_did_not_wait_for_it(tmp_path, demo):
    truth = synthetic.make_rows(demo, cold_samples=2, warm_samples=1, load_rps=1, load_s=1)
    row = next(row for row in truth if row["client_latency_ms"] and row["init_ms"])
    row |= {"client_latency_ms": row["init_ms"] / 2}
    found = joined(synthetic.write_run(tmp_path, demo, truth), demo).filter(pl.col("call_id") == row["call_id"])
    assert found.select("start_type", "start_evidence").row(0) == ("warm", "initialised_ahead")


def test_an_init_ahead_of_need_shows_in_the_answer_alone(tmp_path, demo):
    """The function's line is missing from the logs, and all other lines may be."""
    truth = synthetic.make_rows(demo, cold_samples=2, warm_samples=1, load_rps=1, load_s=1)
    row = next(row for row in truth if row["client_latency_ms"] and row["init_ms"])
    row |= {"init_to_call_ms": 40_000.0, "client_latency_ms": row["duration_ms"] + 4}
    run = synthetic.write_run(tmp_path, demo, truth)
    shutil.rmtree(run.raw_directory / "logs")
    found = joined(run, demo).filter(pl.col("call_id") == row["call_id"])
    assert found.select("start_type", "start_evidence", "init_status").row(0) == ("warm", "initialised_ahead", "ahead")


@pytest.mark.parametrize(
    ("init_ms", "init_to_call_ms", "more_ms", "wanted"),
    [
        pytest.param(3_000.0, 1_200.0, 3_100.0, ("cold", "call_number"), id="waited through a slow init"),
        pytest.param(230.0, 40_000.0, 400.0, ("warm", "initialised_ahead"), id="is far away from a short init"),
        pytest.param(3_000.0, 40_000.0, 400.0, ("warm", "initialised_ahead"), id="was quicker than the init"),
    ],
)
def test_what_a_caller_waited_for_tells_a_slow_init_from_one_ahead_of_need(
    tmp_path, demo, init_ms, init_to_call_ms, more_ms, wanted
):
    truth = synthetic.make_rows(demo, cold_samples=2, warm_samples=1, load_rps=1, load_s=1)
    row = next(row for row in truth if row["client_latency_ms"] and row["init_ms"])
    latency_ms = row["duration_ms"] + more_ms
    row |= {"init_ms": init_ms, "init_to_call_ms": init_to_call_ms, "client_latency_ms": latency_ms}
    found = joined(synthetic.write_run(tmp_path, demo, truth), demo).filter(pl.col("call_id") == row["call_id"])
    assert found.select("start_type", "start_evidence").row(0) == wanted


@pytest.mark.parametrize("outcome", ["gateway_timeout", "connection"])
def test_a_caller_who_gave_up_before_the_end_of_the_init_did_wait_for_it(tmp_path, demo, outcome):
    truth = synthetic.make_rows(demo, cold_samples=2, warm_samples=1, load_rps=1, load_s=1)
    row = next(row for row in truth if row["client_latency_ms"] and row["init_ms"])
    run = synthetic.write_run(tmp_path, demo, truth)
    given_up = {"client_latency_ms": row["init_ms"] / 2, "outcome": outcome, "handler": None}
    path = run.client_directory / f"{row['experiment']}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [record | given_up if record["call_id"] == row["call_id"] else record for record in lines]
    path.write_text("".join(json.dumps(record) + "\n" for record in changed))
    found = joined(run, demo).filter(pl.col("call_id") == row["call_id"])
    assert found.select("start_type", "start_evidence", "outcome").row(0) == ("cold", "call_number", outcome)
