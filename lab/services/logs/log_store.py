"""Log events on SQLite: read by pages that seek; `lab.services.logs.writer` writes and forgets them.

Order within a stream is the order in which events were put, for equal timestamps; pages run by (timestamp, order).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from lab.contracts import LogEvent
from lab.services.logs.writer import LogWriter, Put, stream_id_of
from lab.storage.database import JournaledDatabase

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
MAX_EVENTS_A_PAGE: Final = 10_000
MAX_BYTES_A_PAGE: Final = 1_048_576
EVENT_OVERHEAD_BYTES: Final = 26
# AWS, too, may answer an empty page with a token where much was searched and little found.
MAX_SCANNED_A_PAGE: Final = 200_000

# Files of an earlier 1 have more columns, which have defaults. An earlier checkout misses them in a file of this one.
_SCHEMA_VERSION: Final = 1
_FILE: Final = "logs.sqlite"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log_groups (
    group_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS log_streams (
    stream_id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL, name TEXT NOT NULL,
    created_ms INTEGER NOT NULL, last_seq INTEGER, UNIQUE (group_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS log_events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL, stream_id INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL, ingested_ms INTEGER NOT NULL, message TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_of_group ON log_events (group_id, timestamp_ms, seq);
CREATE TABLE IF NOT EXISTS retention_marks (seq INTEGER PRIMARY KEY, invocations INTEGER NOT NULL) STRICT;
"""


class Position(NamedTuple):
    """Where a page ended."""

    timestamp_ms: int
    seq: int


@dataclass(frozen=True)
class StoredEvent:
    """One event as it is read back."""

    seq: int
    timestamp_ms: int
    ingested_ms: int
    stream: str
    message: str

    @property
    def position(self) -> Position:
        return Position(self.timestamp_ms, self.seq)

    @property
    def size_bytes(self) -> int:
        return len(self.message) + EVENT_OVERHEAD_BYTES


class LogStore:
    """The lab's CloudWatch Logs; a `lab.contracts.LogSink`."""

    def __init__(self, directory: Path, *, retention_invocations: int) -> None:
        """Open or make the store in `directory`. Raises StorageError."""
        self._database: JournaledDatabase[Put] = JournaledDatabase(
            directory / _FILE,
            schema=_SCHEMA,
            version=_SCHEMA_VERSION,
            writer=LogWriter,
            settings=(retention_invocations,),
        )

    def put(self, log_group: str, log_stream: str, events: Sequence[LogEvent]) -> None:
        """Add events to a stream, which is made where it is not there. Never waits for the disk."""
        if events:
            pairs = [(event.timestamp_ms, event.message) for event in events]
            self._database.put((log_group, log_stream, _now_ms(), pairs))

    def close(self) -> None:
        """Commit what is left."""
        self._database.close()

    def flush(self) -> None:
        """Wait until everything put so far is committed."""
        self._database.flush()

    # Groups and streams ------------------------------------------------------

    def create_group(self, group: str) -> None:
        """Remember a group; nothing happens to one that is there."""
        self._database.run("create_group", group, _now_ms())

    def group_names(self) -> tuple[str, ...]:
        """Every group, those of an earlier run of the lab among them."""
        rows = self._database.reader().execute("SELECT name FROM log_groups ORDER BY name")
        return tuple(name for (name,) in rows)

    def delete_group(self, group: str) -> None:
        """Forget a group with its streams and events."""
        self._database.run("delete_group", group)

    def create_stream(self, group: str, stream: str) -> bool:
        """Make an empty stream; False where it is there already."""
        made: bool = self._database.run("create_stream", group, stream, _now_ms())
        return made

    def has_stream(self, group: str, stream: str) -> bool:
        """Whether a stream is there."""
        return stream_id_of(self._database.reader(), group, stream) is not None

    def streams(self, group: str, *, after: str = "", limit: int) -> list[tuple[str, int]]:
        """Name and time of creation in ms of at most `limit` streams of a group, by name, after the stream `after`."""
        rows = self._database.reader().execute(
            """SELECT s.name, s.created_ms FROM log_groups g JOIN log_streams s USING (group_id)
               WHERE g.name = ? AND s.name > ? ORDER BY s.name LIMIT ?""",
            (group, after, limit),
        )
        return rows.fetchall()

    # Events ------------------------------------------------------------------

    def filter_events(
        self,
        group: str,
        *,
        streams: Sequence[str] = (),
        start_ms: int = 0,
        end_ms: int | None = None,
        matches: Callable[[str], bool] | None = None,
        limit: int = MAX_EVENTS_A_PAGE,
        after: Position | None = None,
    ) -> tuple[list[StoredEvent], Position | None]:
        """One page of a group's events by time, and where it ended (None: there are no more).

        Both times are inclusive, as in FilterLogEvents. A page holds at most `limit` events and 1 MB, and may hold
        fewer, even none, though there are more.
        """
        connection = self._database.reader()
        start = after or Position(start_ms, -1)
        conditions = [
            "e.group_id = (SELECT group_id FROM log_groups WHERE name = ?)",
            "(e.timestamp_ms, e.seq) > (?, ?)",
        ]
        parameters: list[object] = [group, *start]
        if end_ms is not None:
            conditions.append("e.timestamp_ms <= ?")
            parameters.append(end_ms)
        if streams:
            ids = [i for name in streams if (i := stream_id_of(connection, group, name)) is not None]
            conditions.append(f"e.stream_id IN ({','.join('?' * len(ids))})")
            parameters.extend(ids)
        rows = connection.execute(
            f"""SELECT e.seq, e.timestamp_ms, e.ingested_ms, s.name, e.message
                FROM log_events e INDEXED BY events_of_group JOIN log_streams s USING (stream_id)
                WHERE {" AND ".join(conditions)} ORDER BY e.timestamp_ms, e.seq""",  # noqa: S608 - built of our own words
            parameters,
        )
        return _take_page(rows, matches=matches, limit=limit)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _take_page(
    rows: Iterator[tuple[int, int, int, str, str]] | sqlite3.Cursor,
    *,
    matches: Callable[[str], bool] | None,
    limit: int,
) -> tuple[list[StoredEvent], Position | None]:
    events: list[StoredEvent] = []
    size = 0
    last: Position | None = None
    for scanned, (seq, timestamp_ms, ingested_ms, stream, message) in enumerate(rows):
        if scanned >= MAX_SCANNED_A_PAGE or len(events) >= limit:
            return events, last
        if matches is None or matches(message):
            event = StoredEvent(seq, timestamp_ms, ingested_ms, stream, message)
            size += event.size_bytes
            # At least one event per page, however large, or a reader would never get past it.
            if size > MAX_BYTES_A_PAGE and events:
                return events, last
            events.append(event)
        last = Position(timestamp_ms, seq)
    return events, None
