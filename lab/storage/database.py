"""SQLite with one writer: items go into a journal, which a separate process moves into the tables."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from core.errors import UserError
from core.paths import REPOSITORY
from lab.storage import writing
from lab.storage.journal import JournalWriter, segments

Item = TypeVar("Item")

_WAIT_S: Final = 120.0  # far more than a busy machine takes: a full disk is told at once
_END_S: Final = 30.0
_ELSEWHERE: Final = "Move the file away, or name another --state."
# Without site and environment: the writer needs nothing but the standard library and our own modules.
_PROGRAM: Final = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from lab.storage.writing import main; main()"


class StorageError(UserError):
    """The lab's state directory cannot be written or read."""


class JournaledDatabase(Generic[Item]):
    """One SQLite file. `put` takes a system call and is safe from a kill; readers see all that was put before."""

    def __init__(
        self, path: Path, *, schema: str, version: int, writer: type[writing.Writer], settings: Sequence[Any] = ()
    ) -> None:
        """Open or make the file and start its writer; a change of `schema` raises `version`. Raises StorageError.

        `writer` is created in a separate process, from a connection and `settings`. Items, settings, and arguments of
        commands are what `marshal` takes: numbers, text, bytes, and tuples, lists and dictionaries of them.
        """
        self._path = path
        self._journal_path = f"{path}-journal-of-lab"
        self._description = (str(path), self._journal_path, f"{writer.__module__}:{writer.__qualname__}", settings)
        self._complained = False
        self._closed = False
        self._commands = itertools.count(1)
        self._questions = itertools.count(1)
        self._asking = threading.Lock()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        try:
            _check_version(path, version)
            with contextlib.closing(writing.connect(str(path))) as connection:
                connection.executescript(schema + writing.POSITION_TABLE)
                connection.execute(f"PRAGMA user_version = {version:d}")
                read_to = writing.read_position(connection)
            last = max([read_to.segment, *segments(self._journal_path)])
            self._journal = JournalWriter(self._journal_path, last + 1)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{path} cannot be opened: {error}", hint=_ELSEWHERE) from None
        self._process, self._channel = self._start_writer()

    def put(self, item: Item) -> None:
        """Hand over an item; it is in the tables within a moment."""
        self._append(None, item)

    def run(self, command: str, *arguments: Any) -> Any:
        """Run a method of the writer after everything put so far, and wait for its commit. Raises StorageError."""
        number = next(self._commands)
        self._append(command, (number, arguments))
        return self._ask(number)

    def flush(self) -> None:
        """Wait until everything put so far is committed. Raises StorageError."""
        self._ask(None)

    def reader(self) -> sqlite3.Connection:
        """A connection of the calling thread, after everything put so far is committed. Raises StorageError."""
        self.flush()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = writing.connect(str(self._path))
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            with self._readers_lock:
                self._readers.append(connection)
        return connection

    def close(self) -> None:
        """Commit what is left and end the writer. What cannot be committed stays in the journal, for the next lab."""
        if self._closed:
            return
        self._closed = True
        patience_s = _END_S
        try:
            self.flush()
        except StorageError:
            patience_s = 0.0  # it was waited for; what it has not committed is in the journal
        self._end_writer(patience_s)
        self._journal.close()
        with self._readers_lock:
            for connection in self._readers:
                connection.close()

    def _append(self, command: str | None, content: Any) -> None:
        try:
            self._journal.append((command, content))
        except OSError as error:
            self._complain(error)
        else:
            self._complained = False

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            print(f"lab: {self._path}: {error}; writes are kept in memory and tried again", file=sys.stderr)
            self._complained = True

    def _ask(self, number: int | None) -> Any:
        """Have the journal committed; what the command of this number returned."""
        with self._asking:
            try:
                self._journal.write_backlog()
            except OSError as error:
                self._complain(error)
            try:
                done, answer = self._exchange(number)
            except TimeoutError:
                done, answer = False, f"nothing was committed within {_WAIT_S:g} s"
            except (EOFError, OSError):
                # The writing process has ended. The next one continues after its last commit.
                try:
                    self._end_writer()
                    self._process, self._channel = self._start_writer()
                    done, answer = self._exchange(number)
                except (EOFError, OSError):
                    done, answer = False, "the writing process ended, twice"
        if not done:
            raise StorageError(f"{self._path}: {answer}", hint="Is the disk full or gone?")
        return answer

    def _exchange(self, number: int | None) -> tuple[bool, Any]:
        """Ask and wait for the answer. Raises TimeoutError, and EOFError or OSError where the writer has gone."""
        question = next(self._questions)
        deadline = time.monotonic() + _WAIT_S
        writing.send(self._channel, (question, number))
        answers = select.poll()  # select() takes no descriptor over 1023, and a busy lab has thousands
        answers.register(self._channel, select.POLLIN)
        while answers.poll(1000 * max(0.0, deadline - time.monotonic())):
            answered, done, answer = writing.receive(self._channel)
            if answered == question:  # not to an earlier one, whose answer came too late
                return bool(done), answer
        raise TimeoutError

    def _start_writer(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        with contextlib.suppress(OSError):  # it has ended already, which the next question finds out
            writing.send(ours, self._description)
        return process, ours

    def _end_writer(self, patience_s: float = _END_S) -> None:
        self._channel.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _check_version(path: Path, version: int) -> None:
    # With a separate connection: the pragmas of the others would already write.
    with contextlib.closing(sqlite3.connect(path, timeout=_WAIT_S)) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found not in {0, version}:
        raise StorageError(f"{path} is of version {found}; this lab reads version {version}", hint=_ELSEWHERE)
