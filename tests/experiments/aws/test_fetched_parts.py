"""Record files put together from the parts that tasks ship."""

import random

from hypothesis import given
from hypothesis import strategies as st

from core.aws.load_tasks import Part
from core.run.run_directory import RunDirectory, create_run
from core.run.stages import STAGES_FILE, LoadStage, append_stage, read_stages
from experiments.aws.fetched_parts import path_of, put, take_over_stages


def parts_of(contents, run_id="20260101T000000Z-abcd", file="client/load-0.jsonl"):
    offset = 0
    for content in contents:
        yield Part(run_id, "1", "worker-000", file, offset), content
        offset += len(content)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6), st.data())
def test_whatever_a_kill_left_fetching_again_completes_the_file(tmp_path_factory, contents, data):
    run = create_run(tmp_path_factory.mktemp("runs"))
    parts = list(parts_of(contents))
    path, whole = path_of(run, parts[0][0]), b"".join(contents)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(2):
        assert all(put(run, part, content) for part, content in parts)
        assert path.read_bytes() == whole


def test_a_part_waits_for_the_one_before_it(tmp_path):
    run = create_run(tmp_path)
    (first, one), (second, two) = parts_of([b"1\n", b"2\n"])
    assert not put(run, second, two)
    assert put(run, first, one)
    assert put(run, second, two)
    assert path_of(run, first).read_bytes() == b"1\n2\n"


def test_files_of_two_attempts_and_two_tasks_stay_apart(tmp_path):
    run = RunDirectory(tmp_path)
    names = {
        path_of(run, Part("run", attempt, task, "client/load-0.jsonl", 0)).name
        for attempt in ("1", "2")
        for task in ("worker-000", "worker-001")
    }
    assert len(names) == 4
    assert all(name.startswith("load") and name.endswith(".jsonl") for name in names)


def test_stages_of_masters_are_taken_over_once(tmp_path):
    run = create_run(tmp_path)
    own, other = (
        LoadStage(1, variant, variant, "linear", "even", random.Random(variant).random(), 1.0, 10, 1, 10.0)
        for variant in ("a", "b")
    )
    append_stage(run, own)
    master = create_run(tmp_path / "master")
    append_stage(master, other)
    content = (master.root / STAGES_FILE).read_bytes()
    put(run, Part(run.run_id, "1", "master", STAGES_FILE, 0), content)
    for _ in range(2):
        take_over_stages(run)
        assert read_stages(run) == [own, other]
