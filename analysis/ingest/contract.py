"""Check that raw logs and client records agree before they are joined, per variant. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from analysis.summary import DataWarning
from core.variants import Variant

CLOCK_OFF_S: Final = 5.0  # START may be outside a call by the clocks' usual difference, at most this much

# Of INVOCATION_COLUMNS, what the rules need.
CHECKED_COLUMNS: Final = (
    "request_id",
    "protocol",
    "trigger",
    "outcome",
    "logged_at",
    "init_ms",
    "sent_at",
    "answered_at",
)

_ADVICE: Final[Mapping[str, tuple[str, str]]] = {
    "wrong_memory_size": (
        "reports name another memory size than their variant has",
        "Deploy again with `cdk deploy`: the function was changed after it was deployed.",
    ),
    "duplicate_request_ids": (
        "rows share a request id with another row",
        "Look for two writers of one run's client records; measure again.",
    ),
    "clock_off": (
        "calls were logged outside the time between sending and answer",
        "Synchronize the client's clock (NTP): calls without a request id cannot be matched safely.",
    ),
}


@dataclass
class Breaches:
    """How often each rule of the contract is broken, by variant; filled while the logs are read."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def look_at(self, variant: Variant, memory_sizes_mb: pl.Series, rows: pl.DataFrame) -> None:
        """Check the memory sizes that one variant's reports name, and CHECKED_COLUMNS of all its rows."""
        ids = rows["request_id"].drop_nulls()
        start_s, init_s = pl.col("logged_at"), pl.col("init_ms").fill_null(0.0) / 1000
        outside = (start_s < pl.col("sent_at") - CLOCK_OFF_S) | (start_s - init_s > pl.col("answered_at") + CLOCK_OFF_S)
        found = {
            "wrong_memory_size": int((memory_sizes_mb != variant.memory_mb).sum())
            if (rows["protocol"] != "swapping").fill_null(value=True).all()
            else 0,
            "duplicate_request_ids": ids.len() - ids.n_unique(),
            "clock_off": rows.filter((pl.col("outcome") == "ok") & (pl.col("trigger") != "schedule") & outside).height,
        }
        for code, count in found.items():
            if count:
                self.counts.setdefault(code, {})[variant.key] = count

    def warnings(self) -> tuple[DataWarning, ...]:
        """One warning per broken rule; each caps every verdict at provisional."""
        return tuple(
            DataWarning(
                code=code,
                severity="serious",
                message=f"{sum(by_variant.values())} {_ADVICE[code][0]}.",
                advice=_ADVICE[code][1],
                variants=tuple(by_variant),
                count=sum(by_variant.values()),
                caps_verdicts=True,
            )
            for code, by_variant in self.counts.items()
        )
