"""Rows made from files tell what the generator of those files knew."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis.joining import _match_fires, join_variant
from analysis.platform_logs import LogParser
from analysis.run_files import raw_group, read_clients
from benchmark.configuration import read_configuration
from benchmark.store import RunDirectory
from tests.analysis import synthetic


def joined(run: RunDirectory, configuration, *, with_clients: bool = True) -> pl.DataFrame:
    clients = read_clients(run)
    endpoint = run.read_manifest().endpoint
    parts = []
    for variant in configuration.variants:
        parser = LogParser()
        for page in raw_group(run, configuration.names.function(variant)).pages():
            parser.feed(page["logStreamName"], page["timestamp"], page["message"])
        mine = clients.filter(pl.col("variant") == variant.key) if with_clients else clients.clear()
        parts.append(join_variant(variant, parser.frame(), mine, endpoint, run.run_id, logs_alone=not with_clients))
    return pl.concat(parts)


@pytest.mark.parametrize("log_format", ["JSON", "Text"])
def test_a_run_read_back_from_its_files_is_the_run_that_was_written(tmp_path, log_format):
    configuration = read_configuration(profile="demo")
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
