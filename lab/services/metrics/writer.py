"""Write metric values, in a separate process: chunks of packed samples, the oldest deleted by number.

Imports the standard library's lightest parts alone: see `lab.storage.writing`.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from lab.storage.journal import RECORDS_A_TURN, give_way

# A sample is time, sum, minimum, maximum, count, as earlier labs stored statistic sets; here the three are equal.
FIELDS: Final = 5
# A chunk spans at most this, so that a range is found by the start of its chunks.
CHUNK_SPAN_S: Final = 60.0

# Namespace, dimensions in any order, time in seconds, and of each metric its name, unit and value.
Put = tuple[str, Sequence[tuple[str, str]], float, Sequence[tuple[str, str, float]]]
_Series = tuple[str, str, str, str]  # namespace, name, dimensions sorted by name as JSON, unit


class MetricWriter:
    """A `lab.storage.writing.Writer` of the tables that `lab.services.metrics.metric_store` declares."""

    def __init__(self, connection: sqlite3.Connection, retained_samples: int) -> None:
        self._connection = connection
        self._retained_samples = retained_samples
        self._stored: int | None = None  # samples in the file, once they have been counted

    def write(self, items: Sequence[Put]) -> None:
        """Insert what each series received, in parts that span no more than CHUNK_SPAN_S."""
        if not items:
            return
        connection = self._connection
        if self._stored is None:
            self._stored = int(connection.execute("SELECT coalesce(sum(number), 0) FROM samples").fetchone()[0])
        for series, values in _by_series(items).items():
            for samples in _spans(values):
                times = samples[::FIELDS]
                first_s, last_s = min(times), max(times)
                series_id = connection.execute(
                    """INSERT INTO series (namespace, name, dimensions, unit, last_s) VALUES (?, ?, ?, ?, ?)
                       ON CONFLICT DO UPDATE SET last_s = max(last_s, excluded.last_s) RETURNING series_id""",
                    (*series, last_s),
                ).fetchone()[0]
                connection.execute(
                    "INSERT INTO samples (series_id, first_s, last_s, number, packed) VALUES (?, ?, ?, ?, ?)",
                    (series_id, first_s, last_s, len(times), samples.tobytes()),
                )
                self._stored += len(times)
        if self._stored > self._retained_samples * 1.02 + 1000:
            self._forget()

    def _forget(self) -> None:
        connection = self._connection
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


def _by_series(items: Sequence[Put]) -> dict[_Series, array[float]]:
    """The samples of each series, one after another in the order in which they were put."""
    found: dict[_Series, array[float]] = {}
    texts: dict[tuple[tuple[str, str], ...], str] = {}
    for index, (namespace, dimensions, time_s, metrics) in enumerate(items):
        if index % RECORDS_A_TURN == 0:
            give_way()
        key = tuple(dimensions)
        text = texts.get(key)
        if text is None:
            text = texts[key] = json.dumps(sorted(key))
        for name, unit, value in metrics:
            samples = found.setdefault((namespace, name, text, unit), array("d"))
            samples.extend((time_s, value, value, value, 1.0))
    return found


def _spans(values: array[float]) -> Iterator[array[float]]:
    """Samples, cut so that no part spans more than a chunk may; parts are in the order of time."""
    times = values[::FIELDS]
    if max(times) - min(times) < CHUNK_SPAN_S:
        yield values
        return
    minutes: dict[float, array[float]] = {}
    for start in sorted(range(0, len(values), FIELDS), key=values.__getitem__):
        minutes.setdefault(values[start] // CHUNK_SPAN_S, array("d")).extend(values[start : start + FIELDS])
    yield from minutes.values()
