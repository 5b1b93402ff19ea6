"""What calls cost: per million predictions, for calls that failed, and per month by start strategy. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

from analysis.estimate.cells import Measured
from analysis.estimate.environments import Sample
from analysis.estimate.estimates import mean, percentile_over_environments
from analysis.estimate.traffic import CallProfile, Traffic, break_even, cost_curve, monthly_cost
from analysis.summary import BreakEven, CostCurve, CostPerMillion, Estimate, FailedCost, MonthlyCost, Strategy
from core.charges import CallCost, call_cost
from core.configuration import GoalTable
from core.prices import Prices, gb_seconds
from core.records import NEVER_INVOKED
from core.variants import Image, Variant

# START, the handler's line and REPORT in JSON, where the logs' own volume is not known.
ASSUMED_LOG_BYTES: Final = 1200.0
STRATEGIES: Final[tuple[Strategy, ...]] = ("on_demand", "provisioned_concurrency", "warm_pings")
PAIRS: Final[tuple[tuple[Strategy, Strategy], ...]] = (
    ("on_demand", "provisioned_concurrency"),
    ("on_demand", "warm_pings"),
    ("warm_pings", "provisioned_concurrency"),
)


@dataclass(frozen=True)
class CostModel:
    """What a variant's calls cost at these prices, for this traffic and goal."""

    prices: Prices
    traffic: Traffic
    goal: GoalTable
    free_tier: bool = False

    def monthly(self, profile: CallProfile) -> Iterator[MonthlyCost]:
        """USD per month, by each way of keeping environments warm."""
        for strategy in STRATEGIES:
            yield monthly_cost(
                strategy,
                profile,
                self.traffic,
                self.prices,
                max_cold_share=self.goal.max_cold_share,
                free_tier=self.free_tier,
            )

    def break_even(self, profile: CallProfile) -> Iterator[BreakEven]:
        """From how many requests per month each way of keeping environments warm pays."""
        for below, above in PAIRS:
            yield break_even(
                below,
                above,
                profile,
                self.traffic,
                self.prices,
                max_cold_share=self.goal.max_cold_share,
                free_tier=self.free_tier,
            )

    def curves(self, profile: CallProfile) -> Iterator[CostCurve]:
        """What a month costs at other volumes than the stated one."""
        for strategy in STRATEGIES:
            curve = cost_curve(
                strategy,
                profile,
                self.traffic,
                self.prices,
                max_cold_share=self.goal.max_cold_share,
                free_tier=self.free_tier,
            )
            if curve is not None:
                yield curve

    def per_million(
        self,
        variant: Variant,
        start_type: Literal["cold", "warm"],
        billed: Sample,
        init: Sample,
        log_bytes: float,
        random: np.random.Generator,
    ) -> CostPerMillion:
        """USD per million predictions of one variant and start type, with parts; None where no call was billed."""
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

        def price(billed_ms: float) -> CallCost:
            return call_cost(
                variant.memory_mb,
                variant.architecture,
                self.prices,
                billed_ms=billed_ms,
                init_ms=init_ms,
                log_bytes=log_bytes,
                through_gateway=True,
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
    that were throttled or never sent are not billed.
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    reached = rows.filter(~pl.col("outcome").is_in(NEVER_INVOKED))
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
