"""From the calls of a trial to its table and its answers. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analysis.decide.curves import knee
from analysis.estimate.environments import Sample
from analysis.estimate.estimates import mean, percentile_over_environments
from analysis.report.text import markdown_table
from analysis.report.wording import interval_text, number_text, usd_text
from analysis.summary import Estimate, Knee
from core.money.prices import Prices
from core.variants import Variant
from trial.measuring import Call

HEAD: Final = (
    "Memory, MB",
    "Cold start, ms (95% interval)",
    "n",
    "Warm, ms (95% interval)",
    "n",
    "Memory used, MB",
    "USD per million, cold",
    "USD per million, warm",
)
REMARKS: Final = (
    "Start types are the platform's evidence (Init Duration).",
    "Inference time is absent: only the function itself could report it.",
    "USD: compute and request fee of the mean billed time, without a gateway.",
)
SEED: Final = 20_261_127  # of the bootstrap


@dataclass(frozen=True)
class Size:
    """One memory size as it was measured."""

    variant: Variant
    cold: Estimate  # median of init and duration
    warm: Estimate  # median duration
    warm_sample: Sample  # of durations
    cold_usd: Estimate  # per million calls, from the mean billed time
    warm_usd: Estimate
    memory_used_mb: float | None
    fails: str  # why it cannot run; "" where it does
    calls: int
    contended: int  # of these, calls during which the lab's host was short of CPU


def sizes_of(calls: Sequence[Call], prices: Prices) -> list[Size]:
    """Every memory size that was called, ascending."""
    random = np.random.default_rng(SEED)
    variants = sorted({call.variant for call in calls}, key=lambda variant: variant.memory_mb)
    return [_size(variant, [call for call in calls if call.variant == variant], prices, random) for variant in variants]


def _size(variant: Variant, calls: Sequence[Call], prices: Prices, random: np.random.Generator) -> Size:
    ok = [call for call in calls if call.outcome == "ok"]

    def sample(name: str, *, cold: bool) -> Sample:
        held = [(getattr(call, name), call.environment) for call in ok if call.cold == cold and getattr(call, name)]
        return Sample.of([value for value, _ in held], [environment for _, environment in held])

    def usd(*, cold: bool) -> Estimate:
        billed = sample("billed_ms", cold=cold)
        if not len(billed):
            return Estimate(value=None, n=0, reason="no call to price")
        found = mean(billed, random)

        def price(billed_ms: float | None) -> float | None:
            if billed_ms is None:
                return None
            return 1e6 * prices.call_usd(variant.memory_mb, billed_ms, variant.architecture, through_gateway=False)

        return found.model_copy(
            update={"value": price(found.value), "low": price(found.low), "high": price(found.high)}
        )

    warm = sample("total_ms", cold=False)
    used = [call.max_memory_used_mb for call in ok if call.max_memory_used_mb]
    return Size(
        variant=variant,
        cold=percentile_over_environments(sample("total_ms", cold=True), 0.5),
        warm=percentile_over_environments(warm, 0.5),
        warm_sample=warm,
        cold_usd=usd(cold=True),
        warm_usd=usd(cold=False),
        memory_used_mb=max(used, default=None),
        fails=_failure(calls),
        calls=len(calls),
        contended=sum(call.contended for call in calls),
    )


def _failure(calls: Sequence[Call]) -> str:
    failed = [call for call in calls if call.outcome != "ok"]
    if not failed:
        return ""
    outcome, count = Counter(call.outcome for call in failed).most_common(1)[0]
    error = next(call.error for call in failed if call.outcome == outcome)
    said = f": {error}" if error else ""
    return f"{count} of {len(calls)} calls {outcome.replace('_', ' ')}{said}"


def knee_of(sizes: Sequence[Size]) -> Knee | None:
    """The size from which more memory hardly helps warm calls; None where nothing ran."""
    running = [size for size in sizes if not size.fails and len(size.warm_sample)]
    curve = {size.variant.memory_mb: size.warm_sample for size in running}
    return knee(running[0].variant.image, "duration_ms", curve, np.random.default_rng(SEED)) if running else None


def facts(sizes: Sequence[Size]) -> dict[str, Any]:
    """What `table` and `answers` say, for a program."""
    knee_found = knee_of(sizes)
    return {
        "sizes": [
            {
                "memory_mb": size.variant.memory_mb,
                "fails": size.fails,
                "calls": size.calls,
                "contended": size.contended,
                "memory_used_mb": size.memory_used_mb,
                "cold_ms": size.cold.model_dump(),
                "warm_ms": size.warm.model_dump(),
                "cold_usd_per_million": size.cold_usd.model_dump(),
                "warm_usd_per_million": size.warm_usd.model_dump(),
            }
            for size in sizes
        ],
        "smallest_mb": next((size.variant.memory_mb for size in sizes if not size.fails), None),
        "knee_mb": knee_found.memory_mb if knee_found else None,
        "knee_reason": knee_found.reason if knee_found else "",
    }


def table(sizes: Sequence[Size]) -> str:
    """Every size as a row of a Markdown table."""
    return markdown_table(HEAD, [_line(size) for size in sizes], right=range(len(HEAD)))


def _line(size: Size) -> tuple[str, ...]:
    name = f"{size.variant.memory_mb:,}"
    if size.fails:
        return (name, "fails", *[""] * (len(HEAD) - 2))
    return (
        name,
        _text(size.cold),
        str(size.cold.n),
        _text(size.warm),
        str(size.warm.n),
        number_text(size.memory_used_mb),
        usd_text(size.cold_usd.value),
        usd_text(size.warm_usd.value),
    )


def _text(estimate: Estimate) -> str:
    interval = interval_text(estimate) or estimate.reason
    return f"{number_text(estimate.value)} ({interval})" if estimate.value is not None else estimate.reason


def answers(sizes: Sequence[Size]) -> list[str]:
    """What the table comes to, a sentence each."""
    running = [size.variant.memory_mb for size in sizes if not size.fails]
    lines = [f"{size.variant.memory_mb:,} MB fails: {size.fails}." for size in sizes if size.fails]
    if running:
        lines.append(f"Smallest size that runs: {running[0]:,} MB.")
    found = knee_of(sizes)
    if found is not None and found.memory_mb is not None:
        lines.append(f"Knee: {found.memory_mb:,} MB, {found.reason}.")
    elif found is not None:
        lines.append(f"No knee: {found.reason}.")
    contended = sum(size.contended for size in sizes)
    if contended:
        calls = sum(size.calls for size in sizes)
        lines.append(f"The host was short of CPU during {contended} of {calls} calls: close other programs, try again.")
    return [*lines, *REMARKS]
