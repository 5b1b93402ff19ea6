"""How long an idle environment lives, as far as a run's own logs show it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import polars as pl

# What has been observed of AWS, which publishes no figure.
SHORTEST_MINUTES, LONGEST_MINUTES = 5.0, 60.0


@dataclass(frozen=True)
class IdleLife:
    """Gaps between scheduled calls, in minutes, after which an environment was still there, and after which it was not.

    A gap ends a call and begins the next of the same function. None where no gap ended in that way.
    """

    longest_kept: float | None
    shortest_lost: float | None
    gaps: int

    @property
    def minutes(self) -> tuple[float, float]:
        """The range of the life: between the two gaps, or what was observed of AWS on the side that no gap shows.

        Where environments live differently long, the gaps overlap, and the range is that of the overlap.
        """
        low = self.longest_kept or min(SHORTEST_MINUTES, self.shortest_lost or SHORTEST_MINUTES)
        high = self.shortest_lost or max(LONGEST_MINUTES, low)
        return min(low, high), max(low, high)


def find_idle_life(rows: pl.DataFrame, time_scale: float) -> IdleLife | None:
    """Return what the scheduled calls of a run show, or None where they show nothing.

    Only these leave their function alone in between: the other experiments replace environments. A first start after a
    deployment and a start ahead of the call say nothing of a life. A lab's gaps count by its clock.
    """
    calls = rows.filter(
        (pl.col("experiment") == "cold")
        & (pl.col("protocol") == "scheduled")
        & pl.col("logged_at").is_not_null()
        & pl.col("duration_ms").is_not_null()
    ).sort("variant", "logged_at")
    kept: list[float] = []
    lost: list[float] = []
    for (variant, *_, ended_s), (following, started_s, start, is_first, init_status, _) in pairwise(_moments(calls)):
        if variant != following or is_first or init_status == "ahead" or started_s <= ended_s:
            continue
        minutes = (started_s - ended_s) * time_scale / 60
        if start == "warm":
            kept.append(minutes)
        elif start == "cold":
            lost.append(minutes)
    if not kept and not lost:
        return None
    return IdleLife(max(kept, default=None), min(lost, default=None), len(kept) + len(lost))


def _moments(calls: pl.DataFrame) -> list[tuple[str, float, str, bool, str | None, float]]:
    """Variant, start, start type, whether first after a deployment, status of the init, and end of each call."""
    return calls.select(
        "variant",
        # START is logged after the init; the environment was missing before it.
        pl.col("logged_at") - pl.col("init_ms").fill_null(0.0) / 1000,
        "start_type",
        "first_after_deploy",
        "init_status",
        (pl.col("logged_at") + pl.col("duration_ms") / 1000).alias("ended_at"),
    ).rows()
