"""Second by second: what was offered, and what became of it. Derived from raw records; no I/O."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from core.run.records import ClientRecord
from core.statistics.intervals import Interval, quantile_interval

PERCENTILES: Final = (0.5, 0.95, 0.99)
INTERRUPTED: Final = "interrupted while waiting for the answer"


@dataclass
class Second:
    """One second of a stage. A call is counted as offered, dropped or late in the second it was intended for."""

    second: int
    offered: int = 0
    sent: int = 0  # in this second, by the time it was sent
    answered: int = 0  # in this second, by the time its answer was there, whatever the answer
    dropped: int = 0
    late: int = 0
    not_ok: int = 0


class Account:
    """Counts the calls of a stage; the same numbers whether records come as they happen or from disk."""

    def __init__(self, *, started_at: float, late_after_ms: float) -> None:
        self._started_at = started_at
        self._late_after_ms = late_after_ms
        self._seconds: dict[int, Second] = {}

    def add(self, record: ClientRecord) -> None:
        intended = self._at(record.intended_at)
        intended.offered += 1
        if record.sent_at is None:
            intended.dropped += 1
            return
        self._at(record.sent_at).sent += 1
        intended.late += send_lag_ms(record) > self._late_after_ms
        intended.not_ok += record.outcome != "ok"
        if record.answered_at is not None:
            self._at(record.answered_at).answered += 1

    @property
    def seconds(self) -> list[Second]:
        """All seconds from the first to the last that has a call, none left out."""
        last = max(self._seconds, default=-1)
        return [self._seconds.get(number, Second(number)) for number in range(last + 1)]

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(second) for second in self.seconds]

    def _at(self, moment: float) -> Second:
        number = max(0, math.floor(moment - self._started_at))
        return self._seconds.setdefault(number, Second(number))


def merge_rows(parts: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Add up the rows of several workers, second by second."""
    merged: dict[int, Counter[str]] = {}
    for rows in parts:
        for row in rows:
            merged.setdefault(row["second"], Counter()).update({k: v for k, v in row.items() if k != "second"})
    names = [name for name in asdict(Second(0)) if name != "second"]
    return [
        {"second": second, **{name: merged.get(second, Counter())[name] for name in names}}
        for second in range(max(merged, default=-1) + 1)
    ]


def send_lag_ms(record: ClientRecord) -> float:
    """How long after its intended time a call was sent; the call must have been sent."""
    if record.sent_at is None:
        raise ValueError(f"{record.call_id} was not sent")
    return (record.sent_at - record.intended_at) * 1000


@dataclass(frozen=True)
class Percentile:
    """A percentile of the samples at hand, with its exact 95% interval where there are enough of them."""

    quantile: float
    value: float
    interval: Interval | None


def percentiles(samples: Iterable[float]) -> tuple[Percentile, ...]:
    """Percentiles by nearest rank, a value that was measured; () without samples."""
    ordered = sorted(samples)
    return tuple(
        Percentile(q, ordered[math.ceil(q * len(ordered)) - 1], quantile_interval(ordered, q)[0])
        for q in PERCENTILES
        if ordered
    )


@dataclass(frozen=True)
class StageSummary:
    """What a stage offered and got."""

    offered: int  # by the shape
    recorded: int  # has a record: offered less what a lost worker or an early end left undone
    sent: int
    answered: int
    dropped: int
    late: int
    outcomes: dict[str, int]
    offered_rps: float
    sent_rps: float
    latency_ms: tuple[Percentile, ...]  # of ok calls, from the intended time
    send_lag_ms: tuple[Percentile, ...]


class StageTotals:
    """Adds up a stage's records as they are read, each call once, and keeps two numbers of each call."""

    def __init__(self, *, started_at: float, duration_s: float, late_after_ms: float) -> None:
        self._account = Account(started_at=started_at, late_after_ms=late_after_ms)
        self._ends_at = started_at + duration_s
        self._duration_s = duration_s
        self._numbers = bytearray()  # 1 for each call that was added
        self._outcomes: Counter[str] = Counter()
        self._sent_in_time = 0
        self._latencies_ms = array("d")  # of ok calls, from the intended time
        self._lags_ms = array("d")

    def add(self, record: ClientRecord, number: int) -> None:
        """Add the record of call `number`; a second one of the same call, of a worker thought lost, is ignored."""
        if number >= len(self._numbers):
            self._numbers.extend(bytes(number + 1 - len(self._numbers) + number // 2))
        if self._numbers[number]:
            return
        self._numbers[number] = 1
        self._account.add(record)
        self._outcomes[record.outcome] += 1
        if record.sent_at is None:
            return
        self._lags_ms.append(send_lag_ms(record))
        self._sent_in_time += record.sent_at <= self._ends_at
        if record.outcome == "ok" and record.latency_from_intended_ms is not None:
            self._latencies_ms.append(record.latency_from_intended_ms)

    def rows(self) -> list[dict[str, Any]]:
        """Return the stage second by second."""
        return self._account.rows()

    def summary(self, *, offered: int) -> StageSummary:
        """Return the summary of what was added; `offered` is what the shape has.

        The rate achieved counts what was sent before the shape's end: what is sent later does not make up for it.
        """
        recorded, sent, seconds = self._outcomes.total(), len(self._lags_ms), self._account.seconds
        return StageSummary(
            offered=offered,
            recorded=recorded,
            sent=sent,
            answered=sum(second.answered for second in seconds),
            dropped=recorded - sent,
            late=sum(second.late for second in seconds),
            outcomes=dict(self._outcomes),
            offered_rps=offered / self._duration_s,
            sent_rps=self._sent_in_time / self._duration_s,
            latency_ms=percentiles(self._latencies_ms),
            send_lag_ms=percentiles(self._lags_ms),
        )
