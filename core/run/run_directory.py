"""The files of a run: append-only records that survive a kill, and the paths of everything else."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from pydantic import ValidationError

from core import strict_json
from core.errors import RecordError
from core.paths import RESULTS_DIRECTORY
from core.run.records import ClientRecord, Manifest

MANIFEST_FILE: Final = "manifest.json"
SUMMARY_FILE: Final = "summary.json"
SUMMARY_TEXT_FILE: Final = "summary.md"
ROWS_FILE: Final = "data/invocations.parquet"
RUN_ID: Final = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]{4}$")


def new_run_id(now: float | None = None) -> str:
    """A name that sorts by time, for example `20261124T101500Z-3fa9`."""
    moment = time.gmtime(time.time() if now is None else now)
    return f"{time.strftime('%Y%m%dT%H%M%SZ', moment)}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class RunDirectory:
    """Paths below `results/<run_id>/`."""

    root: Path

    @property
    def run_id(self) -> str:
        return self.root.name

    @property
    def manifest_path(self) -> Path:
        return self.root / MANIFEST_FILE

    @property
    def client_directory(self) -> Path:
        """JSON Lines of client records, one file per writer: `cold.jsonl`, `warm.jsonl`, `load-<worker>.jsonl`."""
        return self.root / "client"

    def load_path(self, writer: int | str) -> Path:
        """The client records that one worker of a load test writes."""
        return self.client_directory / f"load-{writer}.jsonl"

    def load_paths(self) -> list[Path]:
        """The client records of all load tests, warm-ups included."""
        return sorted(self.client_directory.glob("load*.jsonl"))

    def client_paths(self) -> list[Path]:
        """The client records of all experiments."""
        return sorted(self.client_directory.glob("*.jsonl"))

    @property
    def raw_directory(self) -> Path:
        """CloudWatch's answers, kept so that the report can be regenerated offline."""
        return self.root / "raw"

    @property
    def data_directory(self) -> Path:
        return self.root / "data"

    @property
    def rows_path(self) -> Path:
        """One row for each invocation, with the columns of `core.run.records.INVOCATION_COLUMNS`."""
        return self.root / ROWS_FILE

    @property
    def figures_directory(self) -> Path:
        return self.root / "figures"

    @property
    def summary_path(self) -> Path:
        return self.root / SUMMARY_FILE

    @property
    def summary_text_path(self) -> Path:
        return self.root / SUMMARY_TEXT_FILE

    @property
    def report_path(self) -> Path:
        return self.root / "report.html"

    def write_manifest(self, manifest: Manifest) -> None:
        write_atomically(self.manifest_path, manifest.model_dump_json(indent=2) + "\n")

    def read_manifest(self) -> Manifest:
        """Raises RecordError where the manifest is missing or of another version."""
        try:
            return Manifest.model_validate(strict_json.loads(self.manifest_path.read_bytes()))
        except OSError:
            raise RecordError(
                f"{self.root} holds no {MANIFEST_FILE}", hint="Name a run's directory below results/, or `latest`."
            ) from None
        except ValueError as error:
            raise RecordError(f"{self.manifest_path} is not a manifest of this version: {error}") from None

    def client_records(self) -> Iterator[ClientRecord]:
        """Every client record of the run; a last line that a kill tore is left out."""
        for path in self.client_paths():
            yield from read_client_records(path)


def create_run(results: Path = RESULTS_DIRECTORY, *, run_id: str | None = None) -> RunDirectory:
    """Make the directories of a new run."""
    run = RunDirectory(results / (run_id or new_run_id()))
    run.client_directory.mkdir(parents=True, exist_ok=False)
    return run


def find_run(name: str = "latest", results: Path = RESULTS_DIRECTORY) -> RunDirectory:
    """The run of this name, path, or the newest for `latest`. Raises RecordError."""
    if name == "latest":
        runs = sorted(path for path in results.glob("*") if RUN_ID.match(path.name) and (path / MANIFEST_FILE).exists())
        if not runs:
            raise RecordError(
                f"no run in {results.resolve()}", hint="Measure first: `make demo`, or `inference-lab experiments run`."
            )
        return RunDirectory(runs[-1])
    for candidate in (results / name, Path(name)):
        if (candidate / MANIFEST_FILE).exists():
            return RunDirectory(candidate)
    raise RecordError(f"run {name!r} is not in {results.resolve()}", hint="`ls results/` lists the runs.")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append a line and bring it to disk; half a line that a kill left before it is cut, or both would be lost."""
    _mend_torn_end(path)
    with path.open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


class RecordWriter:
    """Appends client records; what was appended is on disk within `sync_every_s`, and a kill loses no more than that.

    Safe to use from several threads of one process; each process takes its own file.
    """

    def __init__(self, path: Path, *, sync_every_s: float = 0.5, fsync: Callable[[int], object] = os.fsync) -> None:
        """`fsync` may be one that does not block an event loop; it is called with the file's descriptor."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend_torn_end(path)
        self._file: IO[bytes] = path.open("ab")
        self._lock = threading.Lock()
        self._sync_every_s = sync_every_s
        self._dirty = False
        self._fsync = fsync
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sync_loop, name=f"sync {path.name}", daemon=True)
        self._thread.start()

    def append(self, record: ClientRecord) -> None:
        """Hand one record to the kernel; it survives a kill of this process from here on."""
        line = record.model_dump_json().encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            self._dirty = True

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join()
            self._sync()
            self._file.close()

    def _sync_loop(self) -> None:
        while not self._closed.wait(self._sync_every_s):
            self._sync()

    def _sync(self) -> None:
        with self._lock:
            dirty, self._dirty = self._dirty, False
        if dirty:
            self._fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_client_records(path: Path) -> Iterator[ClientRecord]:
    """Records of one file in the order they were written.

    A torn last line (no newline) is passed over; any other line that is not a record raises RecordError.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield ClientRecord.model_validate_json(line)
            except ValidationError as error:
                raise RecordError(
                    f"{path}:{number} is not a client record of schema version 1: "
                    f"{strict_json.dumps(line[:80].decode(errors='replace'))}",
                    hint=str(error.errors()[0]["msg"]),
                ) from None


def _mend_torn_end(path: Path) -> None:
    """Cut a half line that a kill left at the end, so that the next record starts on a new line."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    if size == 0:
        return
    with path.open("rb+") as file:
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        keep = file.read().rfind(b"\n") + 1
        file.truncate(keep)
