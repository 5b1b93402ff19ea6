"""What the load test writes about its stages is what the experiments and the analysis read."""

from __future__ import annotations

import json
from dataclasses import asdict

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import RecordError
from core.run.records import ClientRecord
from core.run.run_directory import RecordWriter, RunDirectory
from core.run.stages import (
    STAGES_FILE,
    LoadStage,
    append_stage,
    complete_stages,
    read_stages,
    search_steps,
    stage_key,
    stage_of,
)
from core.run.swapping import CELL_PATTERN, cell_name
from core.statistics.rate_search import Step


def stage(variant: str = "mobilenet-tensorflow-x86_64-1769", **changes: object) -> LoadStage:
    values: dict[str, object] = {
        "stage": 1,
        "variant": variant,
        "name": "MobileNet, 1769 MB",
        "protocol": "linear",
        "spacing": "even",
        "started_at": 1795000000.123,
        "duration_s": 10.0,
        "offered": 50,
        "workers": 1,
        "late_after_ms": 10.0,
    }
    return LoadStage(**{**values, **changes})  # type: ignore[arg-type]  # values are those of a stage


def test_a_run_without_a_load_has_no_record_of_stages(tmp_path):
    assert read_stages(RunDirectory(tmp_path)) is None
    assert complete_stages(RunDirectory(tmp_path)) is None


def test_stages_are_read_as_they_were_written(tmp_path):
    run = RunDirectory(tmp_path)
    written = [stage(), stage("resnet50-tensorflow-x86_64-512", stopped_because="interrupted", lost_workers=[2])]
    for one in written:
        append_stage(run, one)
    assert read_stages(run) == written
    assert complete_stages(run) == {written[0].key}


@pytest.mark.parametrize("line", ['{"stage": 2, "varia', json.dumps(asdict(stage(started_at=float("nan"))))])
def test_a_line_that_is_not_json_is_skipped(tmp_path, line):
    run = RunDirectory(tmp_path)
    append_stage(run, stage())
    path = tmp_path / STAGES_FILE
    path.write_text(path.read_text() + line)
    assert read_stages(run) == [stage()]


@pytest.mark.parametrize("line", ["[1]", "{}", '{"stage": 1}', "3"])
def test_a_line_that_describes_no_stage_is_an_error_with_its_place(tmp_path, line):
    (tmp_path / STAGES_FILE).write_text(line + "\n")
    with pytest.raises(RecordError, match=r"load-stages\.jsonl:1"):
        read_stages(RunDirectory(tmp_path))


@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1),
    st.integers(0, 10**14),
    st.integers(0, 10**9),
)
def test_the_stage_of_a_call_is_found_in_its_id(variant, started_ms, number):
    key = stage_key(variant, started_ms / 1000)
    assert stage_of(f"{key}-{number}") == key


def parsed_as_the_analysis_does(text: str) -> tuple[str | None, ...]:
    return tuple(pl.Series([text]).str.extract_groups(CELL_PATTERN).item().values())


@given(st.integers(128, 10240), st.floats(0.001, 16).map(lambda share: round(share, 3)))
def test_the_name_of_a_swapping_cell_is_parsed_back(memory_mb, vcpu):
    assert parsed_as_the_analysis_does(cell_name(memory_mb, vcpu)) == (str(memory_mb), str(vcpu))


@pytest.mark.parametrize("text", ["", "burst-10/3", "memory_mb= vcpu=1", "memory_mb=512 vcpu=1.2.3"])
def test_any_other_group_is_no_swapping_cell(text):
    assert parsed_as_the_analysis_does(text) == (None, None)


def write_call(writer, of, number, at_s, *, outcome="ok", latency_ms=100.0, lag_ms=0.0, connect_ms=None):
    """Write one call of a stage that was due `at_s` after its start; `latency_ms` counts from then."""
    intended_at = of.started_at + at_s
    record = ClientRecord(
        run_id="r",
        call_id=f"{of.key}-{number}",
        experiment="load",
        protocol="search",
        trigger="api",
        variant=of.variant,
        model="mobilenet",
        engine="tensorflow",
        architecture="x86_64",
        memory_mb=1769,
        intended_at=intended_at,
        sent_at=None if outcome == "dropped" else intended_at + lag_ms / 1000,
        connect_ms=connect_ms,
        client_latency_ms=None if outcome == "dropped" else latency_ms - lag_ms,
        latency_from_intended_ms=None if outcome == "dropped" else latency_ms,
        outcome=outcome,
    )
    writer.append(record)


def test_a_step_of_a_search_counts_who_missed_the_limit_after_its_lead_in(tmp_path):
    run = RunDirectory(tmp_path)
    whole = stage(protocol="search", rate_rps=20.0, lead_in_s=2.0)
    given_up = stage(
        protocol="search", rate_rps=10.0, lead_in_s=2.0, started_at=1795000100.0, stopped_because="20 fail"
    )
    broken = stage(protocol="search", rate_rps=5.0, started_at=1795000200.0, stopped_because="interrupted")
    with RecordWriter(run.client_directory / "load-0.jsonl") as writer:
        write_call(writer, whole, 0, 1.0, latency_ms=5000.0)  # in the lead-in
        write_call(writer, whole, 1, 2.5)
        write_call(writer, whole, 2, 3.0, latency_ms=1001.0)
        write_call(writer, whole, 3, 3.5, latency_ms=1001.0, connect_ms=10.0)  # the set-up is the client's own
        write_call(writer, whole, 4, 4.0, latency_ms=1050.0, lag_ms=60.0)  # late by the sender
        write_call(writer, whole, 5, 4.5, outcome="throttled", latency_ms=5.0)
        write_call(writer, whole, 6, 5.0, outcome="dropped")
        write_call(writer, given_up, 0, 0.5, outcome="error", latency_ms=5.0)
        write_call(writer, broken, 0, 0.5)
    for one in (whole, given_up, broken, stage("other", protocol="search", rate_rps=1.0)):
        append_stage(run, one)
    steps = search_steps(run, whole.variant, limit_ms=1000.0)
    assert steps == [Step(20.0, missed=4, calls=6, late=1), Step(10.0, missed=1, calls=1)]
