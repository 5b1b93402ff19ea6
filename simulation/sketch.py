"""A histogram of latencies in which one bin is 0.8% wide: flat memory for any number of requests.

The bins follow a double's own bits: its exponent and the first 7 bits of its mantissa, as in HdrHistogram
(https://hdrhistogram.org). A quantile is the middle of its bin, so it is off by at most 0.4%.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from simulation.compiled import compiled

_MANTISSA_BITS: Final = 7
_SHIFT: Final = 52 - _MANTISSA_BITS
_LOWEST_EXPONENT: Final = 1023 - 14  # 2**-14 s, 0.06 ms; anything faster is in the first bin
_OCTAVES: Final = 32  # to 2**18 s, three days
_BASE: Final = _LOWEST_EXPONENT << _MANTISSA_BITS
BINS: Final = _OCTAVES << _MANTISSA_BITS

Counts = npt.NDArray[np.float64]


@compiled
def bin_of(value_s: float) -> int:
    """Return the bin of a latency in seconds."""
    index = (np.float64(value_s).view(np.int64) >> _SHIFT) - _BASE
    return int(0 if index < 0 else index if index < BINS else BINS - 1)


EDGES_S: Final[Counts] = ((np.arange(BINS + 1, dtype=np.int64) + _BASE) << _SHIFT).view(np.float64)


def quantile_ms(counts: Counts, never: float, share: float) -> float:
    """Return a quantile in milliseconds; `never` callers got no correct answer and count as infinitely slow.

    Infinity where the quantile falls among those, NaN where nobody called.
    """
    total = float(counts.sum()) + never
    if total <= 0:
        return float("nan")
    reached = np.cumsum(counts)
    index = int(np.searchsorted(reached, share * total, side="left"))
    if index >= BINS:
        return float("inf")
    return float(1000 * (EDGES_S[index] + EDGES_S[index + 1]) / 2)


def share_over(counts: Counts, never: float, limit_ms: float) -> float:
    """Return the share of callers without a correct answer within the limit; within one bin, linear."""
    total = float(counts.sum()) + never
    if total <= 0:
        return float("nan")
    within = np.interp(limit_ms / 1000, EDGES_S, np.concatenate([[0.0], np.cumsum(counts)]))
    return float(1 - within / total)
