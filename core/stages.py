"""Load stages: one variant under the whole load shape, as the load test writes them and others read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Final

from core import strict_json
from core.errors import RecordError
from core.run_directory import RunDirectory, append_line

STAGES_FILE: Final = "load-stages.jsonl"
INTERRUPTED: Final = "interrupted"  # the sender ended, not the load: a resumed run starts the stage again
RESTARTED: Final = "broken_off"  # protocol of calls whose stage was started again: in no figure


@dataclass
class LoadStage:
    """What a stage was to do and how it ended: one line of `load-stages.jsonl`."""

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

    @property
    def key(self) -> str:
        """What the call ids of this stage begin with."""
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
