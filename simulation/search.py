"""Searches over simulated months: cheapest provisioned level, highest rate that holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from simulation.month import Month

MAX_LEVEL: Final = 3000


def lowest_level(holds: Callable[[int], bool]) -> int | None:
    """Return the lowest level from 1 on that holds, by bisection; None where no level up to 3,000 does."""
    low, high = 0, 1
    while not holds(high):
        if high == MAX_LEVEL:
            return None
        low, high = high, min(2 * high, MAX_LEVEL)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def cheapest_level(of: Callable[[int], Month], *, first: int, max_missed_share: float = 1.0) -> Month | None:
    """Return the cheapest month over provisioned levels from 1 on of those that keep the missed share.

    `first` is where the search for the cheapest begins (Erlang B's answer). Fewer callers miss with a higher level, so
    the lowest level that holds is found by bisection; from there, or from `first`, the cost is followed downhill.
    None where no level up to 3,000 holds.
    """
    months: dict[int, Month] = {}

    def at(level: int) -> Month:
        if level not in months:
            months[level] = of(level)
        return months[level]

    def holds(level: int) -> bool:
        return at(level).missed_share.value <= max_missed_share

    lowest = lowest_level(holds)
    if lowest is None:
        return None
    level = max(lowest, first)
    for step in (-1, 1):
        while level + step >= lowest and at(level + step).usd.value < at(level).usd.value:
            level += step
    return at(level)


def highest_rate(of: Callable[[float], float], *, max_missed_share: float, start_rps: float = 1.0) -> float:
    """Return the highest rate at which the missed share stays within bounds, to 1%.

    `of` gives the missed share at a rate. It is searched upwards, or downwards, in doublings from `start_rps`, then by
    bisection, so it should rise with the rate from there on. 0 where even 0.001 requests/s miss too often.
    """
    low = high = start_rps
    if of(start_rps) <= max_missed_share:
        while of(high) <= max_missed_share:
            low, high = high, 2 * high
            if high > 1e6:
                return low
    else:
        while of(low) > max_missed_share:
            low, high = low / 2, low
            if low < 1e-3:
                return 0.0
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if of(middle) <= max_missed_share else (low, middle)
    return low
