"""From a run's log pages and client records to its rows, one variant at a time, on several CPUs where it is worth it.

No process holds more than one variant: client records are cut by variant into files first, then each variant's are
joined with its log group and written as a part of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl

from analysis.ingest.contract import Breaches
from analysis.ingest.joining import join_variant
from analysis.ingest.log_groups import read_group, shape_reader
from analysis.ingest.restarted_loads import label_broken_off
from analysis.ingest.run_files import (
    ClientRange,
    RawGroup,
    client_ranges,
    each_call_once,
    no_clients,
    raw_group,
    scratch_directory,
    write_part,
    write_rows,
)
from core.configuration import Configuration
from core.records import EndpointFacts, Manifest
from core.run_directory import RunDirectory
from core.stages import complete_stages
from core.variants import Variant

Task = TypeVar("Task")
Result = TypeVar("Result")
Mapper = Callable[[Callable[[Task], Result], Iterable[Task]], Iterable[Result]]

# Processes take a second to start, and the compiled reader too; below this size of the pages all takes less.
WORTH_PROCESSES_BYTES: Final = 20_000_000
MAX_PROCESSES: Final = 4


@dataclass
class Gathered:
    """What the raw logs say besides the rows."""

    log_bytes: dict[str, float] = field(default_factory=dict)  # per invocation, by variant
    models: dict[str, dict[str, Any]] = field(default_factory=dict)  # descriptions, by the key of the image
    breaches: Breaches = field(default_factory=Breaches)


@dataclass(frozen=True)
class _Part:
    """One variant's rows to be made, by another process perhaps."""

    number: int
    variant: Variant
    group: RawGroup
    scratch: Path
    endpoint: EndpointFacts
    run_id: str
    whole_stages: Collection[str] | None
    logs_alone: bool
    by_shape: bool


def make_rows(run: RunDirectory, manifest: Manifest, configuration: Configuration) -> Gathered:
    """Read and join everything, and write `data/invocations.parquet` and `.csv`. Raises RecordError."""
    variants = configuration.variants
    groups = [raw_group(run, configuration.names.function(variant)) for variant in variants]
    large = is_large(groups)
    whole_stages = complete_stages(run)
    gathered = Gathered()
    with scratch_directory(run) as scratch, _mapper(parallel=large) as mapped:
        cut = partial(_cut_clients, [variant.key for variant in variants], scratch)
        records = sum(mapped(cut, list(enumerate(client_ranges(run)))))
        parts = [
            _Part(
                number=number,
                variant=variant,
                group=group,
                scratch=scratch,
                endpoint=manifest.endpoint,
                run_id=manifest.run_id,
                whole_stages=whole_stages,
                logs_alone=not records,
                by_shape=large,
            )
            for number, (variant, group) in enumerate(zip(variants, groups, strict=True), start=1)
        ]
        for found in mapped(_make_part, parts):
            gathered.log_bytes |= found.log_bytes
            gathered.models |= found.models
            gathered.breaches.add(found.breaches)
        write_rows(run, scratch)
    return gathered


def is_large(groups: Iterable[RawGroup]) -> bool:
    """Whether these pages are worth more processes, and reading them by the shapes of their lines."""
    size = sum(path.stat().st_size for group in groups for path in group.directory.glob("*.gz"))
    return size >= WORTH_PROCESSES_BYTES


@contextmanager
def _mapper(*, parallel: bool) -> Iterator[Any]:
    """Give a `map` that works on all CPUs, or on this one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not parallel or cpus == 1:
        yield map
        return
    # Spawned, not forked: polars has threads, which a fork would leave in an undefined state.
    with ProcessPoolExecutor(min(cpus, MAX_PROCESSES), mp_context=get_context("spawn")) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _clients_of(scratch: Path, key: str) -> Path:
    return scratch / "clients" / key


def _cut_clients(keys: Sequence[str], scratch: Path, task: tuple[int, ClientRange]) -> int:
    """Write a range of client records by variant; returns how many there are, those of other variants included."""
    number, part = task
    clients = part.read()
    for (key,), mine in clients.partition_by("variant", as_dict=True, maintain_order=True).items():
        if key in keys:
            directory = _clients_of(scratch, str(key))
            directory.mkdir(parents=True, exist_ok=True)
            mine.write_ipc(directory / f"{number:06d}.arrow", compression="lz4")
    return clients.height


def _make_part(part: _Part) -> Gathered:
    """Read, join, and write the rows of one variant. Raises RecordError."""
    gathered = Gathered()
    variant = part.variant
    group = read_group(part.group, shape_reader() if part.by_shape else None)
    logged = group.invocations
    if group.model:
        gathered.models[variant.image.key] = group.model
    files = sorted(_clients_of(part.scratch, variant.key).glob("*.arrow"))
    clients = each_call_once(pl.concat([no_clients(), *(pl.read_ipc(path) for path in files)]))
    if part.whole_stages is not None:
        clients = label_broken_off(clients, part.whole_stages)
    if logged.height:
        gathered.log_bytes[variant.key] = group.billed_bytes / logged.height
    if logged.height or clients.height:
        rows = join_variant(variant, logged, clients, part.endpoint, part.run_id, logs_alone=part.logs_alone)
        gathered.breaches.look_at(variant, logged, rows)
        write_part(part.scratch, part.number, rows)
    return gathered
