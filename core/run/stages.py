"""Load stages: one variant under the whole load shape, as the load test writes them and others read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

from core import strict_json
from core.configuration import GoalTable, LoadTable
from core.errors import RecordError
from core.run.records import ClientRecord
from core.run.run_directory import RunDirectory, append_line
from core.statistics.rate_search import HighestRate, Search, Step, look

STAGES_FILE: Final = "load-stages.jsonl"
INTERRUPTED: Final = "interrupted"  # the sender ended, not the load: a resumed run starts the stage again
RESTARTED: Final = "broken_off"  # protocol of calls whose stage was started again: in no figure
NUMBER_IN_STAGE: Final = r"-\d+$"  # what a call id adds to its stage's key, as a regular expression
SEARCH: Final = "search"  # protocol of a search for the highest rate: one stage per rate
LOWEST_PART: Final = 1024.0  # of its highest rate: a search gives up below


@dataclass
class LoadStage:
    """A stage's plan and how it ended: one line of `load-stages.jsonl`."""

    stage: int
    variant: str
    name: str
    protocol: str
    spacing: str
    started_at: float
    duration_s: float
    offered: int
    workers: int
    late_after_ms: float
    stopped_because: str = ""  # "" where the whole shape was sent
    lost_workers: list[int] = field(default_factory=list)
    finished_at: float | None = None
    rate_rps: float | None = None  # of a step of a search
    lead_in_s: float = 0.0  # of a step of a search: not counted

    @property
    def key(self) -> str:
        """Return the prefix of this stage's call ids."""
        return stage_key(self.variant, self.started_at)

    @property
    def interrupted(self) -> bool:
        return self.stopped_because == INTERRUPTED


def stage_key(variant: str, started_at: float) -> str:
    """Return what the call ids of a stage begin with; `started_at` counts whole milliseconds."""
    return f"load-{variant}-{started_at * 1000:.0f}"


def stage_of(call_id: str) -> str:
    """Return the key of the stage that a load call belongs to."""
    return call_id.rpartition("-")[0]


def number_of(call_id: str) -> int:
    """Return the number of a load call within its stage."""
    return int(call_id.rpartition("-")[2])


def append_stage(run: RunDirectory, stage: LoadStage) -> None:
    """Write down a stage that ended."""
    append_line(run.root / STAGES_FILE, strict_json.dumps(asdict(stage)))


def read_stages(run: RunDirectory) -> list[LoadStage] | None:
    """Return the stages that ended, in order; None where this run has no record of any.

    A line that is not JSON, as a kill tears it, is skipped: the stage it describes has no complete record. Raises
    RecordError for a file that cannot be read and for a line that is JSON but does not describe a stage.
    """
    path = run.root / STAGES_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from None
    stages = []
    for number, line in enumerate(lines, start=1):
        try:
            found = strict_json.loads(line)
        except ValueError:
            continue
        try:
            stage = LoadStage(**found)
            stage_key(stage.variant, stage.started_at)
        except (TypeError, ValueError):
            raise RecordError(
                f"{path}:{number} does not describe a load stage: {line[:80]!r}",
                hint="Remove that line; the calls of its load then count as interrupted.",
            ) from None
        stages.append(stage)
    return stages


def complete_stages(run: RunDirectory) -> frozenset[str] | None:
    """Return the keys of the stages that were not interrupted; None where this run has no record of any stage."""
    stages = read_stages(run)
    return None if stages is None else frozenset(stage.key for stage in stages if not stage.interrupted)


def search_of(table: LoadTable, goal: GoalTable) -> Search:
    """Return what shape = "search" looks for: the highest rate that keeps `[goal]`, up to `end_rps`."""
    return Search(goal.max_bad_share, table.end_rps, table.end_rps / LOWEST_PART, table.search_calls)


def search_steps(run: RunDirectory, variant: str, limit_ms: float) -> list[Step]:
    """Return the steps that a variant's search has made, from the calls on disk; interrupted ones left out."""
    return [
        search_step(run, stage, limit_ms)
        for stage in read_stages(run) or []
        if stage.variant == variant and stage.protocol == SEARCH and not stage.interrupted
    ]


def search_step(run: RunDirectory, stage: LoadStage, limit_ms: float) -> Step:
    """Count the calls of one step and those that missed the limit.

    A call that failed missed it, and so did an arrival for which the sender had no room. The lead-in counts only where
    the step ended early, as it does after many failures in a row.
    """
    since = stage.started_at + (0.0 if stage.stopped_because else stage.lead_in_s)
    calls = {record.call_id: record for record in _records_of(run, stage.key) if record.intended_at >= since}
    missed = [record for record in calls.values() if not _is_in_time(record.latency_from_intended_ms, record, limit_ms)]
    late = sum(_is_in_time(record.client_latency_ms, record, limit_ms) for record in missed)
    return Step(stage.rate_rps or 0.0, len(missed), len(calls), late)


def search_result(run: RunDirectory, variant: str, search: Search, limit_ms: float) -> HighestRate | None:
    """Return what a variant's search has found; None where it was never searched."""
    steps = search_steps(run, variant, limit_ms)
    return look(steps, search)[0] if steps else None


def _is_in_time(latency_ms: float | None, record: ClientRecord, limit_ms: float) -> bool:
    # The set-up of a connection is the client's own, as in every figure of a load.
    return record.outcome == "ok" and latency_ms is not None and latency_ms - (record.connect_ms or 0.0) <= limit_ms


def _records_of(run: RunDirectory, key: str) -> Iterator[ClientRecord]:
    mark = f'"{key}-'.encode()  # few of many lines are parsed: a search reads its records after every step
    for path in run.load_paths():
        with path.open("rb") as file:
            yield from (
                ClientRecord.model_validate_json(line) for line in file if mark in line and line.endswith(b"\n")
            )
