"""From estimates and prices to the decision that [goal] of benchmark.toml asks for. No I/O.

Rules, in this order:

1. Each variant is held against each demand. The demand on p99 is judged by the share of calls over the limit, with its
   exact interval: it is met where that share is at most 1 % all through the interval, failed where it is above 1 % all
   through it, undetermined otherwise. So few samples make "undetermined", never "met".
   The demand that it runs is met by the bare share of failed calls (an interval that reaches beyond 1 % is named in the
   text: with a demand on p99 beside it, few samples are undetermined anyway) and failed by the interval.
2. Each variant takes its cheapest way of keeping environments warm that holds the cold share allowed.
3. Candidates are the variants that meet every demand; where there is none, those that fail none (and the answer says
   that it is provisional); where there is none of these, there is no recommendation, and the nearest miss is named.
4. The cheapest candidate a month wins. Its rivals are tied with it where they come out best in at least 5 % of the
   bootstrap's draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.estimate.estimates import Samples, bootstrap_means, bootstrap_quantiles, percentile, quantile, share
from analysis.estimate.traffic import CallProfile, Traffic, monthly_cost
from analysis.report.wording import number_text
from analysis.summary import (
    Constraint,
    ConstraintVerdict,
    Estimate,
    Knee,
    MonthlyCost,
    ParetoPoint,
    Recommendation,
    Strategy,
)
from core.configuration import GoalTable
from core.prices import Prices
from core.variants import DISPLAY_NAMES, Variant

STRATEGIES: Final[tuple[Strategy, ...]] = ("on_demand", "provisioned_concurrency", "warm_pings")
STRATEGY_NAMES: Final[dict[str, str]] = {
    "on_demand": "on demand",
    "provisioned_concurrency": "with provisioned concurrency",
    "warm_pings": "with warm pings",
}
MAX_OVER_LIMIT: Final = 0.01  # what "p99 at most" allows
MAX_FAILED: Final = 0.01
TIED_FROM: Final = 0.05
KNEE_GAIN: Final = 0.10
DRAWS: Final = 2000


@dataclass(frozen=True)
class Candidate:
    """What the decision needs to know of one variant; samples are sorted milliseconds."""

    variant: Variant
    profile: CallProfile | None  # None: nothing warm was measured
    latency_ms: Samples  # warm, as the client saw it; handler duration where no client recorded
    warm_billed_ms: Samples
    cold_billed_ms: Samples
    failed: int  # of the variant's own doing: out of memory, timeouts, errors
    answered: int
    top1_accuracy: float | None


def recommend(
    candidates: Sequence[Candidate],
    goal: GoalTable,
    traffic: Traffic,
    prices: Prices,
    *,
    measured_where: str,
    seed: int,
    free_tier: bool = False,
) -> Recommendation:
    """The cheapest variant that meets the goal, with what else could be it."""
    at_goal = traffic.scaled(goal.requests_per_month)
    plans = {
        candidate.variant.key: cheapest_plan(
            candidate.profile, at_goal, prices, goal.max_cold_share, free_tier=free_tier
        )
        for candidate in candidates
        if candidate.profile is not None
    }
    constraints = [
        constraint for candidate in candidates for constraint in hold(candidate, goal, plans.get(candidate.variant.key))
    ]
    verdicts: dict[str, set[ConstraintVerdict]] = {}
    for constraint in constraints:
        verdicts.setdefault(constraint.variant, set()).add(constraint.verdict)
    priced = [c for c in candidates if (plan := plans.get(c.variant.key)) is not None and plan.usd is not None]
    certain = [c for c in priced if verdicts[c.variant.key] == {"meets"}]
    open_ones = certain or [c for c in priced if "fails" not in verdicts[c.variant.key]]
    goal_numbers = {key: float(value) for key, value in goal.model_dump().items()}
    if not open_ones:
        headline, why, how_sure = _no_answer(candidates, constraints, verdicts, plans)
        return Recommendation(
            variant=None,
            strategy=None,
            monthly_usd=None,
            headline=headline,
            why=why,
            how_sure=how_sure,
            measured_where=measured_where,
            probability_best={},
            tied=(),
            constraints=tuple(constraints),
            goal=goal_numbers,
        )
    chances = probability_best(open_ones, goal, at_goal, prices, plans, seed=seed, free_tier=free_tier)
    best = min(open_ones, key=lambda c: (plans[c.variant.key].usd or 0.0, c.variant))
    key, plan = best.variant.key, plans[best.variant.key]
    tied = tuple(name for name, chance in chances.items() if name != key and chance >= TIED_FROM)
    return Recommendation(
        variant=key,
        strategy=plan.strategy,
        monthly_usd=plan.usd,
        headline=(
            f"{best.variant.display_name}, {STRATEGY_NAMES[plan.strategy]}: {_usd(plan.usd)} a month for "
            f"{goal.requests_per_month:,} requests."
        ),
        why=_reasons(best, plan, constraints, open_ones, plans),
        how_sure=_how_sure(key, chances, tied, candidates, provisional=not certain),
        measured_where=measured_where,
        probability_best=chances,
        tied=tied,
        constraints=tuple(constraints),
        goal=goal_numbers,
    )


def cheapest_plan(
    profile: CallProfile, traffic: Traffic, prices: Prices, max_cold_share: float, *, free_tier: bool = False
) -> MonthlyCost:
    """The cheapest strategy that holds the cold share; where none is known to, on demand with its reason."""
    plans = [
        monthly_cost(strategy, profile, traffic, prices, max_cold_share=max_cold_share, free_tier=free_tier)
        for strategy in STRATEGIES
    ]
    holding = [
        plan for plan in plans if plan.usd is not None and (plan.expected_cold_share or 0.0) <= max_cold_share + 1e-12
    ]
    return min(holding, key=lambda plan: plan.usd or 0.0) if holding else plans[0]


def hold(candidate: Candidate, goal: GoalTable, plan: MonthlyCost | None) -> list[Constraint]:
    """Hold one variant against each demand of the goal."""
    return [
        _runs(candidate),
        _p99(candidate, goal.p99_ms),
        _accuracy(candidate, goal.min_top1_accuracy),
        _cold(candidate, goal.max_cold_share, plan),
    ]


def _runs(candidate: Candidate) -> Constraint:
    found = share(candidate.failed, candidate.answered)
    verdict: ConstraintVerdict = "undetermined"
    if candidate.answered and candidate.failed == candidate.answered:
        verdict = "fails"
    elif found.value is not None and found.low is not None:
        verdict = "meets" if found.value <= MAX_FAILED else "fails" if found.low > MAX_FAILED else "undetermined"
    text = f"{candidate.failed} of {candidate.answered} calls failed in the function"
    if verdict == "meets" and (found.high is None or found.high > MAX_FAILED):
        text += ", by the bare share"
        if found.high is not None:
            text += f": the interval reaches {100 * found.high:.2g} %"
    return Constraint(
        variant=candidate.variant.key,
        name="runs",
        limit=MAX_FAILED,
        found=found,
        verdict=verdict,
        short_by=found.value - MAX_FAILED if verdict == "fails" and found.value is not None else None,
        text=text,
    )


def _p99(candidate: Candidate, limit_ms: float) -> Constraint:
    samples = candidate.latency_ms
    over = int(len(samples) - np.searchsorted(samples, limit_ms, side="right"))
    exceeding = share(over, len(samples))
    verdict: ConstraintVerdict = "undetermined"
    if exceeding.high is not None and exceeding.low is not None:
        if exceeding.high <= MAX_OVER_LIMIT:
            verdict = "meets"
        elif exceeding.low > MAX_OVER_LIMIT:
            verdict = "fails"
    found = percentile(samples, 0.99)
    text = f"{over} of {len(samples)} warm calls took longer than {limit_ms:g} ms"
    if verdict == "undetermined" and over == 0 and len(samples):
        text += f"; {len(samples)} calls cannot show that fewer than 1 % do (368 without one would)"
    return Constraint(
        variant=candidate.variant.key,
        name="p99_ms",
        limit=limit_ms,
        found=found,
        verdict=verdict,
        short_by=quantile(samples, 0.99) - limit_ms if verdict == "fails" else None,
        text=text,
    )


def _accuracy(candidate: Candidate, limit: float) -> Constraint:
    accuracy = candidate.top1_accuracy
    verdict: ConstraintVerdict = "undetermined" if accuracy is None else "meets" if accuracy >= limit else "fails"
    return Constraint(
        variant=candidate.variant.key,
        name="top1_accuracy",
        limit=limit,
        found=Estimate(value=accuracy, n=0, reason="published, not measured here"),
        verdict=verdict,
        short_by=limit - accuracy if accuracy is not None and verdict == "fails" else None,
        text="accuracy is unknown" if accuracy is None else f"top-1 accuracy {accuracy:.3f}, published",
    )


def _cold(candidate: Candidate, limit: float, plan: MonthlyCost | None) -> Constraint:
    expected = plan.expected_cold_share if plan is not None else None
    verdict: ConstraintVerdict = "undetermined"
    if plan is None or expected is None:
        text = "nothing warm was measured"
    elif plan.usd is None:
        text = plan.reason
    else:
        verdict = "meets" if expected <= limit + 1e-12 else "fails"
        text = f"expected {100 * expected:.2g} % cold {STRATEGY_NAMES[plan.strategy]}"
    return Constraint(
        variant=candidate.variant.key,
        name="cold_share",
        limit=limit,
        found=Estimate(value=expected, n=0, reason="by the traffic model, not measured"),
        verdict=verdict,
        short_by=expected - limit if expected is not None and verdict == "fails" else None,
        text=text,
    )


def probability_best(
    candidates: Sequence[Candidate],
    goal: GoalTable,
    traffic: Traffic,
    prices: Prices,
    plans: Mapping[str, MonthlyCost],
    *,
    seed: int,
    free_tier: bool = False,
) -> dict[str, float]:
    """Share of bootstrap draws in which each candidate is the cheapest whose p99 keeps the limit.

    Cost is linear in the mean billed times as long as the plan stays the same, so three evaluations give each draw.
    Only where a month just about uses up the free tier is that an approximation.
    """
    random = np.random.default_rng(seed)
    costs = np.empty((len(candidates), DRAWS))
    for row, candidate in enumerate(candidates):
        profile, plan = candidate.profile, plans[candidate.variant.key]
        if profile is None:
            costs[row] = np.inf
            continue
        base, by_warm, by_cold = linear_cost(profile, plan, traffic, prices, goal.max_cold_share, free_tier=free_tier)
        warm = bootstrap_means(candidate.warm_billed_ms, random, DRAWS)
        cold = bootstrap_means(candidate.cold_billed_ms, random, DRAWS) if len(candidate.cold_billed_ms) else 0.0
        costs[row] = base + by_warm * warm + by_cold * cold
        if len(candidate.latency_ms):
            p99 = bootstrap_quantiles(candidate.latency_ms, 0.99, random, DRAWS)
            costs[row, p99 > goal.p99_ms] = np.inf
    winners = np.argmin(costs, axis=0)
    decided = np.isfinite(costs.min(axis=0))
    return {
        candidate.variant.key: float(np.mean((winners == row) & decided)) for row, candidate in enumerate(candidates)
    }


def linear_cost(
    profile: CallProfile,
    plan: MonthlyCost,
    traffic: Traffic,
    prices: Prices,
    max_cold_share: float,
    *,
    free_tier: bool,
) -> tuple[float, float, float]:
    """Coefficients of the monthly cost: constant, per ms of warm and per ms of cold billed time."""
    environments = round(plan.environments or 0) if plan.strategy != "on_demand" else 0

    def usd(warm: float, cold: float) -> float:
        # The arrivals keep the service time measured; only what is billed for a call varies.
        changed = CallProfile(
            profile.variant, profile.memory_mb, profile.architecture, warm, cold, profile.log_bytes, profile.image_gb
        )
        cost = monthly_cost(
            plan.strategy,
            changed,
            traffic,
            prices,
            max_cold_share=max_cold_share,
            free_tier=free_tier,
            environments=environments,
            service_ms=profile.warm_billed_ms,
        )
        return cost.usd or 0.0

    warm, cold = profile.warm_billed_ms, profile.cold_billed_ms or 0.0
    here = usd(warm, cold)
    by_warm = (usd(warm * 1.1, cold) - here) / (warm * 0.1) if warm else 0.0
    by_cold = (usd(warm, cold * 1.1) - here) / (cold * 0.1) if cold else 0.0
    return here - by_warm * warm - by_cold * cold, by_warm, by_cold


def pareto(points: Sequence[ParetoPoint]) -> tuple[ParetoPoint, ...]:
    """Mark which variants no other beats: not dearer, not slower, not less accurate, and better in one of these."""

    def dominates(a: ParetoPoint, b: ParetoPoint) -> bool:
        accuracy_a, accuracy_b = a.top1_accuracy or 0.0, b.top1_accuracy or 0.0
        no_worse = a.usd_per_million <= b.usd_per_million and a.latency_ms <= b.latency_ms and accuracy_a >= accuracy_b
        better = a.usd_per_million < b.usd_per_million or a.latency_ms < b.latency_ms or accuracy_a > accuracy_b
        return no_worse and better

    marked = []
    for point in points:
        by = next((other.variant for other in points if dominates(other, point)), None)
        marked.append(point.model_copy(update={"on_front": by is None, "dominated_by": by}))
    return tuple(marked)


def knee(model: str, engine: str, architecture: str, metric: str, curve: Mapping[int, float]) -> Knee:
    """The smallest memory size that no larger one beats by more than 10 % in the median."""
    sizes = sorted(curve)
    name = DISPLAY_NAMES.get(model, model)
    found: int | None = None
    if len(sizes) < 3:
        reason = f"needs at least 3 memory sizes that ran, {len(sizes)} did"
    else:
        found = next(
            size
            for size in sizes
            if all(curve[larger] >= (1 - KNEE_GAIN) * curve[size] for larger in sizes if larger > size)
        )
        if found == sizes[-1]:
            found, reason = None, f"{name} still gains more than {100 * KNEE_GAIN:.0f} % at the last step"
        else:
            gain = 1 - min(curve[size] for size in sizes if size >= found) / curve[found]
            reason = f"no larger size is faster by more than {100 * KNEE_GAIN:.0f} % (the best by {100 * gain:.1f} %)"
    return Knee(
        model=model,
        engine=engine,
        architecture=architecture,
        metric=metric,
        memory_mb=found,
        curve={size: curve[size] for size in sizes},
        reason=reason,
    )


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"${value:,.2f}"


def _reasons(
    best: Candidate,
    plan: MonthlyCost,
    constraints: Sequence[Constraint],
    candidates: Sequence[Candidate],
    plans: Mapping[str, MonthlyCost],
) -> tuple[str, ...]:
    lines = [c.text[0].upper() + c.text[1:] + "." for c in constraints if c.variant == best.variant.key]
    others = sorted(
        (plans[c.variant.key].usd or 0.0, c.variant.display_name) for c in candidates if c.variant != best.variant
    )
    if others:
        usd, name = others[0]
        lines.append(f"The next cheapest, {name}, costs {_usd(usd)} a month, {_usd(usd - (plan.usd or 0.0))} more.")
    failing = sorted({c.variant for c in constraints if c.verdict == "fails"})
    if failing:
        lines.append(f"{len(failing)} of the measured variants fail at least one demand.")
    return tuple(lines)


def _how_sure(
    key: str, chances: Mapping[str, float], tied: Sequence[str], candidates: Sequence[Candidate], *, provisional: bool
) -> str:
    text = f"It is the cheapest in {100 * chances[key]:.0f} % of {DRAWS} bootstrap draws."
    if tied:
        names = {candidate.variant.key: candidate.variant.display_name for candidate in candidates}
        text += f" The data cannot tell it from {', '.join(names[name] for name in tied)}."
    if provisional:
        text = (
            "Provisional: no variant is shown to meet every demand; this one is shown to fail none. "
            + text
            + " More samples decide it."
        )
    return text


def _no_answer(
    candidates: Sequence[Candidate],
    constraints: Sequence[Constraint],
    verdicts: Mapping[str, set[ConstraintVerdict]],
    plans: Mapping[str, MonthlyCost],
) -> tuple[str, tuple[str, ...], str]:
    """Headline, reasons and how sure where nothing can be recommended: refused by the data, or not measured enough."""
    names = {candidate.variant.key: candidate.variant.display_name for candidate in candidates}
    misses = _nearest_misses(constraints, names)
    unpriced = [candidate.variant.key for candidate in candidates if "fails" not in verdicts[candidate.variant.key]]
    if candidates and not unpriced:
        return "No measured variant meets the goal.", misses, "The demands named fail beyond their 95 % intervals."
    reasons = dict.fromkeys(_reason(plans.get(key)) for key in unpriced)
    why = tuple(
        f"{', '.join(names[key] for key in unpriced if _reason(plans.get(key)) == reason)}: {reason}."
        for reason in reasons
    )
    return (
        "No variant can be recommended: too little was measured.",
        (why or ("No cold, warm or load call was measured.",)) + misses,
        "Undecided: what is not measured is neither met nor failed.",
    )


def _reason(plan: MonthlyCost | None) -> str:
    return "nothing warm was measured" if plan is None else plan.reason


DEMANDS: Final = {
    "runs": ("the share of failed calls at most", ""),
    "p99_ms": ("a p99 of at most", " ms"),
    "top1_accuracy": ("a top-1 accuracy of at least", ""),
    "cold_share": ("a cold share of at most", ""),
}


def _nearest_misses(constraints: Sequence[Constraint], names: Mapping[str, str]) -> tuple[str, ...]:
    failing = [c for c in constraints if c.verdict == "fails" and c.short_by is not None]
    by_variant: dict[str, list[Constraint]] = {}
    for constraint in failing:
        by_variant.setdefault(constraint.variant, []).append(constraint)
    ranked = sorted(
        by_variant.values(), key=lambda misses: (len(misses), sum((m.short_by or 0) / (m.limit or 1) for m in misses))
    )
    return tuple(
        f"{names[misses[0].variant]} misses " + ", and ".join(_miss(miss) for miss in misses) + "."
        for misses in ranked[:3]
    )


def _miss(miss: Constraint) -> str:
    demand, unit = DEMANDS[miss.name]
    return f"{demand} {number_text(miss.limit)}{unit} by {number_text(miss.short_by)}{unit} ({miss.text})"
