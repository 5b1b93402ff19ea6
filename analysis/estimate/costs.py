"""Price calls: per million predictions, for calls that failed, and per month by start strategy. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Final, Literal

import numpy as np
import polars as pl

from analysis.estimate.cells import Measured
from analysis.estimate.environments import Sample
from analysis.estimate.estimates import mean, percentile_over_environments
from analysis.estimate.traffic import (
    PING_MARGIN,
    CallProfile,
    Service,
    Traffic,
    daily_cold_share,
    needed_environments,
    provisioned_share,
)
from analysis.summary import AS_NEEDED, BreakEven, CostPerMillion, Estimate, FailedCost, MonthlyCost, Strategy
from core.configuration import GoalTable
from core.money.charges import (
    BYTES_PER_GB,
    SECONDS_PER_MONTH,
    CallCost,
    call_cost,
    compute_usd,
    front_door_usd,
    lambda_month_usd,
    logs_usd,
    provisioned_duration_usd,
    provisioned_usd,
    restore_usd,
    snapstart_usd,
)
from core.money.prices import Prices, gb_seconds
from core.run.records import WITHOUT_LOG
from core.variants import Image, Start, Variant
from simulation.erlang import cheapest_level

# START, the handler's line and REPORT in JSON, where the logs' own volume is not known.
ASSUMED_LOG_BYTES: Final = 1200.0
PAIRS: Final[tuple[tuple[Strategy, Strategy], ...]] = (
    ("on_demand", "provisioned_concurrency"),
    ("on_demand", "warm_pings"),
    ("warm_pings", "provisioned_concurrency"),
)
# What calls with a start mode predict: on-demand calls also the strategies that are computed from them, the others only
# themselves.
STRATEGIES_OF: Final[dict[Start, tuple[Strategy, ...]]] = {
    "on_demand": ("on_demand", "provisioned_concurrency", "warm_pings"),
    "snapstart": ("snapstart",),
    "provisioned": ("provisioned_concurrency",),
}


@dataclass(frozen=True)
class CostModel:
    """The cost of a variant's calls at these prices, for this traffic and goal."""

    prices: Prices
    traffic: Traffic
    goal: GoalTable
    free_tier: bool = False
    provisioned: int = 0  # environments that each variant keeps that was measured with provisioned concurrency

    def months(self, profile: CallProfile) -> Iterator[MonthlyCost]:
        """USD per month, by each way of keeping environments warm."""
        return (self.month(strategy, profile) for strategy in STRATEGIES_OF[profile.start])

    def break_evens(self, profile: CallProfile) -> Iterator[BreakEven]:
        """Return from how many requests per month each way of keeping environments warm pays."""
        known = set(STRATEGIES_OF[profile.start])
        pairs = (pair for pair in PAIRS if set(pair) <= known)
        return chain.from_iterable(self.break_even(first, second, profile) for first, second in pairs)

    def month(
        self,
        strategy: Strategy,
        profile: CallProfile,
        *,
        environments: int | None = None,
        service: Service | None = None,
    ) -> MonthlyCost:
        """USD per month for the traffic. `environments` overrides how many are provisioned.

        Without an override, a variant that was measured with provisioned concurrency keeps as many as were deployed.
        For one on demand, it keeps the fewest that hold the goal's share of cold starts, and at least one.
        Pings keep one, however many there are: they seldom overlap.
        `service` is how long calls keep their environment; by default what is billed for them.
        """
        requests, service = self.traffic.requests_per_month, service or profile.service
        if profile.cold_billed_ms is None:
            return MonthlyCost(
                variant=profile.variant,
                strategy=strategy,
                usd=None,
                parts={},
                requests=requests,
                expected_cold_share=daily_cold_share(self.traffic, service),
                environments=None,
                reason="no cold start was measured: its billed time is unknown",
            )
        kept = self._environments(strategy, profile, service) if environments is None else environments
        cold = daily_cold_share(self.traffic, service, kept_warm=kept)
        if strategy == "provisioned_concurrency":
            parts = self._provisioned(profile, profile.cold_billed_ms, cold, kept, service)
            calls = requests
        else:
            # A ping that finds no environment idle starts one; in the steady state each is a warm call.
            every_s = self.traffic.idle_s * PING_MARGIN
            pings = kept * SECONDS_PER_MONTH / every_s if strategy == "warm_pings" else 0.0
            calls = requests + pings
            billed_ms = requests * (cold * profile.cold_billed_ms + (1 - cold) * profile.warm_billed_ms)
            amount = gb_seconds(profile.memory_mb, billed_ms + pings * profile.warm_billed_ms)
            compute, fee = lambda_month_usd(calls, amount, profile.architecture, self.prices, free_tier=self.free_tier)
            parts = {"compute": compute, "requests": fee}
            if strategy == "warm_pings":
                parts = {"pings": pings / 1e6 * self.prices["scheduler_per_million_usd"], **parts}
            if strategy == "snapstart":
                cache, restores = snapstart_usd(profile.memory_mb, SECONDS_PER_MONTH, requests * cold, self.prices)
                parts |= {"snapstart_cache": cache, "snapstart_restore": restores}
        log_bytes = calls * profile.log_bytes
        kept_logs = log_bytes / BYTES_PER_GB * self.prices["logs_stored_gb_month_usd"]
        parts |= {
            "gateway": front_door_usd(requests, "rest_api", self.prices),
            "logs": logs_usd(log_bytes, self.prices) + kept_logs,
            "storage": profile.image_gb * self.prices["ecr_gb_month_usd"],
        }
        return MonthlyCost(
            variant=profile.variant,
            strategy=strategy,
            usd=sum(parts.values()),
            parts=parts,
            requests=requests,
            expected_cold_share=cold,
            environments=requests / SECONDS_PER_MONTH * service.warm_s if strategy in AS_NEEDED else float(kept),
        )

    def _environments(self, strategy: Strategy, profile: CallProfile, service: Service) -> int:
        if strategy != "provisioned_concurrency":
            return 0 if strategy in AS_NEEDED else 1
        if profile.start == "provisioned":
            return self.provisioned
        needed = max(1, needed_environments(self.traffic, service, self.goal.max_cold_share))
        # More than the cold share asks for, where a higher level costs less.
        loads = [rate * service.warm_s for rate in self.traffic.hourly_rates_rps]
        return max(needed, cheapest_level(loads, profile.memory_mb, profile.architecture, self.prices)[0])

    def _provisioned(
        self, profile: CallProfile, cold_billed_ms: float, cold: float, level: int, service: Service
    ) -> dict[str, float]:
        """Parts of a month with provisioned concurrency, to which the free tier does not apply."""
        memory_mb, architecture = profile.memory_mb, profile.architecture
        requests, warm_ms = self.traffic.requests_per_month, profile.warm_billed_ms
        within = provisioned_share(self.traffic, service, level)
        over_ms = requests * (cold * cold_billed_ms + max(0.0, 1 - within - cold) * warm_ms)
        within_gbs = gb_seconds(memory_mb, requests * within * warm_ms)
        return {
            "provisioned": provisioned_usd(memory_mb, level, SECONDS_PER_MONTH, architecture, self.prices),
            "provisioned_duration": provisioned_duration_usd(within_gbs, architecture, self.prices),
            "compute": compute_usd(gb_seconds(memory_mb, over_ms), architecture, self.prices),
            "requests": requests / 1e6 * self.prices["requests_per_million_usd"],
        }

    def break_even(
        self,
        first: Strategy,
        second: Strategy,
        profile: CallProfile,
        *,
        lowest: float = 1e3,
        highest: float = 1e9,
    ) -> Iterator[BreakEven]:
        """Requests per month from which one of two strategies costs less than the other, the day's shape unchanged.

        Every crossing on a grid of 4 points a decade, each then found by bisection to 1%.
        """

        def pays(requests: float) -> bool:
            model = replace(self, traffic=self.traffic.scaled(requests))
            return (model.month(second, profile).usd or 0.0) < (model.month(first, profile).usd or 0.0)

        def point(requests: float | None, *, second_pays: bool, reason: str = "") -> BreakEven:
            below, above = (first, second) if second_pays else (second, first)
            return BreakEven(
                variant=profile.variant,
                cheaper_below=below,
                cheaper_above=above,
                requests_per_month=requests,
                reason=reason,
            )

        if profile.cold_billed_ms is None:
            yield point(None, second_pays=True, reason="no cold start was measured")
            return
        grid = [float(one) for one in np.geomspace(lowest, highest, round(4 * math.log10(highest / lowest)) + 1)]
        paid = [pays(requests) for requests in grid]
        if not any(paid):
            yield point(None, second_pays=True, reason=f"never, to {highest:,.0f} requests per month")
        if paid[0]:
            yield point(None, second_pays=True, reason=f"cheaper from {lowest:,.0f} requests per month on")
        for place, (before, after) in enumerate(pairwise(paid)):
            if before == after:
                continue
            low, high = grid[place], grid[place + 1]
            while high / low > 1.01:
                middle = math.sqrt(low * high)
                low, high = (low, middle) if pays(middle) == after else (middle, high)
            yield point(high, second_pays=after)

    def per_million(
        self,
        variant: Variant,
        start_type: Literal["cold", "warm"],
        billed: Sample,
        init: Sample,
        log_bytes: float,
        random: np.random.Generator,
    ) -> CostPerMillion:
        """USD per million predictions of one variant and start type, with parts; None where no call was billed.

        A warm prediction with provisioned concurrency bears its share of the month's price of the environments kept. A
        cold one spilled over, and costs what it does on demand.
        """
        if not len(billed):
            return CostPerMillion(
                variant=variant.key,
                start_type=start_type,
                usd=Estimate(value=None, n=0, reason=f"no {start_type} call was billed"),
                parts={},
                billed_ms_mean=None,
                gb_seconds=None,
                without_gateway_usd=None,
            )
        init_ms = float(init.values.sum()) / len(billed) if len(init) else 0.0
        restores = variant.start == "snapstart" and start_type == "cold"
        each_restore_usd = restore_usd(variant.memory_mb, self.prices) if restores else 0.0
        keeps = variant.start == "provisioned" and start_type == "warm"
        each_kept_usd = None
        if keeps:
            kept_usd = provisioned_usd(
                variant.memory_mb, self.provisioned, SECONDS_PER_MONTH, variant.architecture, self.prices
            )
            each_kept_usd = kept_usd / self.traffic.requests_per_month

        def price(billed_ms: float) -> CallCost:
            return call_cost(
                variant.memory_mb,
                variant.architecture,
                self.prices,
                billed_ms=billed_ms,
                init_ms=init_ms,
                log_bytes=log_bytes,
                through_gateway=True,
                restore_usd=each_restore_usd,
                provisioned_usd=each_kept_usd,
            )

        def priced(estimate: Estimate) -> Estimate:
            """An estimate of billed time as one of USD per million, which is linear in it."""
            ends = {name: getattr(estimate, name) for name in ("value", "low", "high")}
            return estimate.model_copy(
                update={name: None if ms is None else price(ms).total * 1e6 for name, ms in ends.items()}
            )

        estimate = mean(billed, random)
        mean_ms = estimate.value or 0.0
        cost = price(mean_ms)
        return CostPerMillion(
            variant=variant.key,
            start_type=start_type,
            usd=priced(estimate),
            median_usd=priced(percentile_over_environments(billed, 0.5)),
            parts={
                "compute": cost.compute * 1e6,
                "init": cost.init * 1e6,
                **({"restore": cost.restore * 1e6} if restores else {}),
                **({"provisioned": cost.provisioned * 1e6} if keeps else {}),
                "requests": cost.request * 1e6,
                "gateway": cost.gateway * 1e6,
                "logs": cost.logs * 1e6,
            },
            billed_ms_mean=estimate.value,
            gb_seconds=gb_seconds(variant.memory_mb, mean_ms) * 1e6,
            without_gateway_usd=(cost.total - cost.gateway) * 1e6,
        )


def make_profiles(
    measured: Measured, variants: Mapping[str, Variant], log_bytes: Mapping[str, float], image_gb: Mapping[Image, float]
) -> dict[str, CallProfile]:
    """Mean billed times of each variant that answered warm calls."""
    profiles = {}
    for key, variant in variants.items():
        warm, cold = measured.warm(key, "billed_ms").values, measured.cold(key, "billed_ms").values
        if len(warm):
            profiles[key] = CallProfile(
                variant=key,
                memory_mb=variant.memory_mb,
                architecture=variant.architecture,
                warm_billed_ms=float(warm.mean()),
                cold_billed_ms=float(cold.mean()) if len(cold) else None,
                log_bytes=log_bytes.get(key, ASSUMED_LOG_BYTES),
                image_gb=image_gb.get(variant.image, 0.0),
                start=variant.start,
            )
    return profiles


def make_costs(
    measured: Measured,
    variants: Mapping[str, Variant],
    model: CostModel,
    log_bytes: Mapping[str, float],
    random: np.random.Generator,
) -> tuple[CostPerMillion, ...]:
    """USD per million predictions of every variant, cold and warm."""
    found = []
    for key, variant in variants.items():
        size = log_bytes.get(key, ASSUMED_LOG_BYTES)
        cold = measured.cold(key, "billed_ms"), measured.cold(key, "init_ms")
        warm = measured.warm(key, "billed_ms"), measured.warm(key, "init_ms")
        found.append(model.per_million(variant, "cold", *cold, size, random))
        found.append(model.per_million(variant, "warm", *warm, size, random))
    return tuple(found)


def make_failed_costs(rows: pl.DataFrame, variants: Mapping[str, Variant], prices: Prices) -> tuple[FailedCost, ...]:
    """What was billed for calls that failed, of each variant that has some; in no cost of a million predictions.

    Lambda bills a call that ends in an error or a timeout like any other, and one whose client gave up as well. Calls
    that were throttled or never sent are not billed, nor are those whose connection failed unless a log says so.
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    is_billed = pl.col("billed_ms").is_not_null() | ~pl.col("outcome").is_in(WITHOUT_LOG)
    reached = rows.select("variant", "outcome", "billed_ms").filter(is_billed)
    found = []
    for key, variant in variants.items():
        part = reached.filter(pl.col("variant") == key)
        failed = part.filter(pl.col("outcome") != "ok")
        if not failed.height:
            continue
        billed = failed["billed_ms"].drop_nulls()
        billed_ms, of_all_ms = float(billed.sum()), float(part["billed_ms"].sum())
        compute = gb_seconds(variant.memory_mb, billed_ms) * prices.gb_second_usd(variant.architecture)
        found.append(
            FailedCost(
                variant=key,
                failed=failed.height,
                billed=billed.len(),
                billed_ms=billed_ms,
                usd=compute + billed.len() * prices["requests_per_million_usd"] / 1e6,
                share_of_billed=billed_ms / of_all_ms if of_all_ms else None,
            )
        )
    return tuple(found)
