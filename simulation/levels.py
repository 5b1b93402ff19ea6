"""How busy callers find a function on demand: what exact formulas say of Poisson arrivals, for arrivals in bursts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from simulation import kernel
from simulation.arrivals import Shaped
from simulation.month import Effort, play_replicate
from simulation.pool import Calls, OnDemand, Pool, Provisioned, Strategy

# A cold share of 0.1% is then known to about a tenth of itself.
EFFORT: Final = Effort(replicates=1, min_requests=50_000, max_requests=100_000)
SEED: Final = 20_261_127
_QUANTILES: Final = 1000


@dataclass(frozen=True)
class Levels:
    """What calls find, as shares of all calls."""

    alone: float  # no other call under way
    cold: npt.NDArray[np.float64]  # a cold start with n other calls under way, by n

    def cold_from(self, level: int) -> float:
        """Return the share of cold starts where so many environments are never reclaimed.

        A cold start with n others under way finds n environments busy and no other: it would find one of those kept
        if more than n of them were.
        """
        return float(self.cold[level:].sum())


@lru_cache(maxsize=8192)
def find_levels(arrivals: Shaped, warm_s: float, cold_s: float, idle_s: float) -> Levels:
    """Simulate arrivals on demand; service times are exponential with these means in seconds."""
    counters = _play(arrivals, OnDemand(), warm_s, cold_s, idle_s)
    calls = max(1.0, float(counters[kernel.CALLS]))
    cold_levels = np.trim_zeros(counters[kernel.COUNTERS :], "b")
    return Levels(alone=float(counters[kernel.ALONE]) / calls, cold=cold_levels / calls)


@lru_cache(maxsize=8192)
def share_within(arrivals: Shaped, level: int, warm_s: float, cold_s: float, idle_s: float) -> float:
    """Return the share of calls that find one of `level` provisioned environments free."""
    counters = _play(arrivals, Provisioned((level,)), warm_s, cold_s, idle_s)
    return float(counters[kernel.IN_PROVISIONED] / max(1.0, counters[kernel.CALLS]))


def _play(arrivals: Shaped, strategy: Strategy, warm_s: float, cold_s: float, idle_s: float) -> npt.NDArray[np.float64]:
    state, _, _ = play_replicate(
        (_exponential(warm_s), _exponential(cold_s)),
        arrivals,
        Pool(front_door="function_url"),
        strategy,
        np.random.SeedSequence(SEED),
        idle_s=idle_s,
        burstiness=arrivals.burstiness[1],
        effort=EFFORT,
    )
    return state.counters


@lru_cache(maxsize=256)
def _exponential(mean_s: float) -> Calls:
    """Return the quantiles of an exponential distribution as calls; of one environment, so that all are drawn from."""
    values = -np.log1p(-(np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    busy_ms = values * 1000 * mean_s / values.mean()
    one = np.zeros(_QUANTILES, np.int64)
    return Calls(busy_ms, busy_ms, busy_ms, np.ones(_QUANTILES, np.bool_), one)
