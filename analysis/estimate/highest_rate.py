"""The highest rate that keeps the share of misses: as the load found it, and as simulated. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from analysis.estimate.cells import Measured
from analysis.estimate.measured_calls import samples_of
from analysis.summary import Estimate, HighestRates
from core.configuration import Configuration, GoalTable
from core.money.prices import Prices
from core.statistics.rate_search import HighestRate
from core.variants import Variant
from simulation.arrivals import shaped
from simulation.month import Billing, Effort, simulate
from simulation.pool import NotMeasuredError, OnDemand, Pool, Provisioned, Samples, SnapStart, Strategy
from simulation.search import highest_rate

DAY_S: Final = 86_400
# A search simulates a dozen rates; a share of 1% is then known to about 2% of itself.
SEARCH_EFFORT: Final = Effort(replicates=6, max_requests=100_000)
ACCOUNT_CONCURRENCY: Final = 1000  # Lambda's default


def simulated_rate(
    samples: Samples,
    pool: Pool,
    variant: Variant,
    prices: Prices,
    goal: GoalTable,
    *,
    seed: int,
    provisioned: int,
) -> float:
    """Return the highest constant rate of Poisson arrivals in requests per second, started as the variant is deployed.

    `provisioned` environments are kept for a variant that starts so. Raises NotMeasuredError where the samples lack
    such starts.
    """
    strategy: Strategy = OnDemand()
    if variant.start != "on_demand":
        strategy = SnapStart() if variant.start == "snapstart" else Provisioned((provisioned,))

    def missed(rate_rps: float) -> float:
        month = simulate(
            samples,
            shaped(rate_rps * DAY_S),
            pool,
            strategy,
            Billing(variant.memory_mb, variant.architecture),
            prices,
            limit_ms=goal.limit_ms,
            seed=seed,
            effort=SEARCH_EFFORT,
        )
        return month.missed_share.value

    return highest_rate(missed, max_missed_share=goal.max_bad_share)


def make_highest_rates(
    found: Mapping[str, HighestRate],
    measured: Measured,
    variants: Mapping[str, Variant],
    configuration: Configuration,
    prices: Prices,
    goal: GoalTable,
) -> tuple[HighestRates, ...]:
    """Return both rates of each variant that a load searched, for `goal`, which the search had."""
    function = configuration.function
    minutes = configuration.traffic.idle_minutes
    pool = Pool(
        idle_minutes=(minutes, minutes),
        concurrency=function.reserved_concurrency or function.max_concurrency or ACCOUNT_CONCURRENCY,
        front_door_limit_s=configuration.gateway.integration_timeout_ms / 1000,
    )

    def simulated(key: str) -> Estimate:
        samples = samples_of(measured, key)
        if samples is None:
            return Estimate(value=None, n=0, reason="no warm call was measured")
        try:
            rate_rps = simulated_rate(
                samples,
                pool,
                variants[key],
                prices,
                goal,
                seed=configuration.experiments.seed,
                provisioned=configuration.provisioned.concurrency,
            )
        except NotMeasuredError as error:
            return Estimate(value=None, n=len(samples.warm), reason=error.message)
        if rate_rps == 0:
            return Estimate(value=None, n=len(samples.warm), reason="too many callers miss the limit at any rate")
        return Estimate(value=rate_rps, n=len(samples.warm), reason="no interval: one search with the measured calls")

    return tuple(
        HighestRates(
            variant=key,
            limit_ms=goal.limit_ms,
            max_missed_share=goal.max_bad_share,
            measured_rps=Estimate(
                value=one.rate_rps, low=one.low_rps, high=one.high_rps, n=one.calls, reason=one.reason
            ),
            simulated_rps=simulated(key),
            concurrency=pool.concurrency,
        )
        for key, one in found.items()
        if key in variants
    )
