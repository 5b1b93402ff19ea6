"""Why sampling of a part of the plan stopped, as the experiments write it and the report shows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from core import strict_json
from core.run.records import Experiment
from core.run.run_directory import RunDirectory, append_line

STOPS_FILE: Final = "stops.jsonl"

StopReason = Literal[
    "samples",  # the planned number of calls was made
    "ci_reached",  # the confidence interval is as narrow as asked for
    "meets",  # the calls show that the variant keeps the goal
    "fails",  # the calls show that the variant does not
    "dearer",  # another variant keeps the goal and costs less
    "max_samples",  # the bound on calls was reached before that
    "cannot_run",  # the variant failed often enough to show that it cannot run
    "over_concurrency",  # the account allows fewer environments than the burst asks for
    "incomplete",  # calls are missing, for example because a schedule fired less often than planned
    "broken_off",  # the load stage was interrupted; a resumed run starts it again
]
AS_PLANNED: Final[frozenset[StopReason]] = frozenset({"samples", "ci_reached", "meets"})


@dataclass(frozen=True)
class Stop:
    """Why a part of the plan stopped: one line of `stops.jsonl`."""

    experiment: Experiment
    protocol: str
    variant: str
    connection: str
    reason: StopReason
    detail: str
    samples: int
    half_width_percent: FiniteFloat | None = None


_ROW: Final = TypeAdapter(Stop)


def append_stop(run: RunDirectory, stop: Stop) -> None:
    """Write down why a part of the plan stopped."""
    append_line(run.root / STOPS_FILE, strict_json.dumps(asdict(stop)))


def read_stops(run: RunDirectory) -> list[Stop]:
    """Return the reasons of a run; if a resumed run gave several for the same part, the last one.

    A line that a kill tore, that a bad disk damaged, or that is of another version, is skipped.
    """
    latest: dict[tuple[str, ...], Stop] = {}
    path = run.root / STOPS_FILE
    if not path.exists():
        return []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            stop = _ROW.validate_json(line, strict=True)
        except ValidationError:
            continue
        latest[stop.experiment, stop.protocol, stop.variant, stop.connection] = stop
    return list(latest.values())
