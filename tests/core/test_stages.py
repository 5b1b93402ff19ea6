"""What the load test writes about its stages is what the experiments and the analysis read."""

from __future__ import annotations

import json
from dataclasses import asdict

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import RecordError
from core.run_directory import RunDirectory
from core.stages import STAGES_FILE, LoadStage, append_stage, complete_stages, read_stages, stage_key, stage_of
from core.swapping import CELL_PATTERN, cell_name


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
