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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import polars as pl
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from core import strict_json
from core.errors import RecordError
from core.money.charges import BYTES_PER_GB
from core.run.records import INVOCATION_COLUMNS
from core.run.run_directory import ROWS_FILE, RunDirectory, write_atomically
from core.variants import Image, Variant

ROW_SCHEMA: Final[dict[str, Any]] = {name: getattr(pl, kind) for name, kind in INVOCATION_COLUMNS.items()}

# Texts that few rows share; to look for each value in a dictionary first takes as long as all else about the column.
_UNLIKE: Final = frozenset({"call_id", "request_id", "gateway_request_id"})
_DICTIONARIES: Final = [name for name, kind in ROW_SCHEMA.items() if kind == pl.String and name not in _UNLIKE]

MOST_COMPRESSED: Final = 1032  # deflate's highest ratio: two bits for 258 bytes

_EVENT_SCHEMA: Final[dict[str, Any]] = {"logStreamName": pl.String, "timestamp": pl.Int64, "message": pl.String}


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

    def pages(self) -> list[Path]:
        """Return the files of the pages. Raises RecordError."""
        cursor = self.cursor
        return [self.directory / f"{number:06d}.jsonl.gz" for number in range(cursor.pages if cursor else 0)]


def read_page(path: Path) -> bytes:
    """Return a page as it is stored, one JSON object per line. Raises RecordError."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise _unreadable_page(path, str(error)) from None
    # The last four bytes are the length: RFC 1952. Arrow's reader takes two thirds of the time of the gzip module, but
    # takes the length on trust: it would read nothing for 0, and reserve whatever a damaged one says.
    length = int.from_bytes(packed[-4:], "little")
    try:
        if 0 < length <= MOST_COMPRESSED * len(packed):
            page: bytes = pa.Codec("gzip").decompress(packed, length, asbytes=True)
            return page
        if packed and not gzip.decompress(packed):
            return b""
    except (OSError, EOFError, zlib.error):
        pass
    raise _unreadable_page(path, "it is not a complete gzip file")


def read_events(path: Path, text: bytes) -> pl.DataFrame:
    """Events of a page, or of some of its lines: logStreamName, timestamp (ms), message. Raises RecordError."""
    if not text.strip():
        return pl.DataFrame(schema=_EVENT_SCHEMA)
    try:
        return pl.read_ndjson(text, schema=_EVENT_SCHEMA)
    except pl.exceptions.PolarsError as error:
        raise _unreadable_page(path, str(error)) from None


def _unreadable_page(path: Path, reason: str) -> RecordError:
    return RecordError(f"{path} cannot be read: {reason}", hint=f"Remove {path.parent} and collect again.")


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
    """Bytes of each image in ECR by its key; empty where they were never asked for."""
    try:
        found = strict_json.loads((run.raw_directory / "images.json").read_text())
        return {str(key): int(size) for key, size in found.items()}
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
    sizes = {image: found.get(image.key) for image in {one.image for one in variants}}
    return {image: size / BYTES_PER_GB for image, size in sizes.items() if size is not None}


@contextmanager
def scratch_directory(run: RunDirectory, name: str) -> Iterator[Path]:
    """Make a directory next to a run's rows for what is written on the way to them, and remove it afterwards."""
    scratch = run.data_directory / f".{name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def rows_writer(run: RunDirectory) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Write `data/invocations.parquet` and `.csv`, whole or not at all, from frames of `ROW_SCHEMA`, one by one.

    A frame is written while the next one is made.
    """
    nothing = pl.DataFrame(schema=ROW_SCHEMA)
    with scratch_directory(run, "rows") as scratch:
        parquet_path = scratch / run.rows_path.name
        csv_path = parquet_path.with_suffix(".csv")
        with (
            ParquetWriter(
                parquet_path,
                _as_arrow(nothing).schema,
                compression="zstd",
                use_dictionary=_DICTIONARIES,
                store_schema=False,
            ) as parquet,
            csv_path.open("wb") as csv,
            ThreadPoolExecutor(1) as background,
        ):
            nothing.write_csv(csv)

            def write(rows: pl.DataFrame) -> None:
                parquet.write_table(_as_arrow(rows))
                rows.write_csv(csv, include_header=False)

            written = background.submit(lambda: None)

            def write_after(rows: pl.DataFrame) -> None:
                nonlocal written
                written.result()
                written = background.submit(write, rows)

            yield write_after
            written.result()
        parquet_path.replace(run.rows_path)
        csv_path.replace(run.rows_path.with_suffix(".csv"))


def _as_arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.newest())  # the oldest one copies all strings


def rewrite_hint(run: RunDirectory) -> str:
    """What repairs a file that the analysis wrote."""
    return f"Write it again: inference-lab analysis report {run.run_id}"


def read_rows(run: RunDirectory, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The invocations of a collected run, or some of their columns. Raises RecordError where it was not collected."""
    path = run.rows_path
    if not path.exists():
        raise RecordError(f"{run.root} holds no {ROWS_FILE}", hint="Collect it first: python analysis/collect.py")
    try:
        return pl.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RecordError(f"{path} cannot be read: {error}", hint=rewrite_hint(run)) from None
