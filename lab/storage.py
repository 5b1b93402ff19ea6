"""SQLite with one writer: a thread that takes what was put, in order, and commits it in batches."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from benchmark.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_INTERVAL_S: Final = 0.05  # what a kill of the lab can lose at most, together with the time of one commit
_RETRY_S: Final = 1.0
_WAIT_S: Final = 30.0
_ELSEWHERE: Final = "Move the file away, or name another --state."


class StorageError(UserError):
    """The lab's state directory cannot be written or read."""


class _Command:
    """Something to run in the writer's thread, between the items put before and after it."""

    def __init__(self, run: Callable[[sqlite3.Connection], Any]) -> None:
        self._run = run
        self._done = threading.Event()
        self._result: Any = None
        self._error: Exception | None = None

    def execute(self, connection: sqlite3.Connection) -> None:
        try:
            self._result = self._run(connection)
        except Exception as error:  # noqa: BLE001 - it belongs to who waits, not to the thread
            self._error = error

    def finish(self) -> None:
        self._done.set()

    def wait(self) -> Any:
        if not self._done.wait(_WAIT_S):
            raise StorageError(
                f"the state directory did not take a write within {_WAIT_S:g} s", hint="Is the disk full or gone?"
            )
        if self._error is not None:
            raise self._error
        return self._result


class BatchedDatabase(Generic[Item]):
    """One SQLite file. `put` never waits for the disk; readers see everything that was put before they ask."""

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        version: int,
        write: Callable[[sqlite3.Connection, Sequence[Item]], None],
        interval_s: float = BATCH_INTERVAL_S,
    ) -> None:
        """Open or make the file; a change of `schema` raises `version`. Raises StorageError.

        `write` stores a batch inside a transaction that this class begins and commits.
        """
        self._path = path
        self._write = write
        self._interval_s = interval_s
        self._queue: deque[Item | _Command] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        try:
            _check_version(path, version)
            self._connection = _connect(path)
            self._connection.executescript(schema)
            self._connection.execute(f"PRAGMA user_version = {version:d}")
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be opened: {error}", hint=_ELSEWHERE) from None
        self._thread = threading.Thread(target=self._loop, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over an item; it is on disk within the batch interval."""
        self._queue.append(item)
        if not self._wake.is_set():
            self._wake.set()

    def run(self, command: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a write after everything put so far, and wait for its commit. Raises what it raises, or StorageError."""
        wrapped = _Command(command)
        self._queue.append(wrapped)
        self._hurry.set()
        self._wake.set()
        result: Result = wrapped.wait()
        return result

    def flush(self) -> None:
        """Wait until everything put so far is committed."""
        # Not only when the queue holds something: the thread may be about to commit what it took from it.
        self.run(lambda _connection: None)

    def reader(self) -> sqlite3.Connection:
        """A connection of the calling thread, after everything put so far is committed."""
        self.flush()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = _connect(self._path)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            with self._readers_lock:
                self._readers.append(connection)
        return connection

    def close(self) -> None:
        """Commit what is left and end the thread."""
        if self._closing:
            return
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()
        self._connection.close()
        with self._readers_lock:
            for connection in self._readers:
                connection.close()

    def _loop(self) -> None:
        complained = False
        batch: list[Item | _Command] = []
        while True:
            if not batch:
                self._wake.wait()
                if not self._closing:
                    self._hurry.wait(self._interval_s)
                self._hurry.clear()
                # Cleared before draining: what is put from here on sets it again.
                self._wake.clear()
                while self._queue:
                    batch.append(self._queue.popleft())
            try:
                self._commit(batch)
            except sqlite3.Error as error:
                self._connection.rollback()
                if not complained:
                    print(f"lab: {self._path}: {error}; writes are kept in memory and tried again", file=sys.stderr)
                    complained = True
                if self._closing:
                    print(f"lab: {self._path}: {len(batch)} writes are lost", file=sys.stderr)
                    return
                time.sleep(_RETRY_S)
                continue
            complained = False
            for item in batch:
                if isinstance(item, _Command):
                    item.finish()
            batch = []
            if self._closing and not self._queue:
                return

    def _commit(self, batch: Sequence[Item | _Command]) -> None:
        if not batch:
            return
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        items: list[Item] = []
        for item in batch:
            if isinstance(item, _Command):
                if items:
                    self._write(connection, items)
                    items = []
                item.execute(connection)
            else:
                items.append(item)
        if items:
            self._write(connection, items)
        connection.execute("COMMIT")


def _check_version(path: Path, version: int) -> None:
    # By a connection of its own: the pragmas of the others would already write.
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found not in {0, version}:
        raise StorageError(f"{path} is of version {found}; this lab reads version {version}", hint=_ELSEWHERE)


def _connect(path: Path) -> sqlite3.Connection:
    # Each connection stays with one thread; they are only closed by another.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    # A kill of the process loses nothing that is committed; a power cut may lose the last batches.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA cache_size = -16384")
    return connection
