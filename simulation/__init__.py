"""Traffic, simulated: arrivals, the pool of execution environments, strategies, a month in time and money. No I/O."""

from simulation.arrivals import Arrivals, Counts, Moments, Shaped, shaped
from simulation.month import Band, Billing, Effort, Month, simulate
from simulation.pool import (
    Calls,
    NotMeasuredError,
    OnDemand,
    Pool,
    Provisioned,
    Samples,
    SnapStart,
    Strategy,
    TargetTracking,
    WarmPings,
)

__all__ = [
    "Arrivals",
    "Band",
    "Billing",
    "Calls",
    "Counts",
    "Effort",
    "Moments",
    "Month",
    "NotMeasuredError",
    "OnDemand",
    "Pool",
    "Provisioned",
    "Samples",
    "Shaped",
    "SnapStart",
    "Strategy",
    "TargetTracking",
    "WarmPings",
    "shaped",
    "simulate",
]
