"""Metric values on SQLite, packed: one row holds what one series received within a batch.

Raw values are kept, so that any percentile can be answered; the oldest are forgotten by number.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.storage import BATCH_INTERVAL_S, BatchedDatabase

_SCHEMA_VERSION: Final = 1
_FILE: Final = "metrics.sqlite"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS series (
    series_id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, dimensions TEXT NOT NULL,
    unit TEXT NOT NULL, last_s REAL NOT NULL, UNIQUE (namespace, name, dimensions, unit)
) STRICT;
CREATE TABLE IF NOT EXISTS samples (
    chunk_id INTEGER PRIMARY KEY AUTOINCREMENT, series_id INTEGER NOT NULL, first_s REAL NOT NULL, last_s REAL NOT NULL,
    number INTEGER NOT NULL, packed BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS samples_of_series ON samples (series_id, first_s);
"""
# A sample is time, sum, minimum, maximum, count: a plain value has count 1 and the three equal.
_FIELDS: Final = 5
# A chunk spans at most this, so that a range is found by the start of its chunks.
_CHUNK_SPAN_S: Final = 60.0

Samples = npt.NDArray[np.float64]  # (n, 5): time_s, sum, minimum, maximum, count


class SeriesKey(NamedTuple):
    """What CloudWatch tells metrics apart by; `dimensions` sorted by name."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Statistics:
    """A statistic set, as PutMetricData takes it."""

    sum: float
    minimum: float
    maximum: float
    count: float


class _Chunk(NamedTuple):
    key: SeriesKey
    unit: str
    packed: bytes


def dimensions_key(dimensions: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Dimensions in the order by which series are told apart."""
    return tuple(sorted(dimensions.items()))


class MetricStore:
    """The lab's CloudWatch metrics; a `lab.contracts.MetricSink`."""

    def __init__(self, directory: Path, *, retained_samples: int) -> None:
        """Open or make the store in `directory`. Raises StorageError."""
        self._retained_samples = retained_samples
        self._lock = threading.Lock()
        self._pending: dict[tuple[SeriesKey, str], array[float]] = {}
        self._known: dict[tuple[object, ...], array[float]] = {}  # the same arrays, by what `put` was called with
        self._wake = threading.Event()
        self._closing = False
        self._stored: int | None = None
        self._database: BatchedDatabase[_Chunk] = BatchedDatabase(
            directory / _FILE, schema=_SCHEMA, version=_SCHEMA_VERSION, write=self._write, interval_s=0.0
        )
        self._thread = threading.Thread(target=self._hand_over, name="metrics", daemon=True)
        self._thread.start()

    def put(
        self, namespace: str, name: str, dimensions: Mapping[str, str], value: float, unit: str, timestamp_s: float
    ) -> None:
        """Add one value. Never waits for the disk."""
        # In the order given: sorting and hashing a key of its own for every value would be most of the cost.
        asked = (namespace, name, unit, *dimensions.items())
        with self._lock:
            values = self._known.get(asked)
            if values is None:
                values = self._known[asked] = self._values(SeriesKey(namespace, name, dimensions_key(dimensions)), unit)
            values.extend((timestamp_s, value, value, value, 1.0))
        if not self._wake.is_set():
            self._wake.set()

    def put_statistics(self, key: SeriesKey, statistics: Statistics, unit: str, timestamp_s: float) -> None:
        """Add a statistic set, or a value that was seen `count` times."""
        s = statistics
        self._append(key, unit, (timestamp_s, s.sum, s.minimum, s.maximum, s.count))

    def series(self, namespace: str | None = None, name: str | None = None) -> list[tuple[SeriesKey, float]]:
        """Every metric there is with the time of its last value, by namespace and name where given."""
        self.flush()
        rows = self._database.reader().execute(
            """SELECT namespace, name, dimensions, max(last_s) FROM series
               WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR name = ?2)
               GROUP BY namespace, name, dimensions ORDER BY namespace, name, dimensions""",
            (namespace, name),
        )
        return [(SeriesKey(row[0], row[1], _dimensions(row[2])), row[3]) for row in rows]

    def samples(self, key: SeriesKey, start_s: float, end_s: float, unit: str | None = None) -> Samples:
        """Samples of one metric with start_s <= time < end_s, in the order of time; all units unless one is given."""
        self.flush()
        connection = self._database.reader()
        packed = [
            row[0]
            for row in connection.execute(
                """SELECT packed FROM samples JOIN series USING (series_id)
                   WHERE namespace = ?1 AND name = ?2 AND dimensions = ?3 AND (?4 IS NULL OR unit = ?4)
                     AND samples.first_s >= ?5 AND samples.first_s < ?6 AND samples.last_s >= ?7""",
                (key.namespace, key.name, json.dumps(key.dimensions), unit, start_s - _CHUNK_SPAN_S, end_s, start_s),
            )
        ]
        found: Samples = np.frombuffer(b"".join(packed), dtype=np.float64).reshape(-1, _FIELDS)
        found = found[(found[:, 0] >= start_s) & (found[:, 0] < end_s)]
        return found[np.argsort(found[:, 0], kind="stable")]

    def flush(self) -> None:
        """Wait until everything put so far is committed."""
        self._move()
        self._database.flush()

    def close(self) -> None:
        """Commit what is left and end the threads."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._move()
        self._database.close()

    def _append(self, key: SeriesKey, unit: str, sample: tuple[float, float, float, float, float]) -> None:
        with self._lock:
            self._values(key, unit).extend(sample)
        if not self._wake.is_set():
            self._wake.set()

    def _values(self, key: SeriesKey, unit: str) -> array[float]:
        """What a series has received since the last batch; the caller holds the lock."""
        values = self._pending.get((key, unit))
        if values is None:
            values = self._pending[key, unit] = array("d")
        return values

    def _hand_over(self) -> None:
        while not self._closing:
            self._wake.wait()
            if not self._closing:
                time.sleep(BATCH_INTERVAL_S)
            self._wake.clear()
            self._move()

    def _move(self) -> None:
        # The lock is held until the database has the chunks: a flush after this one misses none.
        with self._lock:
            pending, self._pending = self._pending, {}
            self._known.clear()
            for (key, unit), values in pending.items():
                for packed in _spans(values):
                    self._database.put(_Chunk(key, unit, packed))

    def _write(self, connection: sqlite3.Connection, chunks: Sequence[_Chunk]) -> None:
        if self._stored is None:
            self._stored = connection.execute("SELECT coalesce(sum(number), 0) FROM samples").fetchone()[0]
        for chunk in chunks:
            times = np.frombuffer(chunk.packed, dtype=np.float64)[::_FIELDS]
            first_s, last_s = float(times.min()), float(times.max())
            series_id = connection.execute(
                """INSERT INTO series (namespace, name, dimensions, unit, last_s) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET last_s = max(last_s, excluded.last_s) RETURNING series_id""",
                (chunk.key.namespace, chunk.key.name, json.dumps(chunk.key.dimensions), chunk.unit, last_s),
            ).fetchone()[0]
            connection.execute(
                "INSERT INTO samples (series_id, first_s, last_s, number, packed) VALUES (?, ?, ?, ?, ?)",
                (series_id, first_s, last_s, len(times), chunk.packed),
            )
            self._stored += len(times)
        if self._stored > self._retained_samples * 1.02 + 1000:
            self._forget(connection)

    def _forget(self, connection: sqlite3.Connection) -> None:
        kept, cutoff = 0, None
        for chunk_id, number in connection.execute("SELECT chunk_id, number FROM samples ORDER BY chunk_id DESC"):
            if kept >= self._retained_samples:
                cutoff = chunk_id
                break
            kept += number
        if cutoff is not None:
            connection.execute("DELETE FROM samples WHERE chunk_id <= ?", (cutoff,))
            connection.execute("DELETE FROM series WHERE series_id NOT IN (SELECT DISTINCT series_id FROM samples)")
        self._stored = kept


def _spans(values: array[float]) -> list[bytes]:
    """Packed samples, cut so that no part spans more than a chunk may; parts are in the order of time."""
    samples = np.frombuffer(values, dtype=np.float64).reshape(-1, _FIELDS)
    times = samples[:, 0]
    if times.max() - times.min() < _CHUNK_SPAN_S:
        return [samples.tobytes()]
    samples = samples[np.argsort(times, kind="stable")]
    minutes = np.floor_divide(samples[:, 0], _CHUNK_SPAN_S)
    return [part.tobytes() for part in np.split(samples, np.flatnonzero(np.diff(minutes)) + 1)]


def _dimensions(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(text))


def default_retained_samples(log_retention_invocations: int) -> int:
    """As many samples as that many invocations make: function and gateway write about a dozen each."""
    return 12 * log_retention_invocations
