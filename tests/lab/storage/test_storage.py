"""The journal and the process that moves it into the tables: nothing lost, nothing twice, whoever is killed."""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.paths import REPOSITORY
from lab.contracts import LogEvent
from lab.services.logs.log_store import LogStore
from lab.storage.database import JournaledDatabase, StorageError
from lab.storage.journal import JournalReader, JournalWriter, Position, segment_path, segments
from tests.lab.robustness.support import wait_until
from tests.lab.storage.refusing_writer import Refusing

CONTENTS = st.one_of(st.text(max_size=50), st.binary(max_size=50), st.lists(st.integers(), max_size=5))


def read_all(journal: Path) -> list:
    reader = JournalReader(str(journal), Position(1, 0))
    found = []
    while records := reader.read():
        found.extend(content for _, content in records)
    reader.close()
    return found


@settings(max_examples=60)
@given(contents=st.lists(CONTENTS, min_size=1, max_size=20), data=st.data())
def test_a_journal_cut_anywhere_gives_the_records_that_are_whole(
    tmp_path_factory: pytest.TempPathFactory, contents: list, data: st.DataObject
) -> None:
    journal = tmp_path_factory.mktemp("journal") / "j"
    writer = JournalWriter(str(journal), 1)
    ends = []
    for content in contents:
        writer.append((None, content))
        ends.append(Path(segment_path(str(journal), 1)).stat().st_size)
    writer.close()
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(segment_path(str(journal), 1), cut)
    whole = sum(end <= cut for end in ends)
    assert read_all(journal) == contents[:whole]
    # A writer that comes after the one that was killed begins a segment of its own; half a record is passed over.
    later = JournalWriter(str(journal), 2)
    later.append((None, "later"))
    later.close()
    assert read_all(journal) == [*contents[:whole], "later"]


def test_a_journal_goes_on_in_new_segments_which_are_deleted_when_they_are_read(tmp_path: Path) -> None:
    journal = str(tmp_path / "j")
    writer, reader = JournalWriter(journal, 1), JournalReader(journal, Position(1, 0))
    sent, found = 0, []
    for size in (1_000_000, 20_000_000, 10, 5_000_000, 5_000_000, 1):
        for _ in range(3):
            writer.append((None, bytes(size)))
            sent += 1
        while records := reader.read():
            found.extend(len(content) for _, content in records)
    assert len(found) == sent
    assert len(segments(journal)) > 5
    newest = segments(journal)[-1]
    reader.forget_read()
    assert segments(journal) == [newest]
    writer.close()
    reader.close()


def test_what_a_full_disk_does_not_take_is_kept_in_order_and_written_later(tmp_path: Path) -> None:
    journal = str(tmp_path / "j")
    program = f"""
import resource, signal
from lab.storage.journal import JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on the file's size fails as a full disk does
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
writer = JournalWriter({journal!r}, 1)
refused = 0
for number in range(500):
    try:
        writer.append((None, number))
    except OSError:
        refused += 1
assert refused > 300, refused
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
writer.append((None, 500))
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
    assert read_all(Path(journal)) == list(range(501))


def test_a_put_is_safe_from_a_kill_at_once(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; import sys\n"
        "from lab.contracts import LogEvent; from lab.services.logs.log_store import LogStore\n"
        f"store = LogStore(Path({str(tmp_path)!r}), retention_invocations=100_000)\n"
        "for number in range(10**9):\n"
        "    store.put('g', 's', [LogEvent(number, str(number))])\n"
        "    sys.stdout.write(f'{number}\\n'); sys.stdout.flush()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as lab:
        assert lab.stdout is not None
        for _ in range(2000):
            lab.stdout.readline()
        lab.send_signal(signal.SIGKILL)
        rest = [line for line in lab.stdout.read().split("\n")[:-1] if line]
    store = LogStore(tmp_path, retention_invocations=100_000)
    try:
        found = [int(message) for message in messages_of(store)]
        assert found == list(range(len(found)))
        assert len(found) >= 2000 + len(rest)
    finally:
        store.close()


def messages_of(store: LogStore) -> list[str]:
    events, more = store.filter_events("g", streams=["s"])
    assert more is None
    return [event.message for event in events]


def writers_of(path: Path) -> list[int]:
    """Processes that write a file below `path`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            links = list((entry / "fd").iterdir())
        except OSError:
            continue
        files = []
        for link in links:
            with contextlib.suppress(OSError):  # closed since it was listed
                files.append(str(link.readlink()))
        if b"lab.storage.writing" in command and any(file.startswith(str(path)) for file in files):
            found.append(int(entry.name))
    return found


def test_a_writer_that_is_killed_is_replaced_and_nothing_is_lost_or_there_twice(tmp_path: Path) -> None:
    store = LogStore(tmp_path, retention_invocations=100_000)
    try:
        for number in range(3000):
            store.put("g", "s", [LogEvent(number, str(number))])
            if number % 500 == 250:
                store.flush()
            if number % 500 == 499:
                (writer,) = writers_of(tmp_path)
                os.kill(writer, signal.SIGKILL)
        assert store.create_stream("g", "another")
        found = [int(message) for message in messages_of(store)]
        assert found == list(range(3000))
    finally:
        store.close()
    assert writers_of(tmp_path) == []


def test_the_writer_ends_when_its_lab_is_killed(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; import time\nfrom lab.services.logs.log_store import LogStore\n"
        f"store = LogStore(Path({str(tmp_path)!r}), retention_invocations=1000)\n"
        "store.flush(); print('ready', flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as lab:
        assert lab.stdout is not None
        lab.stdout.readline()
        assert len(writers_of(tmp_path)) == 1
        lab.send_signal(signal.SIGKILL)
    wait_until(lambda: writers_of(tmp_path) == [], "the writer's end")


def test_two_writers_of_one_journal_write_every_item_once(tmp_path: Path) -> None:
    """A lab that was killed leaves its writer at the last of its work while the next lab starts."""
    path = tmp_path / "things.sqlite"

    def opened() -> JournaledDatabase[str]:
        return JournaledDatabase(
            path,
            schema="CREATE TABLE IF NOT EXISTS things (thing TEXT NOT NULL) STRICT;",
            version=1,
            writer=Refusing,
        )

    first, second = opened(), opened()
    try:
        for number in range(2000):
            first.put(f"first {number}")
            second.put(f"second {number}")
            if number % 100 == 0:
                first.flush()
                second.flush()
        second.flush()
        # One after the other: the first writer goes on to the segments that the second lab began.
        first.flush()
        found = [row[0] for row in second.reader().execute("SELECT thing FROM things")]
        assert len(found) == len(set(found))
        assert [thing for thing in found if thing.startswith("second")] == [f"second {n}" for n in range(2000)]
    finally:
        first.close()
        second.close()


def test_a_command_that_fails_says_why_and_what_was_put_beside_it_is_kept(tmp_path: Path) -> None:
    database: JournaledDatabase[str] = JournaledDatabase(
        tmp_path / "things.sqlite",
        schema="CREATE TABLE IF NOT EXISTS things (thing TEXT NOT NULL) STRICT;",
        version=1,
        writer=Refusing,
    )
    try:
        database.put("a")
        with pytest.raises(StorageError, match="NOT NULL"):
            database.run("fail")
        database.put("b")
        assert database.run("count") == 2
        assert [row[0] for row in database.reader().execute("SELECT thing FROM things")] == ["a", "b"]
    finally:
        database.close()


def things(path: Path) -> JournaledDatabase[str]:
    return JournaledDatabase(
        path / "things.sqlite",
        schema="CREATE TABLE IF NOT EXISTS things (thing TEXT NOT NULL) STRICT;",
        version=1,
        writer=Refusing,
    )


def stored(database: JournaledDatabase[str]) -> list[str]:
    return [row[0] for row in database.reader().execute("SELECT thing FROM things ORDER BY rowid")]


def test_what_cannot_be_stored_keeps_out_nothing_that_comes_before_or_after_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database = things(tmp_path)
    try:
        for thing in ("a", "no UTF-8: \ud800", "b"):
            database.put(thing)
        assert stored(database) == ["a", "b"]
    finally:
        database.close()
    again = things(tmp_path)
    try:
        again.put("c")
        assert stored(again) == ["a", "b", "c"]
    finally:
        again.close()
    said = capfd.readouterr().err
    assert "1 not stored: 'utf-8' codec can't encode" in said
    assert "Traceback" not in said


def test_a_name_that_cannot_be_stored_is_refused_and_the_logs_live_on(tmp_path: Path) -> None:
    store = LogStore(tmp_path, retention_invocations=1000)
    try:
        with pytest.raises(StorageError, match="utf-8"):
            store.create_stream("g", "\ud800")
        store.put("g", "s", [LogEvent(1, "after it")])
        assert messages_of(store) == ["after it"]
    finally:
        store.close()


def test_damage_in_the_journal_costs_the_records_that_it_hit_alone(tmp_path: Path) -> None:
    journal = tmp_path / "things.sqlite-journal-of-lab"
    writer = JournalWriter(str(journal), 1)
    ends = [0]
    for thing in ("a", "b", "c"):
        writer.append((None, thing))
        ends.append(Path(segment_path(str(journal), 1)).stat().st_size)
    writer.append((None, "d"))
    writer.close()
    with Path(segment_path(str(journal), 1)).open("r+b") as file:
        file.seek(ends[1] + 4)
        file.write(bytes(ends[2] - ends[1] - 4))
        file.seek(0, os.SEEK_END)
        file.write(bytes(1000))  # as a file system may leave the end of a file after a power cut
    database = things(tmp_path)
    try:
        database.put("e")
        assert stored(database) == ["a", "c", "d", "e"]
    finally:
        database.close()


def test_a_long_record_written_just_before_the_next_segment_is_not_taken_for_half_a_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = str(tmp_path / "j")
    writer, reader = JournalWriter(journal, 1), JournalReader(journal, Position(1, 0))
    assert reader.read() == []
    sizes = [3_000_000] * 4

    def segments_after_more_was_written(name: str) -> list[int]:
        while sizes:
            writer.append((None, bytes(sizes.pop())))
        return segments(name)

    monkeypatch.setattr("lab.storage.journal.segments", segments_after_more_was_written)
    found = []
    while records := reader.read():
        found.extend(len(content) for _, content in records)
    assert found == [3_000_000] * 4
    assert segments(journal) == [1, 2]
    writer.close()
    reader.close()


def test_a_writer_that_hangs_is_killed_at_the_end_and_what_it_left_is_in_the_tables_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LogStore(tmp_path, retention_invocations=1000)
    store.put("g", "s", [LogEvent(1, "before")])
    assert len(messages_of(store)) == 1
    (writer,) = writers_of(tmp_path)
    os.kill(writer, signal.SIGSTOP)
    store.put("g", "s", [LogEvent(2, "after")])
    with monkeypatch.context() as patch:  # while one hangs, not while one starts
        patch.setattr("lab.storage.database._WAIT_S", 0.5)
        with pytest.raises(StorageError, match="nothing was committed"):
            store.flush()
        store.close()
    assert writers_of(tmp_path) == []
    store = LogStore(tmp_path, retention_invocations=1000)
    try:
        assert messages_of(store) == ["before", "after"]
    finally:
        store.close()


def test_a_writer_is_replaced_in_a_lab_with_more_than_a_thousand_open_files(tmp_path: Path) -> None:
    program = (
        "import os, resource, signal, sys; from pathlib import Path\n"
        "from lab.contracts import LogEvent; from lab.services.logs.log_store import LogStore\n"
        "from tests.lab.storage.test_storage import messages_of, writers_of\n"
        f"path = Path({str(tmp_path)!r})\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "store = LogStore(path, retention_invocations=1000)\n"
        "store.put('g', 's', [LogEvent(1, 'one')]); store.flush()\n"
        "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1500)]\n"
        "(writer,) = writers_of(path); os.kill(writer, signal.SIGKILL)\n"
        "store.put('g', 's', [LogEvent(2, 'two')])\n"
        "print(messages_of(store)); store.close()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.stdout == "['one', 'two']\n", ended.stderr


def test_what_is_appended_after_the_close_goes_into_no_other_file(tmp_path: Path) -> None:
    writer = JournalWriter(str(tmp_path / "j"), 1)
    writer.append((None, "before"))
    writer.close()
    with (tmp_path / "another").open("wb"):  # gets the number of the descriptor that was closed
        with pytest.raises(OSError, match="Bad file descriptor"):
            writer.append((None, "after"))
        assert (tmp_path / "another").read_bytes() == b""
    assert read_all(tmp_path / "j") == ["before"]


def test_what_marshal_cannot_carry_is_an_error_of_the_caller(tmp_path: Path) -> None:
    writer = JournalWriter(str(tmp_path / "j"), 1)
    with pytest.raises(ValueError, match="unmarshallable"):
        writer.append((None, object()))
    writer.append((None, "next"))
    writer.close()
    assert read_all(tmp_path / "j") == ["next"]
    assert marshal.loads(marshal.dumps("\ud800")) == "\ud800"  # a lone surrogate in a function's output
