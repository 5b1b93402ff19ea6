"""The panel that answers for other traffic: its controls, and the grid of answers that the page looks up. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from analysis.report.wording import STRATEGY_NAMES, count_text, number_text, rounded
from analysis.summary import Axis, Strategy, Summary, WhatIf
from simulation.arrivals import BURST_S


@dataclass(frozen=True)
class Control:
    """One slider: its steps in words, and the step of the run's own traffic and goal."""

    id: Axis
    label: str
    steps: tuple[str, ...]
    own: int

    @property
    def text(self) -> str:
        return self.steps[self.own]


def _burst_text(index: float) -> str:
    # The rate of a source that is switched on, over its mean: `simulation.arrivals`.
    more_rps = (index - 1) / (2 * BURST_S)
    return "random arrivals" if index <= 1 else f"bursts add {number_text(more_rps, digits=1)} requests/s"


_STEPS: Final[tuple[tuple[Axis, str, Callable[[float], str]], ...]] = (
    ("requests_per_day", "Requests per day", count_text),
    ("burstiness", "Burstiness", lambda index: f"{count_text(index)}, {_burst_text(index)}"),
    ("idle_minutes", "Idle environments live", lambda minutes: f"{count_text(minutes)} minutes"),
    ("limit_ms", "Limit of the goal", lambda limit_ms: f"{count_text(limit_ms)} ms"),
)


def controls(summary: Summary, grid: WhatIf) -> tuple[Control, ...]:
    """The sliders, set to what the run's own configuration says."""
    own = {
        "requests_per_day": summary.traffic["requests_per_day"],
        "burstiness": summary.traffic["burstiness"],
        "idle_minutes": summary.traffic["idle_minutes"],
        "limit_ms": summary.recommendation.goal["limit_ms"],
    }
    return tuple(
        Control(axis, label, tuple(text(step) for step in grid.axes[axis]), grid.axes[axis].index(own[axis]))
        for axis, label, text in _STEPS
    )


def panel_data(summary: Summary) -> dict[str, Any] | None:
    """Return the data that the page's script looks up: one row of numbers per answer, names once."""
    grid = summary.what_if
    if grid is None or grid.reason:
        return None
    names = list(dict.fromkeys(answer.variant for answer in grid.answers if answer.variant))
    strategies: list[Strategy] = list(dict.fromkeys(way for answer in grid.answers for way in answer.strategy_usd))
    return {
        "steps": [len(grid.axes[axis]) for axis, _, _ in _STEPS],
        "names": [summary.name_of(name) for name in names],
        "strategies": [STRATEGY_NAMES[way] for way in strategies],
        "answers": [
            [
                names.index(answer.variant),
                strategies.index(answer.strategy),
                answer.environments,
                int(answer.meets),
                rounded(answer.missed),
                rounded(answer.missed_low),
                rounded(answer.missed_high),
                rounded(answer.cold_share),
                -1 if answer.p99_unanswered else rounded(answer.p99_ms),
                *(rounded(answer.strategy_usd.get(way)) for way in strategies),  # null: of other start modes
            ]
            if answer.variant is not None and answer.strategy is not None
            else []
            for answer in grid.answers
        ],
    }
