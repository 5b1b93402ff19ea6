"""A load that was broken off and begun again counts once, and what its first attempt sent is told apart."""

import uuid

import polars as pl
import pytest

from analysis.ingest.restarted_loads import label_broken_off
from analysis.ingest.run_files import read_rows
from analysis.pipeline import build
from core.configuration import read_configuration
from core.run.stages import INTERRUPTED, RESTARTED, append_stage
from tests.analysis import synthetic
from tests.core.run.test_stages import stage

EARLIER_S = 100.0


def moved_back(row, call_id):
    """The same call in an earlier attempt."""
    moments = {name: row[name] and row[name] - EARLIER_S for name in ("intended_at", "sent_at", "logged_at")}
    ids = {name: row[name] and str(uuid.uuid5(uuid.NAMESPACE_OID, call_id)) for name in ("request_id",)}
    answered = {"answered_at": row["answered_at"] and row["answered_at"] - EARLIER_S}
    return {**row, **moments, **ids, **answered, "call_id": call_id}


@pytest.mark.parametrize("ended", ["killed", "interrupted"])
def test_the_figures_of_a_load_are_those_of_the_attempt_that_came_to_its_end(tmp_path, ended):
    configuration = read_configuration(profile="demo")
    rows = synthetic.make_rows(configuration)
    loaded = [row for row in rows if row["experiment"] == "load"]
    stages = {}
    for number, row in enumerate(loaded):
        started_at = stages.setdefault(row["variant"], float(int(row["intended_at"])))
        row["call_id"] = f"load-{row['variant']}-{started_at * 1000:.0f}-{number}"
    chosen = loaded[0]["variant"]
    begun_at = stages[chosen] - EARLIER_S
    first_half = [row for row in loaded if row["variant"] == chosen][:20]
    broken_off = [
        moved_back(row, f"load-{chosen}-{begun_at * 1000:.0f}-{number}") for number, row in enumerate(first_half)
    ]
    # Under way when it was broken off: neither an answer nor a fault of the function.
    broken_off[-1] |= {"outcome": "connection", "request_id": None, "answered_at": None, "error": "interrupted"}

    summaries = []
    for name, of_run in (("whole", rows), ("resumed", [*rows, *broken_off])):
        run = synthetic.write_run(tmp_path / name, configuration, of_run)
        if name == "resumed" and ended == "interrupted":
            append_stage(run, stage(chosen, started_at=begun_at, stopped_because=INTERRUPTED))
        for variant, started_at in stages.items():
            append_stage(run, stage(variant, started_at=started_at))
        summaries.append(build(run, with_report=False))
    whole, resumed = summaries
    for part in ("load_totals", "load_seconds", "cells", "claims"):
        assert getattr(resumed, part) == getattr(whole, part), part
    # Left out, and said.
    assert resumed.excluded == whole.excluded | {"broken_off": len(broken_off)}
    assert [(w.count, w.severity) for w in resumed.warnings if w.code == "broken_off_load"] == [(20, "info")]
    labelled = read_rows(run).filter(pl.col("protocol") == RESTARTED)
    assert set(labelled["call_id"]) == {row["call_id"] for row in broken_off}


def clients(*call_ids):
    numbered = [(call_id, "load", "linear", False, float(place)) for place, call_id in enumerate(call_ids)]
    frame = pl.DataFrame(numbered, schema=["call_id", "experiment", "protocol", "warmup", "intended_at"], orient="row")
    return frame.with_columns(pl.col("protocol").cast(pl.Categorical))


@pytest.mark.parametrize(
    ("whole", "protocols"),
    [
        ({"load-v-2000"}, ["broken_off", "broken_off", "linear"]),
        # The first one counts, if by hand another was begun after it and broken off.
        ({"load-v-1000"}, ["linear", "linear", "broken_off"]),
        # Never brought to its end: the latest attempt is all there is.
        (set(), ["broken_off", "broken_off", "linear"]),
        ({"load-v-1000", "load-v-2000"}, ["linear", "linear", "linear"]),
    ],
)
def test_of_several_attempts_those_count_that_came_to_their_end_or_the_latest(whole, protocols):
    found = label_broken_off(clients("load-v-1000-0", "load-v-1000-1", "load-v-2000-0"), whole)
    assert found["protocol"].to_list() == protocols


def test_a_load_that_was_not_resumed_counts_as_far_as_it_came():
    found = label_broken_off(clients("load-v-1000-0", "load-v-1000-1"), set())
    assert found["protocol"].to_list() == ["linear", "linear"]
