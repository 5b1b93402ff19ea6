"""Metric values on SQLite, packed: one row holds what one series received within a batch.

Raw values are kept, so that any percentile can be answered; the oldest are forgotten by number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.services.metrics.writer import CHUNK_SPAN_S, FIELDS, MetricWriter, Put
from lab.storage.database import JournaledDatabase

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

Samples = npt.NDArray[np.float64]  # (n, 5): time_s, sum, minimum, maximum, count


class SeriesKey(NamedTuple):
    """The identity of a metric in CloudWatch; `dimensions` are sorted by name."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]


class MetricStore:
    """The lab's CloudWatch metrics; a `lab.contracts.MetricSink`."""

    def __init__(self, directory: Path, *, retained_samples: int) -> None:
        """Open or make the store in `directory`. Raises StorageError."""
        self._database: JournaledDatabase[Put] = JournaledDatabase(
            directory / _FILE,
            schema=_SCHEMA,
            version=_SCHEMA_VERSION,
            writer=MetricWriter,
            settings=(retained_samples,),
        )

    def put(
        self,
        namespace: str,
        dimensions: Mapping[str, str],
        timestamp_s: float,
        values: Sequence[tuple[str, str, float]],
    ) -> None:
        """Add values of metrics that share dimensions and time: name, unit, value. Never waits for the disk."""
        self._database.put((namespace, tuple(dimensions.items()), timestamp_s, values))

    def samples(self, key: SeriesKey, start_s: float, end_s: float, unit: str | None = None) -> Samples:
        """Samples of one metric with start_s <= time < end_s, in the order of time; all units unless one is given."""
        connection = self._database.reader()
        packed = [
            row[0]
            for row in connection.execute(
                """SELECT packed FROM samples JOIN series USING (series_id)
                   WHERE namespace = ?1 AND name = ?2 AND dimensions = ?3 AND (?4 IS NULL OR unit = ?4)
                     AND samples.first_s >= ?5 AND samples.first_s < ?6 AND samples.last_s >= ?7""",
                (key.namespace, key.name, json.dumps(key.dimensions), unit, start_s - CHUNK_SPAN_S, end_s, start_s),
            )
        ]
        found: Samples = np.frombuffer(b"".join(packed), dtype=np.float64).reshape(-1, FIELDS)
        found = found[(found[:, 0] >= start_s) & (found[:, 0] < end_s)]
        return found[np.argsort(found[:, 0], kind="stable")]

    def flush(self) -> None:
        """Wait until everything put so far is committed."""
        self._database.flush()

    def close(self) -> None:
        """Commit what is left."""
        self._database.close()
