"""Samples and counters for the tests of the simulation."""

import numpy as np

from core.money.prices import read_prices
from simulation import kernel, month
from simulation.month import Billing, simulate
from simulation.pool import Calls, OnDemand, Pool, Samples

PRICES = read_prices()
BILLING = Billing(memory_mb=1769, architecture="x86_64")


def calls(busy_ms, *, latency_ms=None, correct=True):
    busy_ms = np.asarray(busy_ms, dtype=float)
    latency_ms = busy_ms if latency_ms is None else np.asarray(latency_ms, dtype=float)
    return Calls(busy_ms, np.ceil(busy_ms), latency_ms, np.full(len(busy_ms), correct))


def exponential(mean_ms, count=20_000):
    """Return the quantiles of an exponential distribution as samples, scaled to the exact mean."""
    values = -np.log1p(-(np.arange(count) + 0.5) / count)
    return calls(values * mean_ms / values.mean())


def counters(samples, arrivals, *, until_s, idle_s=600.0, strategy=None, from_s=0.0, seed=1, **pool):
    """Play exactly these samples, without resampling, and return the counters."""
    strategy = strategy or OnDemand()
    pool = Pool(idle_minutes=(idle_s / 60, idle_s / 60), **pool)
    random = np.random.default_rng(seed)
    rules = month._rules(pool, strategy, idle_s, 3600.0)
    state = kernel.new_state(rules, getattr(strategy, "count", 0), from_s, random)
    levels = np.array(getattr(strategy, "levels", (0,)), dtype=float)
    warm, cold = (each.table(pool.limit_s) for each in (samples.warm, samples.cold or samples.warm))
    for block in month.blocks(arrivals, np.random.default_rng(seed + 1), from_s=from_s, until_s=until_s):
        kernel.play(block, block[-1], rules, state, warm, cold, levels, random)
    kernel.play(np.empty(0), until_s, rules, state, warm, cold, levels, random)
    kernel.bill_provisioned(until_s, state.scalars, state.counters)
    kernel.drain(rules, state, warm, cold, levels, random)
    return state.counters


def a_month(samples, arrivals, strategy=None, *, pool=None, limit_ms=1000.0, seed=1, **more):
    return simulate(
        samples,
        arrivals,
        pool or Pool(),
        strategy or OnDemand(),
        BILLING,
        PRICES,
        limit_ms=limit_ms,
        seed=seed,
        **more,
    )


__all__ = ["BILLING", "PRICES", "Samples", "a_month", "calls", "counters", "exponential"]
