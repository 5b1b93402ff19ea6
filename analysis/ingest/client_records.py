"""Read the client records of a run, range by range of their files, as columns: the only module that knows their format.

A load test writes gigabytes of them, so nothing here holds more than a range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import polars as pl

from analysis.ingest.line_shapes import Row, ShapeReader
from analysis.ingest.platform_logs import FACT_COLUMNS, PHASES
from analysis.ingest.run_files import ROW_SCHEMA
from core.errors import RecordError
from core.run.records import ClientRecord
from core.run.run_directory import RunDirectory, read_client_records

RANGE_BYTES: Final = 16_000_000

# What every record of a variant has in common is set when its rows are joined; a million copies of it fill memory.
_COMMON: Final = frozenset({"schema_version", "run_id", "model", "engine", "architecture", "memory_mb", "handler"})
_OWN_COLUMNS: Final[dict[str, Any]] = {
    name: ROW_SCHEMA[name] for name in ClientRecord.model_fields if name not in _COMMON
}
_VERSIONED: Final[dict[str, Any]] = {"schema_version": pl.Int32, **_OWN_COLUMNS, **FACT_COLUMNS}
_JSON_SCHEMA: Final[dict[str, Any]] = {
    "schema_version": pl.Int32,
    **_OWN_COLUMNS,
    "handler": pl.Struct(
        {name: kind for name, kind in FACT_COLUMNS.items() if name not in PHASES}
        | {"phases": pl.Struct({name: FACT_COLUMNS[name] for name in PHASES})}
    ),
}
_NEEDED: Final = ("schema_version", "call_id", "variant", "outcome", "intended_at")
_CATEGORIES: Final = pl.col("experiment", "protocol", "trigger", "variant", "connection", "outcome").cast(
    pl.Categorical
)


@dataclass(frozen=True)
class ClientRange:
    """The client records of a file that begin at these bytes."""

    path: Path
    start: int
    end: int

    def read(self, shapes: ShapeReader | None = None) -> pl.DataFrame:
        """Return the records as `read_clients` does. Raises RecordError.

        A reader of shapes gives the same in less time, where there are many.
        """
        with self.path.open("rb") as file:
            file.seek(max(0, self.start - 1))
            if self.start:
                file.readline()  # the end of a line of the range before
            data = file.read(max(0, self.end - file.tell()))
            if data and not data.endswith(b"\n"):
                data += file.readline()
        if not data.endswith(b"\n"):
            data = data[: data.rfind(b"\n") + 1]
        if not data:
            return no_clients()
        try:
            frame = _parse(data) if shapes is None else _parse_by_shapes(data, shapes)
            needed = frame.select(_NEEDED)
            sound = bool((frame["schema_version"] == 1).all()) and not any(needed.null_count().row(0))
        except pl.exceptions.PolarsError:
            sound = False
        if not sound:
            for _ in read_client_records(self.path):
                pass  # raises with the line's number
            raise RecordError(f"{self.path} cannot be read as client records of schema version 1")
        return frame.drop("schema_version").with_columns(_CATEGORIES)


def client_ranges(run: RunDirectory) -> list[ClientRange]:
    """All client records of a run, cut into pieces of some ten thousand."""
    return [
        ClientRange(path, start, start + RANGE_BYTES)
        for path in run.client_paths()
        for start in range(0, path.stat().st_size, RANGE_BYTES)
    ]


def read_clients(run: RunDirectory) -> pl.DataFrame:
    """Client records of a run as a frame: their own columns, and FACT_COLUMNS of the handler's answer.

    A torn last line is passed over, any other bad line raises RecordError with its file and number.
    """
    return each_call_once(pl.concat([no_clients(), *(part.read() for part in client_ranges(run))]))


def no_clients() -> pl.DataFrame:
    """No record at all, with the columns of `read_clients`."""
    return pl.DataFrame(schema=_VERSIONED).drop("schema_version").with_columns(_CATEGORIES)


def each_call_once(clients: pl.DataFrame) -> pl.DataFrame:
    """Each call's first record: a resumed run never repeats a call, but a faulty writer may."""
    if clients["call_id"].is_unique().all():
        return clients
    return clients.unique("call_id", keep="first", maintain_order=True)


@cache
def record_shapes() -> ShapeReader:
    """Return this process's reader of client records by their shapes."""
    return ShapeReader(read_record)


def read_record(line: bytes) -> Row:
    """Read one record. Raises ValueError for what is none."""
    try:
        return Row(ClientRecord.__name__, _parse(line).row(0, named=True))
    except pl.exceptions.PolarsError as error:
        raise ValueError(str(error)) from None


def _parse(data: bytes) -> pl.DataFrame:
    handler = pl.col("handler").struct
    facts = [
        (handler.field("phases").struct.field(name) if name in PHASES else handler.field(name)).alias(name)
        for name in FACT_COLUMNS
    ]
    return pl.read_ndjson(data, schema=_JSON_SCHEMA).with_columns(facts).drop("handler")


def _parse_by_shapes(data: bytes, shapes: ShapeReader) -> pl.DataFrame:
    reading = shapes.read(data)
    schema = {**_VERSIONED, "line": pl.Int64}
    frames = [some.frame(schema, pl.Series("line", some.lines)) for some in reading.alike]
    if reading.rest:
        rest = _parse(reading.rest)
        if rest.height != len(reading.others):  # blank lines
            return _parse(data)
        frames.append(rest.with_columns(pl.Series("line", reading.others)))
    frame = frames[0] if len(frames) == 1 else pl.concat(frames).sort("line")
    return frame.drop("line")
