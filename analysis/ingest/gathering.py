"""From a run's log pages and client records to its rows, one variant at a time, on all CPUs where it is worth it.

Client records are cut by variant into files first; then each variant's are joined with its log group, and its rows are
written. What is read ahead on other threads is a few pages, so no more than one variant is in memory. Threads are
enough, because compiled code and polars leave Python's lock to others.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl

from analysis.ingest.client_records import ClientRange, client_ranges, each_call_once, no_clients, record_shapes
from analysis.ingest.contract import CHECKED_COLUMNS, Breaches
from analysis.ingest.joining import decide, join_calls
from analysis.ingest.line_shapes import ShapeReader
from analysis.ingest.log_groups import gather_pages, read_events_of, shape_reader
from analysis.ingest.restarted_loads import label_broken_off
from analysis.ingest.run_files import ROW_SCHEMA, RawGroup, raw_group, rows_writer, scratch_directory
from core.configuration import Configuration
from core.run.records import Manifest
from core.run.run_directory import RunDirectory
from core.run.stages import complete_stages

Task = TypeVar("Task")
Result = TypeVar("Result")

# The compiled reader takes a second to start; below this size of the pages all takes less.
WORTH_SHAPES_BYTES: Final = 8_000_000
MAX_THREADS: Final = 4
READ_AHEAD: Final = 32  # pages, or ranges of client records
WRITTEN_ROWS: Final = 100_000  # at a time


@dataclass
class Gathered:
    """What the raw logs say besides the rows."""

    log_bytes: dict[str, float] = field(default_factory=dict)  # per invocation, by variant
    models: dict[str, dict[str, Any]] = field(default_factory=dict)  # descriptions, by the key of the image
    breaches: Breaches = field(default_factory=Breaches)


def make_rows(run: RunDirectory, manifest: Manifest, configuration: Configuration) -> Gathered:
    """Read and join everything, and write `data/invocations.parquet` and `.csv`. Raises RecordError."""
    variants = configuration.variants
    groups = [raw_group(run, configuration.names.function(variant)) for variant in variants]
    large = is_large(groups)
    whole_stages = complete_stages(run)
    gathered = Gathered()
    with scratch_directory(run, "clients") as scratch, rows_writer(run) as write, _mapper(parallel=large) as mapped:
        cut = partial(_cut_clients, {one.key for one in variants}, scratch, record_shapes() if large else None)
        records = sum(mapped(cut, enumerate(client_ranges(run))))
        paths = [group.pages() for group in groups]
        pages = mapped(partial(read_events_of, shapes=shape_reader() if large else None), chain.from_iterable(paths))
        for variant, its_paths in zip(variants, paths, strict=True):
            group = gather_pages(islice(pages, len(its_paths)))
            if group.model:
                gathered.models[variant.image.key] = group.model
            sizes_mb = group.invocations["memory_size_mb"]
            if len(sizes_mb):
                gathered.log_bytes[variant.key] = group.billed_bytes / len(sizes_mb)
            clients = _clients_of(scratch, variant.key, whole_stages)
            joined = join_calls(group.invocations, clients, WRITTEN_ROWS)
            del group, clients  # the join holds what it needs of them
            checked = [pl.DataFrame(schema={name: ROW_SCHEMA[name] for name in CHECKED_COLUMNS})]
            # All columns of a row take several times what they follow from: no more than a slice has them.
            for some in joined:
                rows = decide(some, variant, manifest.endpoint, manifest.run_id, logs_alone=not records)
                checked.append(rows.select(CHECKED_COLUMNS))
                write(rows)
            del joined  # before the next variant is read
            gathered.breaches.look_at(variant, sizes_mb, pl.concat(checked))
    return gathered


def is_large(groups: Iterable[RawGroup]) -> bool:
    """Whether these pages are worth more threads, and reading them by the shapes of their lines."""
    size = sum(path.stat().st_size for group in groups for path in group.directory.glob("*.gz"))
    return size >= WORTH_SHAPES_BYTES


@contextmanager
def _mapper(*, parallel: bool) -> Iterator[Any]:
    """Give a `map` that works on all CPUs and a little ahead, or on this one."""
    if not parallel:
        yield map
        return
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(cpus, MAX_THREADS)) as pool:
        try:
            yield partial(_map_ahead, pool)
        finally:
            pool.shutdown(cancel_futures=True)


def _map_ahead(pool: ThreadPoolExecutor, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Give the results in order; no more than `READ_AHEAD` are made or being made before they are taken."""
    ahead: deque[Future[Result]] = deque()
    for task in tasks:
        ahead.append(pool.submit(function, task))
        if len(ahead) >= READ_AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _cut_clients(
    keys: Collection[str], scratch: Path, shapes: ShapeReader | None, task: tuple[int, ClientRange]
) -> int:
    """Write a range of client records by variant; returns how many there are, those of other variants included."""
    number, part = task
    clients = part.read(shapes)
    for (key,), mine in clients.partition_by("variant", as_dict=True, maintain_order=True).items():
        if key in keys:
            directory = scratch / str(key)
            directory.mkdir(exist_ok=True)
            mine.write_ipc(directory / f"{number:06d}.arrow", compression="lz4")
    return clients.height


def _clients_of(scratch: Path, key: str, whole_stages: Collection[str] | None) -> pl.DataFrame:
    files = sorted((scratch / key).glob("*.arrow"))
    clients = each_call_once(pl.concat([no_clients(), *(pl.read_ipc(path) for path in files)]))
    return clients if whole_stages is None else label_broken_off(clients, whole_stages)
