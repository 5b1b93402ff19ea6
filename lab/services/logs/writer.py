"""Write log events, in a separate process; the oldest invocations are deleted.

Imports the standard library's lightest parts alone: see `lab.storage.writing`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from lab.storage.journal import RECORDS_A_TURN, give_way

# Group, stream, time of ingestion, and (time, message) of each event; times in milliseconds.
Put = tuple[str, str, int, Sequence[tuple[int, str]]]

_STREAMS_KNOWN: Final = 10_000


class LogWriter:
    """A `lab.storage.writing.Writer` of the tables that `lab.services.logs.log_store` declares."""

    def __init__(self, connection: sqlite3.Connection, retention_invocations: int) -> None:
        self._connection = connection
        self._retention_invocations = retention_invocations
        self._stream_ids: dict[tuple[str, str], tuple[int, int]] = {}
        self._unmarked = 0  # invocations since the last retention mark

    def write(self, items: Sequence[Put]) -> None:
        """Insert events in the order given, and note in each stream which is its last."""
        if not items:
            return
        changed: set[int] = set()
        connection = self._connection
        connection.executemany(
            "INSERT INTO log_events (group_id, stream_id, timestamp_ms, ingested_ms, message) VALUES (?, ?, ?, ?, ?)",
            self._rows(items, changed),
        )
        last_seq = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log_events'").fetchone()[0]
        connection.executemany(
            "UPDATE log_streams SET last_seq = ? WHERE stream_id = ?",
            [(last_seq, stream_id) for stream_id in changed],
        )
        self._forget(last_seq)

    def _rows(self, items: Sequence[Put], changed: set[int]) -> Iterator[tuple[int, int, int, int, str]]:
        """The rows of puts; the streams that they are of are left in `changed`."""
        for number, (group, stream, ingested_ms, events) in enumerate(items):
            if number % RECORDS_A_TURN == 0:
                give_way()
            group_id, stream_id = self._ids(group, stream, ingested_ms)
            changed.add(stream_id)
            for timestamp_ms, text in events:
                # SQLite's text ends at no NUL, but a lone surrogate has no UTF-8: what cannot be stored is replaced.
                message = text if text.isascii() else text.encode(errors="replace").decode()
                if message.startswith("REPORT RequestId:") or (message[:1] == "{" and '"platform.report"' in message):
                    self._unmarked += 1
                yield group_id, stream_id, timestamp_ms, ingested_ms, message

    # Commands ----------------------------------------------------------------

    def create_group(self, group: str, now_ms: int) -> None:
        self._group_id(group, now_ms)

    def delete_group(self, group: str) -> None:
        self._stream_ids.clear()
        connection = self._connection
        for (group_id,) in connection.execute("SELECT group_id FROM log_groups WHERE name = ?", (group,)).fetchall():
            for table in ("log_events", "log_streams", "log_groups"):
                connection.execute(f"DELETE FROM {table} WHERE group_id = ?", (group_id,))  # noqa: S608 - our names

    def create_stream(self, group: str, stream: str, now_ms: int) -> bool:
        return self._add_stream(self._group_id(group, now_ms), stream, now_ms)

    # -------------------------------------------------------------------------

    def _ids(self, group: str, stream: str, now_ms: int) -> tuple[int, int]:
        key = (group, stream)
        found = self._stream_ids.get(key)
        if found is None:
            group_id = self._group_id(group, now_ms)
            self._add_stream(group_id, stream, now_ms)
            row = self._connection.execute(
                "SELECT stream_id FROM log_streams WHERE group_id = ? AND name = ?", (group_id, stream)
            ).fetchone()
            if len(self._stream_ids) >= _STREAMS_KNOWN:
                self._stream_ids.clear()
            found = self._stream_ids[key] = (group_id, row[0])
        return found

    def _add_stream(self, group_id: int, stream: str, now_ms: int) -> bool:
        add = "INSERT OR IGNORE INTO log_streams (group_id, name, created_ms) VALUES (?, ?, ?)"
        return self._connection.execute(add, (group_id, stream, now_ms)).rowcount == 1

    def _group_id(self, group: str, now_ms: int) -> int:
        self._connection.execute("INSERT OR IGNORE INTO log_groups (name, created_ms) VALUES (?, ?)", (group, now_ms))
        return int(self._connection.execute("SELECT group_id FROM log_groups WHERE name = ?", (group,)).fetchone()[0])

    def _forget(self, last_seq: int) -> None:
        """Drop the oldest events once a hundredth more invocations are kept than asked for."""
        if self._unmarked < max(1, self._retention_invocations // 100):
            return
        connection = self._connection
        connection.execute("INSERT OR REPLACE INTO retention_marks VALUES (?, ?)", (last_seq, self._unmarked))
        self._unmarked = 0
        kept, cutoff = 0, None
        for seq, invocations in connection.execute("SELECT seq, invocations FROM retention_marks ORDER BY seq DESC"):
            if kept >= self._retention_invocations:
                cutoff = seq
                break
            kept += invocations
        if cutoff is None:
            return
        connection.execute("DELETE FROM log_events WHERE seq <= ?", (cutoff,))
        connection.execute("DELETE FROM retention_marks WHERE seq <= ?", (cutoff,))
        connection.execute("DELETE FROM log_streams WHERE last_seq <= ?", (cutoff,))
        self._stream_ids.clear()


def stream_id_of(connection: sqlite3.Connection, group: str, stream: str) -> int | None:
    """The row of a stream; None where it is not there."""
    row = connection.execute(
        "SELECT stream_id FROM log_streams s JOIN log_groups g USING (group_id) WHERE g.name = ? AND s.name = ?",
        (group, stream),
    ).fetchone()
    return None if row is None else int(row[0])
