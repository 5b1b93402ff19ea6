"""Erlang's loss formula: how much traffic finds every provisioned environment busy. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from core.money.prices import MB_PER_GB, Prices


def erlang_b(servers: int, load: float) -> float:
    """Return the share of Poisson arrivals that find all servers busy; `load` is rate x mean service time.

    The distribution of the service time does not matter. A. K. Erlang (1917); the recursion is B(n) = load B(n - 1) /
    (n + load B(n - 1)) with B(0) = 1.
    """
    blocked = 1.0
    for server in range(1, servers + 1):
        blocked = load * blocked / (server + load * blocked)
    return blocked


def cheapest_level(loads: Sequence[float], memory_mb: int, architecture: str, prices: Prices) -> tuple[int, float]:
    """Return the provisioned concurrency with the lowest compute cost over periods of equal length, and its saving.

    `loads` is the offered load of each period. The saving is the share of the on-demand cost of the same calls; 0 where
    no level is cheaper than none. The cost is convex in the level, so the search ends where it begins to rise.
    """
    on_demand = prices[f"{architecture}_gb_second_usd"]
    used = prices[f"{architecture}_provisioned_duration_gb_second_usd"]
    idle = prices[f"{architecture}_provisioned_gb_second_usd"]
    gb = memory_mb / MB_PER_GB
    without = gb * on_demand * sum(loads)
    best_level, best = 0, without
    blocked = [1.0] * len(loads)
    level = 0
    while level <= max(loads, default=0.0) + 1:
        level += 1
        blocked = [load * b / (level + load * b) for load, b in zip(loads, blocked, strict=True)]
        cost = gb * sum(
            idle * level + load * ((1 - b) * used + b * on_demand) for load, b in zip(loads, blocked, strict=True)
        )
        if cost < best:
            best_level, best = level, cost
    return best_level, 1 - best / without if without else 0.0
