"""Read recorded traffic: CSV text of timestamps or of counts per minute, and Azure's public functions trace. No I/O."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Final

import numpy as np

from core.errors import UserError
from simulation.arrivals import Counts, Moments

MINUTES_PER_DAY: Final = 1440
# https://github.com/Azure/AzurePublicDataset/blob/master/AzureFunctionsDataset2019.md
AZURE_COLUMNS: Final = ("HashOwner", "HashApp", "HashFunction", "Trigger")


class TraceError(UserError):
    """A trace holds something that is no arrival; the message names the line."""


def parse_trace(lines: Iterable[str], *, function: str = "") -> Moments | Counts:
    """Parse a trace. Its first line says what it is:

    - `timestamp`, then one arrival per line: seconds, or a date and time in ISO 8601;
    - `count`, then the number of requests of one minute per line;
    - the header of Azure's functions trace; `function` is the HashFunction, or a unique beginning of it.

    Raises TraceError.
    """
    rows = csv.reader(lines)
    head = next(rows, None)
    names = [name.strip().lstrip("\ufeff") for name in head or ()]
    if tuple(names[: len(AZURE_COLUMNS)]) == AZURE_COLUMNS:
        return _azure(rows, function)
    if names == ["timestamp"]:
        return _moments(rows)
    if names == ["count"]:
        counts = [_whole(row[0].strip(), number) for number, row in enumerate(rows, 2) if row]
        return _counts(counts)
    raise TraceError(
        f"line 1: the header is {','.join(names) or 'missing'!r}",
        hint="It must be `timestamp`, `count`, or that of Azure's functions trace (HashOwner,HashApp,...).",
    )


def _moments(rows: Iterable[list[str]]) -> Moments:
    times = np.sort(np.array([_moment(row[0].strip(), number) for number, row in enumerate(rows, 2) if row]))
    if len(times) < 2 or times[-1] <= times[0]:
        raise TraceError("the trace needs at least two arrivals at different moments")
    # The next arrival would be about a mean gap after the last one.
    duration_s = (times[-1] - times[0]) * len(times) / (len(times) - 1)
    return Moments(times - times[0], float(duration_s))


def _moment(text: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        try:
            value = datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise TraceError(f"line {line}: {text!r} is neither seconds nor a date and time") from None
    if not math.isfinite(value):
        raise TraceError(f"line {line}: {text!r} is not a moment")
    return value


def _whole(text: str, line: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise TraceError(f"line {line}: {text!r} is not a number of requests")
    return int(text)


def _counts(counts: Sequence[int]) -> Counts:
    if not any(counts):
        raise TraceError("the trace holds no request")
    return Counts(np.array(counts, dtype=np.int64))


def _azure(rows: Iterable[list[str]], function: str) -> Counts:
    """One day per file, one function per line; several lines of a function, as of several days, follow each other."""
    chosen: list[list[int]] = []
    names: set[str] = set()
    for number, row in enumerate(rows, 2):
        if not row or not row[2].startswith(function):
            continue
        names.add(row[2])
        if len(names) > 1:
            raise TraceError(
                f"line {number}: a second function fits {function!r}", hint="Name one HashFunction of the trace."
            )
        minutes = row[len(AZURE_COLUMNS) :]
        if len(minutes) != MINUTES_PER_DAY:
            raise TraceError(f"line {number}: {len(minutes)} minutes instead of {MINUTES_PER_DAY}")
        chosen.append([_whole(text.strip(), number) for text in minutes])
    if not chosen:
        raise TraceError(f"no function begins with {function!r}")
    return _counts(list(chain.from_iterable(chosen)))
