"""The process that writes one SQLite file: reads the journal, commits it in batches, answers who waits for a commit.

Why a process: a thread of the lab that writes rows takes the interpreter from the one that serves invokes, some hundred
times a batch, and every tenth call is late by it. This one imports the standard library's lightest parts alone.

Messages on the socket, both ways: 4 bytes length, then `marshal`. The lab asks for the commit of all that is in the
journal: (number of the question, number of a command in the journal or None). The answer is (number of the question,
True, what the command returned), or with False and why nothing is committed. At the end of the socket the process
commits what is queued and ends.
"""

from __future__ import annotations

import contextlib
import importlib
import marshal
import os
import select
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from lab.storage.journal import DAMAGED, JournalReader, Position, Record

_NICENESS: Final = 5  # it gives way to the lab and to functions; what waits for it is in the journal
_INTERVAL_S: Final = 0.25  # between looks at the journal while there is something in it, if nobody asks
_IDLE_INTERVAL_S: Final = 1.0
_LENGTH_BYTES: Final = 4
_PIECE_BYTES: Final = 1 << 20

POSITION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS journal_position (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), segment INTEGER NOT NULL, offset INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO journal_position VALUES (1, 0, 0);
"""


class Writer(Protocol):
    """What stores items by way of a connection, within a transaction that is opened and committed around it.

    Its other public methods are commands, called by name with arguments and results that `marshal` takes.
    """

    def write(self, items: Sequence[Any]) -> None: ...


def send(channel: socket.socket, message: Any) -> None:
    """Send one message. Raises OSError where nobody listens any more."""
    body = marshal.dumps(message)
    channel.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)


def receive(channel: socket.socket) -> Any:
    """The next message. Raises EOFError at the end of the socket, within a message as well."""
    length = int.from_bytes(_exactly(channel, _LENGTH_BYTES), "big")
    return marshal.loads(_exactly(channel, length))  # noqa: S302 - from the other end of our own socket pair


def _exactly(channel: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = channel.recv(min(_PIECE_BYTES, length - len(data)))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def connect(path: str) -> sqlite3.Connection:
    """A connection as all readers and writers of these files have it."""
    # Each connection stays with one thread; they are only closed by another.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    # A kill of the process loses nothing that is committed; a power cut may lose the last batches.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA cache_size = -16384")
    return connection


def read_position(connection: sqlite3.Connection) -> Position:
    """How much of the journal is in the tables."""
    return Position(*connection.execute("SELECT segment, offset FROM journal_position").fetchone())


# The file or the machine fails, not what is written: it is tried again.
_OF_THE_MACHINE: Final = (OSError, MemoryError, sqlite3.OperationalError, sqlite3.InternalError)


def _is_of_the_machine(error: Exception) -> bool:
    return isinstance(error, _OF_THE_MACHINE) or type(error) is sqlite3.DatabaseError  # a damaged file


class _Committer:
    """Moves the journal into the tables: what is in them and how far the journal has been read change together."""

    def __init__(self, path: str, journal: str, make: Callable[[sqlite3.Connection], Writer]) -> None:
        self._path = path
        self._connection = connect(path)
        self._make = make
        self._writer = make(self._connection)
        self._reader = JournalReader(journal, read_position(self._connection))
        self._complained = False
        self.outcomes: dict[int, tuple[bool, Any]] = {}  # of commands, by their number

    def commit_all(self) -> tuple[bool, str]:
        """Commit what the journal holds; (whether there was anything, why it is not committed)."""
        found = False
        committed = self._reader.position
        try:
            while records := self._reader.read():
                found = True
                committed = self._commit(records, committed)
        except Exception as error:
            if not _is_of_the_machine(error):
                raise
            if self._connection.in_transaction:
                self._connection.rollback()
            self._reader.go_back(committed)
            self._writer = self._make(self._connection)  # the other remembers rows that are not there
            if not self._complained:
                print(f"lab: {self._path}: {error}; what is written waits in the journal", file=sys.stderr, flush=True)
                self._complained = True
            return found, str(error)
        self._complained = False
        return found, ""

    def close(self) -> None:
        self._reader.close()
        self._connection.close()

    def _commit(self, records: Sequence[Record], start: Position) -> Position:
        """Commit records that begin at `start`; returns how much of the journal is in the tables now."""
        connection = self._connection
        outcomes: dict[int, tuple[bool, Any]] = {}
        connection.execute("BEGIN IMMEDIATE")
        known = read_position(connection)
        if known != start:
            # The writer of a lab that was killed has still been at work on the same journal.
            connection.execute("ROLLBACK")
            self._reader.go_back(known)
            self._writer = self._make(connection)
            return known
        connection.execute("SAVEPOINT batch")
        try:
            self._apply(records, outcomes)
        except Exception as error:
            if _is_of_the_machine(error):
                raise
            self._roll_back_to("batch")
            outcomes.clear()
            self._apply_apart(records, outcomes)
        connection.execute("UPDATE journal_position SET segment = ?, offset = ?", self._reader.position)
        connection.execute("COMMIT")
        self.outcomes.update(outcomes)
        if self._reader.position.segment != start.segment:
            self._reader.forget_read()
        return self._reader.position

    def _apply(self, records: Sequence[Record], outcomes: dict[int, tuple[bool, Any]]) -> None:
        items: list[Any] = []
        for command, content in records:
            if command is None:
                items.append(content)
                continue
            self._writer.write(items)
            items = []
            if command == DAMAGED[0]:
                raise ValueError("a damaged record of the journal")
            number, arguments = content
            outcomes[number] = True, getattr(self._writer, command)(*arguments)
        self._writer.write(items)

    def _apply_apart(self, records: Sequence[Record], outcomes: dict[int, tuple[bool, Any]]) -> None:
        """Each record by itself, as one of them cannot be stored: it must not keep out all that come after it.

        A failed command is reported to the lab; any other failed record is skipped and logged.
        """
        passed_over: list[Exception] = []
        for record in records:
            self._connection.execute("SAVEPOINT record")
            try:
                self._apply([record], outcomes)
            except Exception as error:
                if _is_of_the_machine(error):
                    raise
                self._roll_back_to("record")
                command, content = record
                if command:
                    outcomes[content[0]] = False, str(error)
                else:
                    passed_over.append(error)
            self._connection.execute("RELEASE record")
        if passed_over:
            number, first = len(passed_over), passed_over[0]
            print(f"lab: {self._path}: {number} not stored: {first}", file=sys.stderr, flush=True)

    def _roll_back_to(self, savepoint: str) -> None:
        self._connection.execute(f"ROLLBACK TO {savepoint}")
        self._writer = self._make(self._connection)  # the other remembers rows that are not there


def serve(channel: socket.socket, path: str, journal: str, make: Callable[[sqlite3.Connection], Writer]) -> None:
    """Commit the journal until the socket ends."""
    committer = _Committer(path, journal, make)
    interval_s = _INTERVAL_S
    asked: list[tuple[int, int | None]] = []
    listening = True
    questions = select.poll()  # select() takes no descriptor over 1023, and this one bears the number that the lab gave
    questions.register(channel, select.POLLIN)
    while listening:
        if questions.poll(1000 * interval_s):
            try:
                asked.append(receive(channel))
            except (EOFError, OSError):
                listening = False
        found, problem = committer.commit_all()
        interval_s = _INTERVAL_S if found else _IDLE_INTERVAL_S
        for question, number in asked:
            unknown = (False, "its outcome is unknown: the writing process ended after it")
            answer = committer.outcomes.pop(number, unknown) if number is not None else (True, None)
            with contextlib.suppress(OSError):
                send(channel, (question, *((False, problem) if problem else answer)))
        asked.clear()
    committer.close()


def main() -> None:
    """Entry of the process: the socket's descriptor is the only argument; the first message says what to write."""
    # Ctrl-C and a stop are for the lab, which closes the socket at its end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    channel = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(EOFError):
        path, journal, writer_class, settings = receive(channel)
        module, _, name = writer_class.partition(":")
        writer: Callable[..., Writer] = getattr(importlib.import_module(module), name)
        serve(channel, path, journal, lambda connection: writer(connection, *settings))
