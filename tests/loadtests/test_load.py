"""`locust -f loadtests/locustfile.py` as users start it, against a server with a settable service time."""

import csv
import json
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest

from core.run.run_directory import create_run
from loadtests.account import INTERRUPTED
from loadtests.arrivals import Segment, Shape
from tests.lab_support import refusing_port
from tests.loadtests.conftest import PATIENCE_S, free_port, until
from tests.loadtests.server import API_KEY

ONE_VARIANT = ("--model", "mobilenet", "--memory-mb", "1024")


def test_a_load_beyond_the_deployed_usage_plan_is_refused_before_its_first_call(start_load, endpoint):
    calls = endpoint.set()["calls"]
    load = start_load(*ONE_VARIANT, "--end-rps", 100_001, "--duration-s", 3)
    load.wait(code=1)
    assert "the deployed endpoint allows 100000" in load.err
    assert endpoint.set()["calls"] == calls


def constant(rps, seconds):
    return ("--shape", "constant", "--end-rps", rps, "--duration-s", seconds)


def numbers(records):
    return sorted(int(record.call_id.rpartition("-")[2]) for record in records)


def get_json(url):
    with urllib.request.urlopen(url, timeout=600) as answer:
        return json.load(answer)


def test_each_arrival_is_sent_once_at_its_time_after_the_warm_ups_and_recorded(start_load, endpoint):
    without_key = endpoint.set()["without_key"]
    load = start_load(*ONE_VARIANT, "--end-rps", 40, "--duration-s", 3, warmups=2)
    out = load.wait()
    assert endpoint.set()["without_key"] == without_key
    for file in load.run.root.rglob("*"):
        assert not file.is_file() or API_KEY.encode() not in file.read_bytes(), f"{file} holds the API key"
    assert API_KEY not in out + load.err
    records = [record for record in load.records if not record.warmup]
    assert numbers(records) == list(range(60))
    (stage,) = load.stages
    first, second = (record for record in load.records if record.warmup)
    assert first.answered_at <= second.sent_at
    assert second.answered_at < stage["started_at"]
    expected = Shape("linear", (Segment(0, 40, 3),)).arrivals()
    for record, (_, at_s) in zip(sorted(records, key=lambda r: r.intended_at), expected, strict=True):
        assert record.intended_at == pytest.approx(stage["started_at"] + at_s, abs=1e-5)
        assert record.intended_at <= record.sent_at <= record.answered_at
        assert record.latency_from_intended_ms >= record.client_latency_ms
        assert record.outcome == "ok"
        assert record.request_id == record.handler.request_id
        assert record.gateway_request_id.startswith("gateway-")
        assert record.variant == "mobilenet-tensorflow-x86_64-1024"
    manifest = load.run.read_manifest()
    assert manifest.experiments == ("load",)
    table = manifest.configuration["experiments"]["load"]  # with the changes of the command line
    assert (table["end_rps"], table["duration_s"]) == (40, 3)
    assert manifest.finished_at is not None
    assert manifest.stopped_because == ""
    assert "offered 60" in out
    assert "ok 60" in out
    with (load.run.root / "load-seconds.csv").open() as file:
        seconds = list(csv.DictReader(file))
    # 0 to 40 requests/s in 3 s: the integral over each second, a mark each whole arrival.
    assert [int(second["offered"]) for second in seconds][:3] == [7, 20, 33]
    assert sum(int(second["answered"]) for second in seconds) == 60


@pytest.mark.slow
def test_slow_answers_hold_no_arrival_back(start_load, endpoint):
    """A closed loop would stop sending while it waits; here all are under way before the first answer."""
    endpoint.set(hang=1)
    load = start_load(*ONE_VARIANT, *constant(40, 2))
    until(lambda: endpoint.set()["under_way"] == 80)
    endpoint.set(hang=0)
    load.wait()
    assert [record.outcome for record in load.records] == ["ok"] * 80


def test_arrivals_beyond_max_in_flight_are_recorded_as_dropped(start_load, endpoint):
    endpoint.set(hang=1)
    load = start_load(*ONE_VARIANT, *constant(20, 2), "--max-in-flight", 5)
    until(lambda: endpoint.set()["under_way"] == 5)
    until(lambda: [record.outcome for record in load.records] == ["dropped"] * 35)
    endpoint.set(hang=0)
    out = load.wait()
    outcomes = [record.outcome for record in load.records]
    assert sorted(outcomes) == ["dropped"] * 35 + ["ok"] * 5
    assert all(record.sent_at is None for record in load.records if record.outcome == "dropped")
    assert "dropped 35" in out


def test_ctrl_c_in_a_warm_up_leaves_its_record_and_no_traceback(start_load, endpoint):
    endpoint.set(hang=1)
    load = start_load(*ONE_VARIANT, *constant(20, 1), warmups=3)
    until(lambda: endpoint.set()["under_way"])
    load.process.send_signal(signal.SIGINT)
    load.wait(code=130)
    (record,) = load.records
    assert (record.warmup, record.error) == (True, INTERRUPTED)


@pytest.mark.slow
def test_variants_are_loaded_one_after_another(start_load):
    load = start_load("--model", "mobilenet,resnet50", "--memory-mb", "512", *constant(20, 1))
    load.wait()
    first, second = load.stages
    assert (first["variant"], second["variant"]) == (
        "resnet50-tensorflow-x86_64-512",
        "mobilenet-tensorflow-x86_64-512",
    )
    assert first["finished_at"] <= second["started_at"]
    assert len(load.records) == 40


@pytest.mark.slow
def test_a_variant_that_cannot_run_is_given_up_and_the_next_one_loaded(start_load, endpoint):
    endpoint.set(status=502)
    load = start_load("--model", "mobilenet,resnet50", "--memory-mb", "512", *constant(50, 600))
    out = load.wait()
    assert [stage["stopped_because"].startswith("20 failures in a row") for stage in load.stages] == [True, True]
    assert 40 <= len(load.records) < 60_000
    assert {record.outcome for record in load.records} == {"error"}
    assert load.stages[0]["stopped_because"] in out


@pytest.mark.slow
def test_throttles_are_an_outcome_and_end_nothing(start_load, endpoint):
    endpoint.set(status=429)
    load = start_load(*ONE_VARIANT, *constant(40, 1))
    load.wait()
    assert [record.outcome for record in load.records] == ["throttled"] * 40


def test_ctrl_c_ends_it_cleanly_and_loses_no_record(start_load, endpoint):
    endpoint.set(hang=1)
    load = start_load(*ONE_VARIANT, *constant(20, 60))
    until(lambda: endpoint.set()["under_way"] >= 10)
    load.process.send_signal(signal.SIGINT)
    out = load.wait(code=130)
    records = load.records
    assert len(records) >= 10
    assert {record.error for record in records} == {INTERRUPTED}
    assert all(record.sent_at is not None and record.answered_at is None for record in records)
    assert load.run.read_manifest().stopped_because == "interrupted"
    assert "ended early: interrupted" in out


def test_a_run_is_joined_and_its_manifest_left_alone_and_one_of_another_place_is_refused(start_load, tmp_path):
    first = start_load(*ONE_VARIANT, *constant(20, 1))
    first.wait()
    run = first.run
    manifest = run.manifest_path.read_bytes()
    # Neither a run that is missing nor one that was measured elsewhere is joined; all three start side by side.
    joining = start_load(*ONE_VARIANT, *constant(20, 1), "--run", run.run_id)
    missing = start_load(*ONE_VARIANT, "--run", "20990101T000000Z-0000")
    there = run.read_manifest()
    other = create_run(tmp_path / "results", run_id="20980101T000000Z-0000")
    other.write_manifest(there.model_copy(update={"endpoint": there.endpoint.model_copy(update={"host": "another"})}))
    elsewhere = start_load(*ONE_VARIANT, "--run", other.run_id)
    joining.wait()
    records = list(run.client_records())
    assert len(records) == len({record.call_id for record in records}) == 40
    assert run.manifest_path.read_bytes() == manifest
    elsewhere.wait(code=1)
    assert "host is 'another'" in elsewhere.err
    missing.wait(code=1)
    assert "run '20990101T000000Z-0000' is not in" in missing.err
    assert not list(other.client_directory.iterdir())


@pytest.mark.slow
def test_four_workers_share_the_arrivals_and_hold_the_shape_together(start_load):
    load = start_load(*ONE_VARIANT, "--end-rps", 80, "--duration-s", 3, "--processes", 4)
    out = load.wait()
    assert numbers(load.records) == list(range(120))
    files = sorted(load.run.client_directory.iterdir())
    assert [file.name for file in files] == [f"load-{index}.jsonl" for index in range(4)]
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert len({int(line["call_id"].rpartition("-")[2]) % 4 for line in lines}) == 1
    assert "offered 120" in out
    assert "4 worker(s)" in out


@pytest.mark.slow
def test_the_share_of_a_worker_that_is_killed_goes_to_another(start_load, endpoint):
    # The first arrivals stay under way until the kill, which leaves a minute to notice it.
    endpoint.set(hang=1)
    load = start_load(*ONE_VARIANT, *constant(5, 60), "--processes", 3)
    until(lambda: endpoint.set()["under_way"] >= 3 and len(list(load.run.client_directory.iterdir())) == 3)
    psutil.Process(load.process.pid).children()[-1].kill()
    endpoint.set(hang=0)
    out = load.wait()
    (stage,) = load.stages
    assert len(stage["lost_workers"]) == 1
    found = numbers(load.records)
    assert len(found) == len(set(found))
    by_share = {index: [n for n in found if n % 3 == index] for index in range(3)}
    complete = [index for index, share in by_share.items() if len(share) == 100]
    assert len(complete) == 2
    (taken_over,) = set(by_share) - set(complete)
    assert by_share[taken_over][-1] >= 295  # sent to its end by its heir
    assert f"{300 - len(found)} arrivals have no record" in out
    assert "left: worker" in load.err


@pytest.mark.slow
def test_a_worker_of_another_directory_joins_late_takes_its_part_and_ships_its_records(start_load, endpoint, tmp_path):
    port = free_port()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    endpoint.set(hang=1)
    load = start_load(
        *("--model", "mobilenet,resnet50", "--memory-mb", "512", *constant(20, 5)),
        *("--master", "--master-bind-port", port, "--expect-workers", 1),
    )
    first = start_load("--worker", "--master-port", port)
    until(lambda: endpoint.set()["under_way"])
    # No answer comes before the late worker is there, so the first stage does not end.
    late = start_load("--worker", "--master-port", port, directory=elsewhere)
    until(lambda: "joined: it stands by" in load.err)
    endpoint.set(hang=0)
    load.wait()
    first.wait()
    late.wait()
    alone, together = load.stages
    assert (alone["workers"], together["workers"]) == (1, 2)
    for stage in load.stages:
        records = [record for record in load.records if record.variant == stage["variant"]]
        assert numbers(records) == list(range(100))
    # What came over the wire is what the worker has on its own disk.
    (shipped,) = [path for path in load.run.client_directory.iterdir() if path.name == "load-1.jsonl"]
    assert shipped.read_text() == (elsewhere / "results" / load.run.run_id / "client" / "load-1.jsonl").read_text()


@pytest.mark.slow
def test_no_worker_outlives_a_master_that_is_killed(start_load, endpoint):
    endpoint.set(hang=1)
    load = start_load(*ONE_VARIANT, *constant(20, 60), "--processes", 2)
    until(lambda: endpoint.set()["under_way"] >= 4)
    workers = psutil.Process(load.process.pid).children()
    assert len(workers) == 2
    load.process.kill()
    load.process.wait()
    psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not any(worker.is_running() for worker in workers)
    assert load.records


@pytest.mark.slow
def test_the_web_page_shows_the_numbers_that_are_recorded(start_load, endpoint):
    port = free_port()
    load = start_load("--web-port", port, *ONE_VARIANT, headless=False)
    page = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return urllib.request.urlopen(f"{page}/load-seconds", timeout=600).status == 200
        except OSError:
            return False

    until(answers)
    listening = {c.laddr.ip for c in psutil.Process(load.process.pid).net_connections() if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    form = {"shape": "constant", "end_rps": "30", "duration_s": "2", "user_count": "1", "spawn_rate": "1"}
    # What cannot be begun is refused, and the page goes on.
    mistyped = urllib.parse.urlencode(form | {"model": "alexnet"}).encode()
    urllib.request.urlopen(f"{page}/swarm", mistyped, timeout=600).close()
    until(lambda: get_json(f"{page}/stats/requests")["state"] == "stopped")
    form["model"] = "mobilenet"
    started = urllib.request.urlopen(f"{page}/swarm", urllib.parse.urlencode(form).encode(), timeout=600)
    assert json.load(started)["success"]
    until(lambda: any(stage["report"]["finished_at"] for stage in get_json(f"{page}/load-seconds.json")))
    until(lambda: get_json(f"{page}/stats/requests")["state"] == "stopped")
    (shown,) = get_json(f"{page}/load-seconds.json")
    statistics = get_json(f"{page}/stats/requests")["stats"]
    load.process.send_signal(signal.SIGINT)
    load.wait()
    assert "--model is 'alexnet'" in load.err
    records = load.records
    assert len(records) == 60
    assert sum(second["offered"] for second in shown["seconds"]) == 60
    assert sum(second["sent"] for second in shown["seconds"]) == 60
    assert sum(second["answered"] for second in shown["seconds"]) == 60
    (row,) = [row for row in statistics if row["name"] != "Aggregated"]
    assert row["num_requests"] == 60
    latencies = sorted(record.latency_from_intended_ms for record in records)
    assert row["max_response_time"] == pytest.approx(latencies[-1], abs=1)
    assert row["median_response_time"] == pytest.approx(latencies[29], rel=0.1, abs=1.5)  # Locust rounds


def test_without_a_lab_it_says_so_and_leaves(start_load):
    with refusing_port() as port:
        load = start_load(url=f"http://127.0.0.1:{port}")
        load.wait(code=1)
    assert "Is the lab up?" in load.err
    assert not (load.directory / "results").exists()


@pytest.mark.slow
def test_an_option_that_a_worker_would_ignore_is_refused_by_the_worker(start_load):
    port = free_port()
    start_load("--master", "--master-bind-port", port, *ONE_VARIANT)
    worker = start_load("--worker", "--master-port", port, "--host", "http://127.0.0.1:9", headless=False)
    worker.wait(code=1)
    assert "--host http://127.0.0.1:9" in worker.err
    assert "AWS_ENDPOINT_URL" in worker.err


def test_a_wrong_option_is_named_and_nothing_is_written(start_load):
    load = start_load("--model", "alexnet", "--processes", 2)
    load.wait(code=1)
    assert "--model is 'alexnet'" in load.err
    assert not (load.directory / "results").exists()


@pytest.mark.slow
def test_an_endpoint_that_goes_away_ends_the_load_with_an_error_and_what_was_measured_kept(start_load):
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("server.py")], stdout=subprocess.PIPE, text=True
    )
    url = json.loads(process.stdout.readline())["url"]
    load = start_load("--model", "mobilenet,resnet50", "--memory-mb", "512", *constant(50, 60), url=url)
    until(lambda: any((load.directory / "results").glob("*/client")) and len(load.records) > 10)
    process.kill()
    process.wait()
    load.wait(code=1)
    assert "the endpoint does not answer" in load.err
    assert {record.outcome for record in load.records} == {"ok", "connection"}
    # Nothing of it lay with the variant: a resumed run loads it again.
    assert [stage["stopped_because"] for stage in load.stages] == ["interrupted"]
