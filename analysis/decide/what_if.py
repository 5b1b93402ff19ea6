"""The answer at other traffic and limits: the rules of the recommendation over a grid. No I/O.

Each point is decided as the answer is, so the point of the run's own traffic and goal is the answer. Poisson arrivals
are worked out by formulas, bursts are simulated (`analysis.estimate.traffic`). Nothing is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import Final

from analysis.decide.callers import Condition, Waits, bad_share_verdict, percentile_ms
from analysis.decide.recommend import (
    Candidate,
    Option,
    Question,
    accuracy_verdict,
    cold_verdict,
    make_option,
    ways,
    worst,
)
from analysis.estimate.costs import STRATEGIES_OF
from analysis.estimate.traffic import CallMix, CallProfile, Traffic, call_mix
from analysis.summary import AS_NEEDED, NOTHING_ENFORCED, Axis, ConstraintVerdict, Strategy, WhatIf, WhatIfAnswer
from core.money.charges import SECONDS_PER_MONTH, front_door_usd, provisioned_duration_usd, provisioned_usd
from core.money.prices import gb_seconds
from core.variants import Variant

REQUESTS_PER_DAY: Final = (100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 100_000.0, 300_000.0, 1_000_000.0)
BURSTINESS: Final = (1.0, 100.0, 1000.0)
IDLE_MINUTES: Final = (5.0, 10.0, 60.0)
LIMITS_MS: Final = (200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
SAME: Final = 1.25  # a step this close to the run's own value gives way to it

WaitsAt = Callable[[float], Mapping[str, Sequence[Waits]]]


@dataclass(frozen=True)
class _Way:
    """A way of starting a variant under one traffic, with what it costs at least."""

    strategy: Strategy
    environments: int
    mix: CallMix
    least_usd: float


def what_if(candidates: Sequence[Candidate], question: Question, waits_at: WaitsAt) -> WhatIf:
    """Decide every point of the grid; `waits_at` gives what callers of each variant wait at a peak rate."""
    own, goal = question.traffic, question.goal
    axes: dict[Axis, tuple[float, ...]] = {
        "requests_per_day": _axis(own.requests_per_day, REQUESTS_PER_DAY),
        "burstiness": _axis(own.burstiness, BURSTINESS),
        "idle_minutes": _axis(own.idle_s / 60, IDLE_MINUTES),
        "limit_ms": _axis(goal.limit_ms, LIMITS_MS),
    }
    accurate = [one for one in candidates if accuracy_verdict(one, goal.min_top1_accuracy) != "fails"]
    if reason := _why_none(accurate, question):
        return WhatIf(axes=axes, answers=(), reason=reason)
    # The load's calls are counted per second, so whole rates are enough.
    waits_of = cache(waits_at)

    @cache
    def conditions_of(peak_rps: int, limit_ms: float, key: str) -> tuple[Condition, ...]:
        return tuple(part.condition(limit_ms) for part in waits_of(peak_rps)[key])

    by_key = {one.variant.key: one for one in accurate}
    answers = []
    *of_traffic, limits_ms = axes.values()
    for requests, burstiness, idle_minutes in product(*of_traffic):
        traffic = Traffic(requests, own.hourly_weights, 60 * idle_minutes, burstiness)
        asked = replace(question, traffic=traffic)
        ordered = sorted(((_least_usd(one, asked), one) for one in accurate), key=lambda pair: pair[0])
        ways_of = cache(partial(_ways, asked, by_key))
        peak_rps = max(1, int(traffic.peak_rps))
        for limit_ms in limits_ms:
            asked = replace(asked, goal=goal.model_copy(update={"limit_ms": limit_ms}))
            best = _cheapest(ordered, ways_of, asked, partial(conditions_of, peak_rps, limit_ms))
            answers.append(_answer(best, asked, waits_of(peak_rps)))
    return WhatIf(axes=axes, answers=tuple(answers))


def _axis(own: float, steps: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted({own, *(step for step in steps if max(step, own) / min(step, own) > SAME)}))


def _why_none(accurate: Sequence[Candidate], question: Question) -> str:
    if not accurate:
        return "no measured variant has the accuracy that the goal asks for"
    if not any(ways(one, question) for one in accurate):
        return "no variant has both warm calls and cold starts that count"
    if not question.comparable and len({one.variant.memory_mb for one in accurate}) > 1:
        return NOTHING_ENFORCED
    return ""


def _ways(question: Question, candidates: Mapping[str, Candidate], key: str) -> tuple[_Way, ...]:
    found, candidate = [], candidates[key]
    for strategy, count in ways(candidate, question):
        assert candidate.profile is not None  # priced ones alone
        mix = call_mix(question.traffic, candidate.profile.service, kept_warm=count)
        if strategy == "provisioned_concurrency":
            least_usd = _least_provisioned_usd(candidate.profile, count, question)
        else:
            least_usd = question.costs.month(strategy, candidate.profile, environments=count).usd or 0.0
        found.append(_Way(strategy, count, mix, least_usd))
    return tuple(found)


def _least_usd(candidate: Candidate, question: Question) -> float:
    """Return what a month costs at least, however started: every call warm, at the cheapest rate there is."""
    profile, prices, requests = candidate.profile, question.prices, question.traffic.requests_per_month
    if profile is None or question.free_tier:
        return 0.0
    of = profile.architecture
    fully_used = prices[f"{of}_provisioned_gb_second_usd"] + prices[f"{of}_provisioned_duration_gb_second_usd"]
    rate = min(prices[f"{of}_gb_second_usd"], prices[f"{of}_third_tier_gb_second_usd"], fully_used)
    fees = front_door_usd(requests, "rest_api", prices) + requests * prices.request_usd
    return fees + gb_seconds(profile.memory_mb, requests * profile.warm_billed_ms) * rate


def _least_provisioned_usd(profile: CallProfile, count: int, question: Question) -> float:
    """Return what provisioned concurrency costs at least: its price, and every call at its rate.

    Which calls find it busy takes a simulation, so the exact price of a way that cannot be the answer is never found.
    """
    used = gb_seconds(profile.memory_mb, question.traffic.requests_per_month * profile.warm_billed_ms)
    kept = provisioned_usd(profile.memory_mb, count, SECONDS_PER_MONTH, profile.architecture, question.prices)
    return kept + provisioned_duration_usd(used, profile.architecture, question.prices)


def _cheapest(
    ordered: Sequence[tuple[float, Candidate]],
    ways_of: Callable[[str], tuple[_Way, ...]],
    question: Question,
    conditions_of: Callable[[str], tuple[Condition, ...]],
) -> Option | None:
    """Return what the recommendation would: the cheapest that meets the goal, or else the cheapest that fails nothing.

    `ordered` holds candidates by their lowest possible cost: the search ends when no other can be cheaper.
    """
    best: Option | None = None
    for candidate_least_usd, candidate in ordered:
        if _is_dearer(candidate_least_usd, best, "meets"):
            break
        conditions = conditions_of(candidate.variant.key)
        for way in ways_of(candidate.variant.key):
            verdict = worst(
                accuracy_verdict(candidate, question.goal.min_top1_accuracy),
                cold_verdict(way.mix.cold, question.goal.max_cold_share),
                bad_share_verdict(conditions, way.mix, question.goal.max_bad_share),
            )
            if verdict == "fails" or _is_dearer(way.least_usd, best, verdict):
                continue
            judged = replace(candidate, conditions=conditions)
            option = make_option(judged, question, way.strategy, way.environments)
            if best is None or _rank(option) < _rank(best):
                best = option
    return best


def _is_dearer(least_usd: float, best: Option | None, verdict: ConstraintVerdict) -> bool:
    """Whether an option of this verdict that costs at least so much cannot replace the best one."""
    return best is not None and least_usd > best.usd and verdict in {best.verdict, "undetermined"}


def _rank(option: Option) -> tuple[bool, float, Variant]:
    return option.verdict != "meets", option.usd, option.candidate.variant


def _answer(best: Option | None, question: Question, waits: Mapping[str, Sequence[Waits]]) -> WhatIfAnswer:
    if best is None:
        return WhatIfAnswer()
    profile, plan = best.candidate.profile, best.plan
    assert profile is not None  # priced ones alone
    p99_ms = percentile_ms(waits[best.key], best.mix, 0.99)
    return WhatIfAnswer(
        variant=best.key,
        strategy=plan.strategy,
        environments=0 if plan.strategy in AS_NEEDED else round(plan.environments or 0),
        meets=best.verdict == "meets" and not question.breaches,
        monthly_usd=best.usd,
        missed=best.found.value,
        missed_low=best.found.low,
        missed_high=best.found.high,
        cold_share=best.mix.cold,
        p99_ms=None if p99_ms == math.inf else p99_ms,
        p99_unanswered=p99_ms == math.inf,
        strategy_usd={
            strategy: best.usd if strategy == plan.strategy else question.costs.month(strategy, profile).usd or 0.0
            for strategy in STRATEGIES_OF[profile.start]
        },
    )
