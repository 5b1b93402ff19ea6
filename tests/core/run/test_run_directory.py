"""A run's files survive what may happen to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import RecordError
from core.paths import REPOSITORY
from core.run.records import ClientRecord
from core.run.run_directory import (
    RUN_ID,
    RecordWriter,
    append_line,
    create_run,
    find_run,
    new_run_id,
    read_client_records,
    write_atomically,
)


def record(number):
    return ClientRecord(
        run_id="r",
        call_id=f"c-{number}",
        experiment="warm",
        protocol="sequential",
        trigger="api",
        variant="mobilenet-tensorflow-x86_64-1024",
        model="mobilenet",
        engine="tensorflow",
        architecture="x86_64",
        memory_mb=1024,
        intended_at=1.0,
        outcome="ok",
    )


def test_what_was_appended_is_read_back_in_order(tmp_path):
    path = tmp_path / "client" / "warm.jsonl"
    with RecordWriter(path) as writer:
        for number in range(100):
            writer.append(record(number))
    assert [one.call_id for one in read_client_records(path)] == [f"c-{number}" for number in range(100)]


def test_records_of_several_threads_never_mix_within_a_line(tmp_path):
    path = tmp_path / "warm.jsonl"
    with RecordWriter(path) as writer:
        threads = [
            threading.Thread(target=lambda base=base: [writer.append(record(base + n)) for n in range(200)])
            for base in (0, 1000, 2000, 3000)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({one.call_id for one in read_client_records(path)}) == 800


@given(cut=st.integers(0, 2000))
def test_a_file_torn_at_any_byte_gives_its_whole_records_and_goes_on_after_them(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "warm.jsonl"
    with RecordWriter(path, sync_every_s=60) as writer:
        for number in range(3):
            writer.append(record(number))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    survivors = [one.call_id for one in read_client_records(path)]
    assert survivors == [f"c-{number}" for number in range(whole[:cut].count(b"\n"))]
    with RecordWriter(path, sync_every_s=60) as writer:
        writer.append(record(9))
    assert [one.call_id for one in read_client_records(path)] == [*survivors, "c-9"]


def test_a_damaged_line_in_the_middle_is_refused_with_its_place(tmp_path):
    path = tmp_path / "warm.jsonl"
    path.write_text(record(0).model_dump_json() + "\nnot a record\n" + record(1).model_dump_json() + "\n")
    with pytest.raises(RecordError, match=r"warm\.jsonl:2 is not a client record"):
        list(read_client_records(path))


def test_a_killed_process_loses_nothing_that_it_had_appended(tmp_path):
    path = tmp_path / "warm.jsonl"
    program = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from tests.core.run.test_run_directory import record
from core.run.run_directory import RecordWriter
writer = RecordWriter(Path({str(path)!r}), sync_every_s=60)
number = 0
while True:
    writer.append(record(number))
    number += 1
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 50:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert len(list(read_client_records(path))) >= 50


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "manifest.json"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 7)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def test_run_ids_sort_by_time_and_the_newest_with_a_manifest_is_the_latest(tmp_path):
    ids = [new_run_id(1_790_000_000 + second) for second in range(3)]
    assert ids == sorted(ids)
    assert all(RUN_ID.match(one) for one in ids)
    for one in ids[:2]:
        write_atomically(create_run(tmp_path, run_id=one).manifest_path, "{}")
    create_run(tmp_path, run_id=ids[2])  # killed before its manifest was written
    assert find_run("latest", tmp_path).run_id == ids[1]
    assert find_run(ids[0], tmp_path).run_id == ids[0]


def test_a_run_that_is_not_there_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(RecordError, match="no run in") as error:
        find_run("latest", tmp_path)
    assert "make demo" in str(error.value)
    with pytest.raises(RecordError, match="'nonsense' is not in"):
        find_run("nonsense", tmp_path)


def test_a_line_is_appended_after_a_torn_one_and_neither_takes_the_other_along(tmp_path):
    path = tmp_path / "stops.jsonl"
    append_line(path, "first")
    with path.open("a") as file:
        file.write('{"torn by a ki')
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"
