"""The files that the analysis reads and writes in a run's directory: the only module that knows their formats.

raw/logs/<function>/000000.jsonl.gz   one page of log events each, as CloudWatch gave them
raw/logs/<function>/cursor.json       how far the group was read; `done` when its window is complete
raw/metrics.json.gz                   what GetMetricData answered
data/invocations.parquet, .csv        one row per invocation
summary.json, summary.md
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from core import strict_json
from core.charges import BYTES_PER_GB
from core.errors import RecordError
from core.records import INVOCATION_COLUMNS, ClientRecord
from core.run_directory import RunDirectory, read_client_records, write_atomically
from core.variants import Image, Variant

ROW_SCHEMA: Final[dict[str, Any]] = {name: getattr(pl, kind) for name, kind in INVOCATION_COLUMNS.items()}

_EVENT_SCHEMA: Final[dict[str, Any]] = {"logStreamName": pl.String, "timestamp": pl.Int64, "message": pl.String}
_FACT_FIELDS: Final[dict[str, Any]] = {
    "weights": pl.String,
    "environment_id": pl.String,
    "call_number": pl.Int32,
    "initialization": pl.String,
    "inference_ms": pl.Float64,
    "decode_ms": pl.Float64,
    "handler_ms": pl.Float64,
    "init_to_call_ms": pl.Float64,
    "phases": pl.Struct({"import_ms": pl.Float64, "load_ms": pl.Float64, "first_inference_ms": pl.Float64}),
}
# What every record of a variant has in common is set when its rows are joined; a million copies of it fill memory.
_COMMON: Final = frozenset({"schema_version", "run_id", "model", "engine", "architecture", "memory_mb", "handler"})
CLIENT_SCHEMA: Final[dict[str, Any]] = {
    name: ROW_SCHEMA[name] for name in ClientRecord.model_fields if name not in _COMMON
}
_FEW_VALUES: Final = ("experiment", "protocol", "trigger", "variant", "connection", "outcome")
RANGE_BYTES: Final = 32_000_000


@dataclass(frozen=True)
class Cursor:
    """How far a log group was read."""

    log_group: str
    start_ms: int
    end_ms: int
    pages: int = 0
    next_token: str | None = None
    done: bool = False


@dataclass(frozen=True)
class RawGroup:
    """Pages of one log group on disk; a page counts once the cursor names it."""

    directory: Path

    @property
    def cursor(self) -> Cursor | None:
        try:
            return Cursor(**strict_json.loads((self.directory / "cursor.json").read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise RecordError(
                f"{self.directory / 'cursor.json'} is damaged: {error}", hint="Remove its folder and collect again."
            ) from None

    def save(self, cursor: Cursor) -> None:
        write_atomically(self.directory / "cursor.json", strict_json.dumps(asdict(cursor), indent=1) + "\n")

    def restart(self, cursor: Cursor) -> Self:
        """Restart the window; what was there goes only when the new pages are complete (see `fresh`)."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.save(cursor)
        return self

    @property
    def fresh(self) -> RawGroup:
        """Return the folder of a second reading, which replaces the first one when it is complete."""
        return RawGroup(self.directory.with_name(self.directory.name + ".fresh"))

    def replace_by(self, other: RawGroup) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        other.directory.rename(self.directory)

    def add_page(self, cursor: Cursor, events: Sequence[Mapping[str, Any]], next_token: str | None) -> Cursor:
        """Write one page, then the cursor that counts it, so that a kill between the two loses nothing."""
        data = "".join(strict_json.dumps(event, separators=(",", ":")) + "\n" for event in events).encode()
        write_atomically(self.directory / f"{cursor.pages:06d}.jsonl.gz", gzip.compress(data, 3, mtime=0))
        cursor = replace(cursor, pages=cursor.pages + 1, next_token=next_token, done=next_token is None)
        self.save(cursor)
        return cursor

    def texts(self) -> Iterator[tuple[Path, bytes]]:
        """Pages as they are stored, one JSON object per line, each with its file. Raises RecordError."""
        cursor = self.cursor
        for number in range(cursor.pages if cursor else 0):
            path = self.directory / f"{number:06d}.jsonl.gz"
            try:
                text = gzip.decompress(path.read_bytes())
            except (OSError, EOFError, zlib.error) as error:
                raise _unreadable_page(path, error) from None
            yield path, text

    def pages(self) -> Iterator[pl.DataFrame]:
        """Events page by page: logStreamName, timestamp (ms), message. Raises RecordError."""
        for path, text in self.texts():
            yield read_events(path, text)


def read_events(path: Path, text: bytes) -> pl.DataFrame:
    """Events of a page, or of some of its lines: logStreamName, timestamp (ms), message. Raises RecordError."""
    if not text.strip():
        return pl.DataFrame(schema=_EVENT_SCHEMA)
    try:
        return pl.read_ndjson(text, schema=_EVENT_SCHEMA)
    except pl.exceptions.PolarsError as error:
        raise _unreadable_page(path, error) from None


def _unreadable_page(path: Path, error: Exception) -> RecordError:
    return RecordError(f"{path} cannot be read: {error}", hint=f"Remove {path.parent} and collect again.")


def raw_group(run: RunDirectory, function: str) -> RawGroup:
    return RawGroup(run.raw_directory / "logs" / function)


def write_metrics(run: RunDirectory, answer: Mapping[str, Any]) -> None:
    write_atomically(
        run.raw_directory / "metrics.json.gz", gzip.compress(strict_json.dumps(answer).encode(), 6, mtime=0)
    )


def read_metrics(run: RunDirectory) -> dict[str, Any] | None:
    """Return GetMetricData's answers, or None if it was never asked."""
    try:
        answer: Any = strict_json.loads(gzip.decompress((run.raw_directory / "metrics.json.gz").read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RecordError(
            f"{run.raw_directory / 'metrics.json.gz'} cannot be read: {error}", hint="Remove it and collect again."
        ) from None
    if not isinstance(answer, dict) or not {"queries", "values"} <= set(answer):
        raise RecordError(
            f"{run.raw_directory / 'metrics.json.gz'} holds no answer of GetMetricData",
            hint="Remove it and collect again.",
        )
    return answer


def write_image_sizes(run: RunDirectory, size_bytes: Mapping[str, int]) -> None:
    write_atomically(run.raw_directory / "images.json", strict_json.dumps(size_bytes, indent=1) + "\n")


def read_image_sizes(run: RunDirectory) -> dict[str, int]:
    """Bytes of each image in ECR by its key, in older runs by its model; empty where they were never asked for."""
    try:
        found = strict_json.loads((run.raw_directory / "images.json").read_text())
        return {str(model): int(size) for model, size in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecordError(
            f"{run.raw_directory / 'images.json'} cannot be read: {error}",
            hint="Remove it and fetch it again: python analysis/collect.py --refresh",
        ) from None


def read_image_gb(run: RunDirectory, variants: Iterable[Variant]) -> dict[Image, float]:
    """GB of the images of these variants, as far as ECR told them."""
    found = read_image_sizes(run)
    sizes = {image: found.get(image.key, found.get(image.model)) for image in {one.image for one in variants}}
    return {image: size / BYTES_PER_GB for image, size in sizes.items() if size is not None}


@dataclass(frozen=True)
class ClientRange:
    """The client records of a file that begin at these bytes; a load test writes gigabytes."""

    path: Path
    start: int
    end: int

    def read(self) -> pl.DataFrame:
        """Return the records as `read_clients` does. Raises RecordError."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.start - 1))
            if self.start:
                file.readline()  # the end of a line of the range before
            data = file.read(max(0, self.end - file.tell()))
            if data and not data.endswith(b"\n"):
                data += file.readline()
        data = data[: data.rfind(b"\n") + 1]
        return _read_records(self.path, data) if data else no_clients()


def client_ranges(run: RunDirectory) -> list[ClientRange]:
    """All client records of a run, cut into pieces of some ten thousand."""
    return [
        ClientRange(path, start, start + RANGE_BYTES)
        for path in sorted(run.client_directory.glob("*.jsonl"))
        for start in range(0, path.stat().st_size, RANGE_BYTES)
    ]


def read_clients(run: RunDirectory) -> pl.DataFrame:
    """Client records of a run as a frame of `CLIENT_SCHEMA` and the handler's facts as a struct.

    A torn last line is passed over, any other bad line raises RecordError with its file and number.
    """
    return each_call_once(pl.concat([no_clients(), *(part.read() for part in client_ranges(run))]))


def no_clients() -> pl.DataFrame:
    """No record at all, with the columns of `read_clients`."""
    return pl.DataFrame(schema={**CLIENT_SCHEMA, "handler": pl.Struct(_FACT_FIELDS)}).with_columns(_CATEGORIES)


def each_call_once(clients: pl.DataFrame) -> pl.DataFrame:
    """Each call's first record: a resumed run never repeats a call, but a faulty writer may."""
    if clients["call_id"].is_unique().all():
        return clients
    return clients.unique("call_id", keep="first", maintain_order=True)


_CATEGORIES: Final = pl.col(*_FEW_VALUES).cast(pl.Categorical)


def _read_records(path: Path, data: bytes) -> pl.DataFrame:
    schema = {"schema_version": pl.Int32, **CLIENT_SCHEMA, "handler": pl.Struct(_FACT_FIELDS)}
    try:
        frame = pl.read_ndjson(data, schema=schema)
        needed = frame.select("schema_version", "call_id", "variant", "outcome", "intended_at")
        sound = bool((frame["schema_version"] == 1).all()) and not any(needed.null_count().row(0))
    except pl.exceptions.PolarsError:
        sound = False
    if not sound:
        for _ in read_client_records(path):
            pass  # raises with the line's number
        raise RecordError(f"{path} cannot be read as client records of schema version 1")
    return frame.drop("schema_version").with_columns(_CATEGORIES)


@contextmanager
def scratch_directory(run: RunDirectory) -> Iterator[Path]:
    """Make a directory next to a run's rows for what is written on the way to them, and remove it afterwards."""
    scratch = run.data_directory / ".parts"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_part(scratch: Path, number: int, rows: pl.DataFrame) -> None:
    """Write a part of the rows, of `ROW_SCHEMA`, for `write_rows` to put together."""
    rows.write_parquet(scratch / f"{number:06d}.parquet", compression="lz4", statistics=False)
    rows.write_csv(scratch / f"{number:06d}.csv", include_header=False)


def write_rows(run: RunDirectory, scratch: Path) -> None:
    """Write `data/invocations.parquet` and `.csv` from the parts, whole or not at all, without holding them all."""
    write_part(scratch, 0, pl.DataFrame(schema=ROW_SCHEMA))  # so that there is one
    pl.scan_parquet(scratch / "*.parquet").sink_parquet(scratch / "invocations.new", compression="zstd")
    with (scratch / "csv.new").open("wb") as file:
        file.write((",".join(ROW_SCHEMA) + "\n").encode())
        for part in sorted(scratch.glob("*.csv")):
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)
            part.unlink()
    (scratch / "invocations.new").replace(run.data_directory / "invocations.parquet")
    (scratch / "csv.new").replace(run.data_directory / "invocations.csv")


def read_rows(run: RunDirectory, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The invocations of a collected run, or some of their columns. Raises RecordError where it was not collected."""
    path = run.data_directory / "invocations.parquet"
    if not path.exists():
        raise RecordError(
            f"{run.root} holds no data/invocations.parquet", hint="Collect it first: python analysis/collect.py"
        )
    try:
        return pl.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RecordError(
            f"{path} cannot be read: {error}", hint=f"Write it again: inference-lab analysis report {run.run_id}"
        ) from None
