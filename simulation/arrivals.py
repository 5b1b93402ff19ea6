"""When requests arrive: a rate with a daily and weekly shape, bursts and batches, or a recorded trace.

Rates are constant within an hour. Two things make traffic burstier than a Poisson process, whose index of dispersion
(variance over mean of the counts) is 1:

- bursts: the source is switched on and off at random (an interrupted Poisson process). With a share `p` of the time
  on, a correlation time `tau` and a mean rate `a`, the index of dispersion of long windows is 1 + 2 a tau (1 - p) / p,
  so the index and `tau` determine `p`. W. Fischer and K. Meier-Hellstern, The Markov-modulated Poisson process (MMPP)
  cookbook, Performance Evaluation 18 (1993).
- batches: several requests arrive at the same moment, their number geometric with the mean given.

A trace is replayed: moments as they are, counts per interval at independent uniform moments of the interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from simulation.compiled import compiled

HOUR_S: Final = 3600.0
HOURS_PER_WEEK: Final = 168
DAY_S: Final = 24 * HOUR_S
BLOCK: Final = 16_384
BURST_S: Final = 60.0  # correlation time of bursts

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shaped:
    """Requests per second for each hour of a week, and how bursty they are.

    `burstiness` is the index of dispersion, as a range where it is not known exactly; `burst_s` its correlation time.
    """

    hourly_rps: tuple[float, ...]
    burstiness: tuple[float, float] = (1.0, 1.0)
    burst_s: float = BURST_S
    batch_size: float = 1.0

    def __post_init__(self) -> None:
        if len(self.hourly_rps) != HOURS_PER_WEEK or not any(self.hourly_rps) or min(self.hourly_rps) < 0:
            raise ValueError("hourly_rps needs 168 rates from 0 on, at least one above 0")
        if not 1 <= self.burstiness[0] <= self.burstiness[1]:
            raise ValueError(f"burstiness {self.burstiness} is not a range from 1 on")
        if self.batch_size < 1 or self.burst_s <= 0:
            raise ValueError("batch_size must be at least 1 and burst_s above 0")

    @property
    def requests_per_day(self) -> float:
        """Mean over the week."""
        return sum(self.hourly_rps) * HOUR_S / 7

    @property
    def days_in_period(self) -> int:
        """Days after which the shape repeats: 1 where every day of the week is alike, otherwise 7."""
        return 1 if self.hourly_rps == self.hourly_rps[:24] * 7 else 7

    def scaled(self, requests_per_day: float) -> Shaped:
        """Return the same shape with another volume."""
        factor = requests_per_day / self.requests_per_day
        return replace(self, hourly_rps=tuple(rate * factor for rate in self.hourly_rps))


def shaped(
    requests_per_day: float,
    hours_of_day: Sequence[float] = (1.0,) * 24,
    days_of_week: Sequence[float] = (1.0,) * 7,
    *,
    burstiness: tuple[float, float] = (1.0, 1.0),
    burst_s: float = BURST_S,
    batch_size: float = 1.0,
) -> Shaped:
    """Return arrivals of this mean volume, shaped by the weights of the hours of a day and the days of a week."""
    weights = [day * hour for day in days_of_week for hour in hours_of_day]
    total = sum(weights)
    rates = tuple(7 * requests_per_day * weight / total / HOUR_S for weight in weights)
    return Shaped(rates, burstiness, burst_s, batch_size)


@dataclass(frozen=True)
class Moments:
    """A trace of arrival times in seconds from its start, in order."""

    times_s: Times
    duration_s: float


@dataclass(frozen=True)
class Counts:
    """A trace of the number of requests per interval."""

    counts: npt.NDArray[np.int64]
    interval_s: float = 60.0

    @property
    def duration_s(self) -> float:
        return len(self.counts) * self.interval_s


Arrivals = Shaped | Moments | Counts


def blocks(
    arrivals: Arrivals,
    random: np.random.Generator,
    *,
    from_s: float,
    until_s: float,
    hour_s: float = HOUR_S,
    burstiness: float = 1.0,
) -> Iterator[Times]:
    """Yield the arrival times between two moments, block by block, in seconds and in order.

    A block is overwritten by the next. `hour_s` is how much of each hour of a shape is played. A trace knows no time
    before its start, so it begins there.
    """
    buffer = np.empty(BLOCK)
    if isinstance(arrivals, Moments):
        yield from _moments(arrivals, until_s)
    elif isinstance(arrivals, Counts):
        place = np.zeros(3)
        while count := _fill_counts(buffer, random, place, arrivals.counts, arrivals.interval_s, until_s):
            yield buffer[:count]
    else:
        rates = np.array(arrivals.hourly_rps)
        on_share = on_shares(rates, burstiness, arrivals.burst_s)
        clock = np.array([from_s, -math.inf, 0.0, math.inf, 0.0])
        shape = (hour_s, arrivals.burst_s, 1 / arrivals.batch_size, until_s)
        while count := _fill_shaped(buffer, random, clock, rates / arrivals.batch_size, on_share, shape):
            yield buffer[:count]


def _moments(trace: Moments, until_s: float) -> Iterator[Times]:
    times = trace.times_s[: np.searchsorted(trace.times_s, until_s)]
    for start in range(0, len(times), BLOCK):
        yield times[start : start + BLOCK]


def on_shares(rates_rps: Times, burstiness: float, burst_s: float) -> Times:
    """Return the share of the time for which a source of each rate is switched on."""
    variance = (burstiness - 1) / (2 * np.maximum(rates_rps, 1e-12) * burst_s)
    return np.asarray(1 / (1 + variance), dtype=np.float64)


@compiled
def _fill_shaped(
    buffer: Times,
    random: np.random.Generator,
    clock: Times,
    rates_rps: Times,
    on_share: Times,
    shape: tuple[float, float, float, float],
) -> int:
    """Write the next arrivals into the buffer and return their number, 0 at the end.

    `clock`: time, next change of the rate, switched on (1 or 0), next switching, requests of a batch still to come.
    """
    hour_s, burst_s, batch_ends, until_s = shape
    now, change, is_on, switch, in_batch = clock[0], clock[1], clock[2], clock[3], clock[4]
    count, wait, rate = 0, -1.0, 0.0
    hour = math.floor(now / hour_s) % len(rates_rps)
    if is_on > 0.5:
        rate = rates_rps[hour] / on_share[hour]
    while count < len(buffer):
        if in_batch > 0.5:
            in_batch -= 1
            buffer[count] = now
            count += 1
            continue
        if wait < 0:
            wait = random.standard_exponential()
        until = min(change, switch)
        if rate > 0 and now + wait / rate <= until:
            now += wait / rate
            if now >= until_s:
                break
            wait = -1.0
            buffer[count] = now
            count += 1
            if batch_ends < 1:
                in_batch = math.floor(math.log(1 - random.random()) / math.log(1 - batch_ends))
            continue
        if until >= until_s:
            now = until_s
            break
        # The rate changes: the rest of the unit-rate wait is carried over.
        if until > now:
            wait -= rate * (until - now)
            now = until
        if now >= change:
            number = math.floor(now / hour_s + 1e-9)
            change = (number + 1) * hour_s
            hour = int(number) % len(rates_rps)
            is_on = 1.0 if random.random() < on_share[hour] else 0.0
        else:
            is_on = 1.0 - is_on
        share = on_share[hour]
        rate = rates_rps[hour] / share if is_on > 0.5 else 0.0
        switch = math.inf
        if share < 1:
            mean_s = burst_s / (1 - share) if is_on > 0.5 else burst_s / share
            switch = now + mean_s * random.standard_exponential()
    clock[0], clock[1], clock[2], clock[3], clock[4] = now, change, is_on, switch, in_batch
    return count


@compiled
def _fill_counts(
    buffer: Times,
    random: np.random.Generator,
    place: Times,
    counts: npt.NDArray[np.int64],
    interval_s: float,
    until_s: float,
) -> int:
    """Write the next arrivals of a trace of counts; `place`: interval, requests of it written, position in it.

    The ordered uniform moments of an interval come one by one: the smallest of k uniforms is 1 - U**(1/k).
    """
    index, written, position = int(place[0]), int(place[1]), place[2]
    count = 0
    while count < len(buffer) and index < len(counts):
        left = counts[index] - written
        if left == 0:
            index, written, position = index + 1, 0, 0.0
            continue
        position = 1 - (1 - position) * random.random() ** (1 / left)
        now = (index + position) * interval_s
        if now >= until_s:
            index = len(counts)
            break
        buffer[count] = now
        count += 1
        written += 1
    place[0], place[1], place[2] = index, written, position
    return count
