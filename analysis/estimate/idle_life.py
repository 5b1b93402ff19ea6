"""How long an idle environment lives, as far as a run's own logs show it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import polars as pl

# What has been observed of AWS, which publishes no figure.
SHORTEST_MINUTES, LONGEST_MINUTES = 5.0, 60.0
_FARTHEST_INTERVALS: Final = 2


@dataclass(frozen=True)
class IdleLife:
    """Gaps between scheduled calls, in minutes, after which an environment was still there, and after which it was not.

    A gap ends a call and begins the next of the same function. None where no gap ended in that way.
    """

    longest_kept: float | None
    shortest_lost: float | None
    gaps: int

    @property
    def source(self) -> str:
        """Where the range comes from, as the end of a sentence."""
        shown = f"as {self.gaps} gap{'s' * (self.gaps != 1)} between scheduled calls show{'s' * (self.gaps == 1)}"
        if self.longest_kept is None:
            return f"{shown}; the lower end is assumed"
        return shown if self.shortest_lost is not None else f"{shown}; the upper end is assumed"

    @property
    def minutes(self) -> tuple[float, float]:
        """The range of the life: between the two gaps, or what was observed of AWS on the side that no gap shows.

        If environments live for different times, the gaps overlap, and the range is the overlap.
        """
        low = self.longest_kept or min(SHORTEST_MINUTES, self.shortest_lost or SHORTEST_MINUTES)
        high = self.shortest_lost or max(LONGEST_MINUTES, low)
        return min(low, high), max(low, high)


def find_idle_life(rows: pl.DataFrame, interval_minutes: float, time_scale: float) -> IdleLife | None:
    """Return what the scheduled calls of a run show, or None where they show nothing.

    Only these leave their function alone in between: the other experiments replace environments, so a gap of more than
    two intervals, as between two windows of a resumed run, says nothing. Nor does one after a call that failed, which
    may have ended its environment, or whose end is not known; nor a first start after a deployment or one ahead of the
    call. A lab's gaps count by its clock.
    """
    calls = rows.filter((pl.col("experiment") == "cold") & (pl.col("protocol") == "scheduled"))
    kept: list[float] = []
    lost: list[float] = []
    for before, after in pairwise(_moments(calls)):
        if before.variant != after.variant or not before.is_ok or not after.tells:
            continue
        minutes = (after.started_s - before.ended_s) * time_scale / 60
        if not 0 < minutes <= _FARTHEST_INTERVALS * interval_minutes:
            continue
        if after.start_type == "warm":
            kept.append(minutes)
        elif after.start_type == "cold":
            lost.append(minutes)
    if not kept and not lost:
        return None
    return IdleLife(max(kept, default=None), min(lost, default=None), len(kept) + len(lost))


class _Moment(NamedTuple):
    """When a call began and ended on the platform, and what its start shows about idle life."""

    variant: str
    started_s: float
    ended_s: float
    start_type: str
    is_ok: bool
    tells: bool


def _moments(calls: pl.DataFrame) -> list[_Moment]:
    """Each scheduled call in its order, those without a log too: they came between two others."""
    logged, ended = pl.col("logged_at").is_not_null(), pl.col("duration_ms").is_not_null()
    ahead = pl.col("init_status").fill_null("") == "ahead"
    # START is logged after the init; the environment was missing before it.
    started = pl.col("logged_at") - pl.col("init_ms").fill_null(0.0) / 1000
    table = calls.sort("variant", pl.coalesce("logged_at", "intended_at")).select(
        "variant",
        started.fill_null(0.0),
        (pl.col("logged_at") + pl.col("duration_ms") / 1000).fill_null(0.0).alias("ended_s"),
        "start_type",
        (pl.col("outcome") == "ok") & logged & ended,
        (logged & ~pl.col("first_after_deploy") & ~ahead).alias("tells"),
    )
    return [_Moment(*row) for row in table.rows()]
