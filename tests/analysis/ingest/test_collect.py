"""Collecting from the logs that a real control plane keeps (moto's), page by page, interrupted, late, and twice."""

import gzip
import json
import shutil
import time

import boto3
import polars as pl
import pytest
from moto import mock_aws
from polars.testing import assert_frame_equal

from analysis.collect import main, parse_moment
from analysis.ingest import cloudwatch
from analysis.ingest.cloudwatch import CloudWatch, metric_queries, metric_window
from analysis.ingest.run_files import raw_group
from core.configuration import read_configuration
from core.errors import CloudError, DeploymentError, RecordError, UserError
from core.paths import BENCHMARK_TOML
from core.run.records import ClientRecord
from core.run.run_directory import RunDirectory
from tests.analysis import synthetic

MODELS = 'models = ["mobilenet"]'
SIZES = "memory_sizes_mb = [512, 1769]"


@pytest.fixture
def configuration(monkeypatch, tmp_path_factory):
    """One model at two memory sizes: what is tested here does not depend on how many."""
    text = BENCHMARK_TOML.read_text().replace('models = ["resnet50", "inceptionv3", "mobilenet"]', MODELS)
    path = tmp_path_factory.mktemp("configuration") / "benchmark.toml"
    path.write_text(text.replace("memory_sizes_mb = [512, 1024, 1536, 1769, 2048, 3008]", SIZES))
    monkeypatch.setenv("BENCHMARK_TOML", str(path))
    monkeypatch.delenv("BENCHMARK_PROFILE", raising=False)
    return read_configuration()


@pytest.fixture
def aws(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


@pytest.fixture
def rows(configuration):
    return synthetic.make_rows(
        configuration,
        source="aws",
        cold_samples=2,
        warm_samples=3,
        load_rps=3,
        load_s=5,
        started_at=time.time() - 3600 * 3,
    )


@pytest.fixture
def run(tmp_path, configuration, rows):
    """A run that was measured and not collected yet."""
    run = synthetic.write_run(tmp_path, configuration, rows)
    shutil.rmtree(run.raw_directory)
    return run


def put_logs(configuration, rows, *, without=frozenset()):
    logs = boto3.client("logs")
    for variant in configuration.variants:
        group = configuration.names.log_group(variant)
        logs.create_log_group(logGroupName=group)
        mine = [row for row in rows if row["variant"] == variant.key and row["request_id"] not in without]
        streams = {}
        for event in synthetic.log_events(mine):
            streams.setdefault(event["logStreamName"], []).append(
                {"timestamp": event["timestamp"], "message": event["message"]}
            )
        for stream, events in streams.items():
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def collect(run, *more):
    return main(["--run", str(run.root), "--no-report", "--deadline", "0", *more])


def data(run):
    return pl.read_parquet(run.data_directory / "invocations.parquet")


def test_what_was_logged_and_recorded_comes_back_as_rows_and_a_table(aws, run, configuration, rows, capsys):
    put_logs(configuration, rows)
    assert collect(run, "--strict") == 0
    wanted = synthetic.frame(rows).sort("call_id")
    columns = ["request_id", "variant", "experiment", "outcome", "start_type", "duration_ms", "client_latency_ms"]
    assert_frame_equal(data(run).sort("call_id").select(columns), wanted.select(columns), abs_tol=1e-6)
    out = capsys.readouterr().out
    for variant in configuration.variants:
        for experiment in ("cold", "warm", "load"):
            assert f"| {variant.memory_mb} | {experiment} |" in out
    summary = json.loads((run.root / "summary.json").read_text())
    assert all(c["share"] == 1 for c in summary["coverage"])


def test_collecting_twice_gives_the_same_bytes(aws, run, configuration, rows):
    put_logs(configuration, rows)
    collect(run)
    first = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    collect(run)
    again = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    assert first == again


@pytest.mark.parametrize(("complete_s", "asked"), [(float("-inf"), 1), (float("inf"), 2)])
def test_metrics_that_may_have_been_incomplete_are_fetched_again(
    aws, run, configuration, rows, monkeypatch, complete_s, asked
):
    monkeypatch.setattr(cloudwatch, "METRICS_COMPLETE_S", complete_s)
    put_logs(configuration, rows)
    fetched = []
    ask = CloudWatch.metrics
    monkeypatch.setattr(CloudWatch, "metrics", lambda *arguments: fetched.append(1) or ask(*arguments))
    collect(run)
    collect(run)
    assert len(fetched) == asked


def test_a_collection_broken_off_in_the_middle_goes_on_where_it_ended(aws, run, configuration, rows, monkeypatch):
    monkeypatch.setattr(cloudwatch, "PAGE_SIZE", 20)
    put_logs(configuration, rows)
    pages = 0
    ask = CloudWatch._page

    def broken_off(self, cursor):
        nonlocal pages
        pages += 1
        if pages == 6:
            raise KeyboardInterrupt
        return ask(self, cursor)

    with monkeypatch.context() as patched:
        patched.setattr(CloudWatch, "_page", broken_off)
        with pytest.raises(KeyboardInterrupt):
            collect(run)
    kept = [path.stat().st_mtime_ns for path in sorted(run.raw_directory.rglob("*.gz"))]
    assert len(kept) >= 5, "groups are read side by side: those of the others are kept too"
    assert not run.data_directory.exists()
    assert collect(run, "--strict") == 0
    after = [path.stat().st_mtime_ns for path in sorted(run.raw_directory.rglob("*.gz"))]
    assert set(kept) <= set(after), "pages that were there are not fetched again"
    assert data(run).height == len(rows)


def test_a_page_token_that_ran_out_begins_the_group_anew(aws, run, configuration, rows, monkeypatch):
    monkeypatch.setattr(cloudwatch, "PAGE_SIZE", 20)
    put_logs(configuration, rows)
    ask = CloudWatch._page
    refused = 0

    def forgetful(self, cursor):
        nonlocal refused
        if cursor.next_token is not None and not refused:
            refused += 1
            raise CloudError("FilterLogEvents: InvalidParameterException: The specified nextToken is invalid.")
        return ask(self, cursor)

    monkeypatch.setattr(CloudWatch, "_page", forgetful)
    assert collect(run, "--strict") == 0
    assert refused == 1
    assert data(run).height == len(rows)


def test_logs_that_arrive_late_are_counted_as_missing_and_found_by_the_next_collection(
    aws, run, configuration, rows, capsys
):
    late = [row for row in rows if row["outcome"] == "ok" and row["experiment"] == "warm"][:3]
    put_logs(configuration, rows, without={row["request_id"] for row in late})
    assert collect(run, "--strict") == 2
    assert "3 invocations that were sent are not in the logs" in capsys.readouterr().err
    found = data(run).filter(pl.col("request_id").is_in([row["request_id"] for row in late]))
    assert found["outcome"].to_list() == ["ok"] * 3, "an answer is an answer, logged or not"
    assert found["duration_ms"].null_count() == 3
    variant = next(v for v in configuration.variants if v.key == late[0]["variant"])
    logs = boto3.client("logs")
    group = configuration.names.log_group(variant)
    for row in late:
        events = [{"timestamp": round(at * 1000), "message": line} for at, line in synthetic.log_lines(row)]
        logs.put_log_events(logGroupName=group, logStreamName=row["log_stream"], logEvents=events)
    assert main(["--run", str(run.root), "--no-report", "--deadline", "600", "--strict"]) == 0


def test_logs_that_arrive_while_collect_waits_are_found_by_the_second_look(
    aws, run, configuration, rows, capsys, monkeypatch
):
    late = [row for row in rows if row["outcome"] == "ok" and row["experiment"] == "warm"][:3]
    put_logs(configuration, rows, without={row["request_id"] for row in late})
    group = next(configuration.names.log_group(v) for v in configuration.variants if v.key == late[0]["variant"])
    asked, waits, ask = [], [], CloudWatch._page

    def noting(self, cursor):
        asked.append(cursor.log_group)
        return ask(self, cursor)

    def arrive(seconds):
        waits.append((seconds, len(asked)))
        for row in late:
            events = [{"timestamp": round(at * 1000), "message": line} for at, line in synthetic.log_lines(row)]
            boto3.client("logs").put_log_events(logGroupName=group, logStreamName=row["log_stream"], logEvents=events)

    monkeypatch.setattr(CloudWatch, "_page", noting)
    # The wait itself is the event that they come with, so nothing has to be slept through.
    monkeypatch.setattr("analysis.collect.time.sleep", arrive)
    assert main(["--run", str(run.root), "--no-report", "--deadline", "60", "--strict"]) == 0
    ((seconds, looked),) = waits
    assert 0 < seconds <= 60
    assert set(asked[looked:]) == {group}, "only what lacked invocations is read again"
    found = data(run).filter(pl.col("request_id").is_in([row["request_id"] for row in late]))
    assert found["duration_ms"].null_count() == 0
    assert "are not in the logs\n" not in capsys.readouterr().err


def test_a_second_reading_broken_off_leaves_the_first_whole(aws, run, configuration, rows, monkeypatch):
    monkeypatch.setattr(cloudwatch, "PAGE_SIZE", 20)
    put_logs(configuration, rows)
    collect(run)
    before = data(run)

    def broken_off(self, cursor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CloudWatch, "_page", broken_off)
        with pytest.raises(KeyboardInterrupt):
            collect(run, "--refresh")
    for variant in configuration.variants:
        assert raw_group(run, configuration.names.function(variant)).cursor.done
    collect(run)
    assert_frame_equal(data(run), before)


def test_the_logs_alone_make_a_run(aws, tmp_path, configuration, rows, capsys):
    put_logs(configuration, rows)
    assert main(["--since", "6h", "--results", str(tmp_path), "--no-report", "--deadline", "0"]) == 0
    (root,) = tmp_path.iterdir()
    found = pl.read_parquet(root / "data" / "invocations.parquet")
    assert found.height == sum(row["request_id"] is not None for row in rows)
    codes = {warning["code"] for warning in json.loads((root / "summary.json").read_text())["warnings"]}
    assert "no_client_records" in codes


def test_an_empty_window_says_so_and_writes_nothing(aws, tmp_path, configuration, rows):
    put_logs(configuration, rows)
    with pytest.raises(RecordError, match="the logs hold nothing from"):
        main(["--since", "2m", "--results", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_nothing_deployed_says_so_and_writes_nothing(aws, tmp_path, configuration, run):
    with pytest.raises(DeploymentError, match="no log group"):
        main(["--since", "2h", "--results", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
    with pytest.raises(DeploymentError, match="no log group"):
        collect(run)
    assert not run.data_directory.exists()


def test_no_credentials_is_an_error_with_what_to_do(tmp_path, monkeypatch, run):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    boto3.setup_default_session()
    with pytest.raises(CloudError, match="no AWS credentials"):
        collect(run)
    assert not run.raw_directory.exists()


def test_a_run_is_not_collected_from_another_place(aws, run, configuration, rows, monkeypatch):
    put_logs(configuration, rows)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with pytest.raises(RecordError, match="region is 'eu-central-1'"):
        collect(run)


def test_a_damaged_page_is_named(aws, run, configuration, rows):
    put_logs(configuration, rows)
    collect(run)
    page = next(run.raw_directory.rglob("*.jsonl.gz"))
    page.write_bytes(gzip.compress(b'{"logStreamName": 3'))
    with pytest.raises(RecordError, match=page.name):
        main(["--run", str(run.root), "--no-report", "--deadline", "0"])


def test_a_client_record_cut_off_by_a_kill_is_passed_over_and_any_other_bad_line_is_named(
    aws, run, configuration, rows
):
    put_logs(configuration, rows)
    path = run.client_directory / "warm.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"schema_version": 1, "run_')
    assert collect(run, "--strict") == 0
    assert data(run).height == len(rows)
    path.write_bytes(b'{"schema_version": 7}\n' + whole)
    with pytest.raises(RecordError, match=r"warm.jsonl:1 "):
        collect(run)


def test_times_are_ages_or_dates(rows):
    now = 1_795_000_000.0
    assert parse_moment("2h", now) == now - 7200
    assert parse_moment("90m", now) == now - 5400
    assert parse_moment("2026-11-18T10:00", now) == parse_moment("2026-11-18T11:00+01:00", now)
    with pytest.raises(UserError, match="valid time"):
        parse_moment("yesterday", now)


def test_metric_periods_cover_the_window_and_grow_with_its_age():
    now = 1_795_000_000.0
    start, end, period = metric_window(now - 3601, now - 10, now)
    assert start <= now - 3601
    assert end >= now - 10
    assert period % 60 == 0
    assert period >= end - start
    assert metric_window(now - 20 * 86_400, now - 20 * 86_400 + 100, now)[2] % 300 == 0
    assert metric_window(now - 70 * 86_400, now - 70 * 86_400 + 100, now)[2] % 3600 == 0
    assert metric_window(now - 10 * 86_400, now, now)[2] == 86_400


def test_metric_queries_have_distinct_ids_and_fit_the_apis_form(configuration):
    queries = metric_queries(configuration)
    assert len({query.id for query in queries}) == len(queries)
    assert all(query.id[0].islower() for query in queries)
    assert {query.variant for query in queries} == {variant.key for variant in configuration.variants} | {""}


def test_every_client_record_of_the_synthetic_run_is_one_of_the_schema(run):
    assert isinstance(run, RunDirectory)
    assert all(isinstance(record, ClientRecord) for record in run.client_records())
