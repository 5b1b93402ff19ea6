"""When requests are to be sent: the arrival times of a load shape. No I/O.

An open model: the times are fixed before the first request, and no answer, however late, moves them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.configuration import LoadTable

Spacing = Literal["even", "poisson"]
SPACINGS: Final[tuple[str, ...]] = get_args(Spacing)


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which the rate goes from one value to another in a straight line."""

    start_rps: float
    end_rps: float
    duration_s: float

    @property
    def arrivals(self) -> float:
        """Expected number of arrivals: the integral of the rate."""
        return (self.start_rps + self.end_rps) / 2 * self.duration_s

    def time_s(self, expected: float) -> float:
        """Time at which this many arrivals are expected: the inverse of the integral of the rate.

        From start*t + slope/2*t^2 = expected, in the form of the quadratic formula that stays exact as the slope
        goes to 0.
        """
        slope = (self.end_rps - self.start_rps) / self.duration_s
        root = math.sqrt(max(0.0, self.start_rps**2 + 2 * slope * expected))
        # A rate too small to be squared as a float has no arrival in any time that matters.
        doubled_mean_rps = self.start_rps + root
        return min(self.duration_s, 2 * expected / doubled_mean_rps) if expected > 0 and doubled_mean_rps > 0 else 0.0


@dataclass(frozen=True)
class Shape:
    """Offered rate over time."""

    name: str
    segments: tuple[Segment, ...]

    @property
    def duration_s(self) -> float:
        return math.fsum(segment.duration_s for segment in self.segments)

    @property
    def expected_arrivals(self) -> float:
        return math.fsum(segment.arrivals for segment in self.segments)

    @property
    def peak_rps(self) -> float:
        return max(max(segment.start_rps, segment.end_rps) for segment in self.segments)

    def arrivals(
        self, *, spacing: Spacing = "even", seed: int = 0, index: int = 0, count: int = 1
    ) -> Iterator[tuple[int, float]]:
        """Number and time of the arrivals n with n mod `count` == `index`, in ascending order.

        The n-th arrival is where the integral of the rate reaches a mark. "even": marks 0.5, 1.5, ..., so that
        spacings follow the rate and nothing else; a worker's share takes no longer for the others' shares. "poisson":
        marks of a Poisson process of rate 1, which makes the arrivals a Poisson process of the shape's rate (E. Cinlar,
        Introduction to Stochastic Processes, 4.7).
        """
        remaining = iter(self.segments)
        segment, before_s, before = next(remaining), 0.0, 0.0
        for number, mark in _marks(spacing, seed, index, count):
            while mark > before + segment.arrivals:
                before += segment.arrivals
                before_s += segment.duration_s
                following = next(remaining, None)
                if following is None:
                    return
                segment = following
            yield number, before_s + segment.time_s(mark - before)

    def number_of_arrivals(self, *, spacing: Spacing, seed: int) -> int:
        """Return how many arrivals there are."""
        if spacing == "poisson":
            return sum(1 for _ in self.arrivals(spacing=spacing, seed=seed))
        reached = 0.0
        for segment in self.segments:  # in the order that `arrivals` adds them up, for the same rounding
            reached += segment.arrivals
        return max(0, math.floor(reached - 0.5) + 1)


def _marks(spacing: Spacing, seed: int, index: int, count: int) -> Iterator[tuple[int, float]]:
    if spacing == "even":
        yield from ((n, n + 0.5) for n in itertools.count(index, count))
    else:
        draws = random.Random(seed)  # noqa: S311 - a reproducible sequence, nothing secret
        mark = 0.0
        for n in itertools.count():
            mark += draws.expovariate(1.0)
            if n % count == index:
                yield n, mark


def shape_of(table: LoadTable) -> Shape:
    """The shape that `[experiments.load]` describes."""
    if table.shape == "linear":
        segments: tuple[Segment, ...] = (Segment(table.start_rps, table.end_rps, table.duration_s),)
    elif table.shape in ("constant", "search"):  # the rates of a search are no higher
        segments = (Segment(table.end_rps, table.end_rps, table.duration_s),)
    else:
        segments = tuple(Segment(rate_rps, rate_rps, duration_s) for rate_rps, duration_s in table.steps)
    return Shape(table.shape, segments)
