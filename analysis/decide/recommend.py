"""From estimates and prices to the decision that [goal] of benchmark.toml asks for. No I/O.

Rules, in this order:

1. An option is a variant with a way of starting it: its own start mode, with as many provisioned environments as were
   deployed. For those on demand, it is also warm pings, which keep one environment, or provisioned concurrency with as
   many as hold the cold share allowed, or as keep cold starts a small part of the bad calls.
2. Each option is held against each demand. The demand on callers is met where the interval of the share of bad calls
   lies below `max_bad_share`, failed if it is above, undetermined otherwise: few samples never make "met".
3. The cheapest option that meets every demand wins; if no variant does, the cheapest that fails no demand, and the
   answer is provisional; if no option is left, there is no recommendation, and the nearest miss is named.
4. Cheaper options that are undetermined are named with what it would take to decide. Options are tied with the winner
   where they come out best in at least 5% of draws.
5. Where memory sizes are not comparable, none is recommended over another. Where the data break their contract, the
   answer is provisional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from analysis.decide import answer_text
from analysis.decide.callers import Condition, bad_share, bad_share_draws, calls_to_decide, shares, verdict
from analysis.estimate.costs import STRATEGIES_OF, CostModel
from analysis.estimate.environments import Sample
from analysis.estimate.estimates import mean_draws
from analysis.estimate.traffic import CallMix, CallProfile, Traffic, call_mix, needed_environments
from analysis.summary import (
    AS_NEEDED,
    Constraint,
    ConstraintVerdict,
    Estimate,
    MonthlyCost,
    Recommendation,
    Rival,
    Strategy,
)
from core.configuration import GoalTable
from core.money.prices import Prices
from core.variants import Variant

TIED_FROM: Final = 0.05
DRAWS: Final = 4000
SMALL_PART: Final = 0.1  # of the bad calls allowed: so few cold starts leave the rest to the other conditions


@dataclass(frozen=True)
class Candidate:
    """The facts about one variant that the decision needs."""

    variant: Variant
    profile: CallProfile | None  # None: nothing warm was measured
    conditions: tuple[Condition, ...]  # cold, alone, concurrent
    warm_billed_ms: Sample
    cold_billed_ms: Sample
    top1_accuracy: float | None


@dataclass(frozen=True)
class Question:
    """The question: the goal at the traffic's volume and prices."""

    goal: GoalTable
    traffic: Traffic
    prices: Prices
    measured_where: str
    seed: int
    free_tier: bool = False
    comparable: bool = True  # whether memory sizes differ in more than their name
    breaches: tuple[str, ...] = ()  # of the data contract: why the answer is provisional whatever the intervals say
    lab: bool = False
    provisioned: int = 0  # environments that each variant keeps that was measured with provisioned concurrency

    @property
    def costs(self) -> CostModel:
        return CostModel(self.prices, self.traffic, self.goal, self.free_tier, self.provisioned)


@dataclass(frozen=True)
class Option:
    """A variant and a way of starting it, held against the demands."""

    candidate: Candidate
    plan: MonthlyCost
    mix: CallMix
    found: Estimate
    constraints: tuple[Constraint, ...] = field(default=())

    @property
    def key(self) -> str:
        return self.candidate.variant.key

    @property
    def usd(self) -> float:
        return self.plan.usd or 0.0

    @property
    def verdict(self) -> ConstraintVerdict:
        return worst(*(constraint.verdict for constraint in self.constraints))


def worst(*verdicts: ConstraintVerdict) -> ConstraintVerdict:
    """Return the verdict on several demands together."""
    return "fails" if "fails" in verdicts else "undetermined" if "undetermined" in verdicts else "meets"


def recommend(candidates: Sequence[Candidate], question: Question) -> Recommendation:
    """The cheapest option that meets the goal, with what else could be it."""
    options = [option for candidate in candidates for option in make_options(candidate, question)]
    best_of_each = {option.key: option for option in sorted(options, key=_preference, reverse=True)}
    constraints = tuple(
        constraint
        for candidate in candidates
        for constraint in (
            best_of_each[candidate.variant.key].constraints
            if candidate.variant.key in best_of_each
            else unpriced(candidate, question)
        )
    )
    open_ones = [option for option in best_of_each.values() if option.verdict != "fails"]
    sizes = {candidate.variant.memory_mb for candidate in candidates}
    if not open_ones or (not question.comparable and len(sizes) > 1):
        text = answer_text.no_answer(candidates, constraints, open_ones, comparable=question.comparable)
        return _recommendation(question, constraints, text)
    certain = [option for option in open_ones if option.verdict == "meets"]
    best = min(certain or open_ones, key=lambda option: (option.usd, option.candidate.variant))
    rivals = tuple(
        make_rival(option, question)
        for option in sorted(options, key=lambda option: option.usd)
        if option.verdict == "undetermined" and option.usd < best.usd
    )
    chances = probability_best(open_ones, question)
    tied = tuple(key for key, chance in chances.items() if key != best.key and chance >= TIED_FROM)
    provisional = (*question.breaches, *(() if certain else (answer_text.why_provisional(best, question),)))
    text = answer_text.answer(best, rivals, chances, tied, provisional, question, open_ones)
    return _recommendation(
        question, constraints, text, best, rivals=rivals, chances=chances, tied=tied, provisional=provisional
    )


def _recommendation(
    question: Question,
    constraints: tuple[Constraint, ...],
    text: answer_text.Text,
    best: Option | None = None,
    *,
    rivals: tuple[Rival, ...] = (),
    chances: Mapping[str, float] | None = None,
    tied: tuple[str, ...] = (),
    provisional: tuple[str, ...] = (),
) -> Recommendation:
    goal = {name: float(value) for name, value in question.goal.model_dump().items()}
    return Recommendation(
        variant=best.key if best else None,
        strategy=best.plan.strategy if best else None,
        monthly_usd=best.plan.usd if best else None,
        bad_share=best.found if best else None,
        conditions=shares(best.candidate.conditions, best.mix) if best else (),
        rivals=rivals,
        provisional=provisional,
        headline=text.headline,
        why=text.why,
        how_sure=text.how_sure,
        measured_where=question.measured_where,
        probability_best=dict(chances or {}),
        tied=tied,
        constraints=constraints,
        goal=goal | {"requests_per_month": question.traffic.requests_per_month},
    )


def _preference(option: Option) -> tuple[int, float]:
    """Options of one variant in the order in which they speak for it: what meets before what may, then by price."""
    return ("meets", "undetermined", "fails").index(option.verdict), option.usd


def make_options(candidate: Candidate, question: Question) -> list[Option]:
    """Every way of starting a variant that can be priced."""
    return [make_option(candidate, question, strategy, count) for strategy, count in ways(candidate, question)]


def ways(candidate: Candidate, question: Question) -> list[tuple[Strategy, int]]:
    """Start strategies of a variant, with how many environments each keeps; none where a price is unknown."""
    if candidate.profile is None or candidate.profile.cold_billed_ms is None:
        return []
    traffic, goal, service = question.traffic, question.goal, candidate.profile.service
    cold_shares = {min(goal.max_cold_share, most) for most in (1.0, SMALL_PART * goal.max_bad_share)}
    counts = sorted({max(1, needed_environments(traffic, service, share)) for share in cold_shares})
    if candidate.variant.start == "provisioned":
        counts = [question.provisioned]  # as it was measured
    kept: dict[Strategy, list[int]] = {"on_demand": [0], "snapstart": [0], "warm_pings": [1]}
    known = STRATEGIES_OF[candidate.variant.start]
    return [(strategy, count) for strategy in known for count in kept.get(strategy, counts)]


def make_option(candidate: Candidate, question: Question, strategy: Strategy, environments: int) -> Option:
    """Price one way of starting a variant, and hold it against the demands."""
    assert candidate.profile is not None  # priced ones alone
    plan = question.costs.month(strategy, candidate.profile, environments=environments)
    mix = call_mix(question.traffic, candidate.profile.service, kept_warm=environments)
    found = bad_share(candidate.conditions, mix)
    option = Option(candidate, plan, mix, found)
    return Option(candidate, plan, mix, found, hold(option, question.goal))


def hold(option: Option, goal: GoalTable) -> tuple[Constraint, ...]:
    """Hold one option against each demand of the goal."""
    found, limit = option.found, goal.max_bad_share
    judged = verdict(found, limit)
    miss = (found.value if found.value is not None else found.low or 0.0) - limit
    held = [
        Constraint(
            variant=option.key,
            name="bad_share",
            limit=limit,
            found=found,
            verdict=judged,
            short_by=miss if judged == "fails" else None,
            text=answer_text.bad_share_text(option, goal),
        ),
        _accuracy(option.candidate, goal.min_top1_accuracy),
    ]
    if goal.max_cold_share < 1:
        held.append(_cold(option, goal.max_cold_share))
    return tuple(held)


def unpriced(candidate: Candidate, question: Question) -> tuple[Constraint, ...]:
    """The demands on a variant whose month has no price: nothing is known of callers."""
    reason = "nothing warm was measured" if candidate.profile is None else "no cold start was measured"
    unknown = Constraint(
        variant=candidate.variant.key,
        name="bad_share",
        limit=question.goal.max_bad_share,
        found=Estimate(value=None, n=sum(one.n for one in candidate.conditions), reason=reason),
        verdict="undetermined",
        text=reason,
    )
    # What ran and failed always is known well enough.
    one_condition = [one for one in candidate.conditions if one.n]
    if one_condition and all(one.bad == one.n for one in one_condition):
        calls = sum(one.n for one in one_condition)
        text = f"all {calls} calls failed or took longer than {question.goal.limit_ms:,g} ms"
        unknown = unknown.model_copy(
            update={"verdict": "fails", "text": text, "short_by": 1 - question.goal.max_bad_share}
        )
    return unknown, _accuracy(candidate, question.goal.min_top1_accuracy)


def accuracy_verdict(candidate: Candidate, limit: float) -> ConstraintVerdict:
    """Hold the published accuracy against what the goal asks for."""
    accuracy = candidate.top1_accuracy
    return "undetermined" if accuracy is None else "meets" if accuracy >= limit else "fails"


def cold_verdict(expected: float, limit: float) -> ConstraintVerdict:
    """Hold the expected share of cold starts against what the goal allows."""
    return "meets" if expected <= limit + 1e-12 else "fails"


def _accuracy(candidate: Candidate, limit: float) -> Constraint:
    accuracy, judged = candidate.top1_accuracy, accuracy_verdict(candidate, limit)
    return Constraint(
        variant=candidate.variant.key,
        name="top1_accuracy",
        limit=limit,
        found=Estimate(value=accuracy, n=0, reason="published, not measured here"),
        verdict=judged,
        short_by=limit - accuracy if accuracy is not None and judged == "fails" else None,
        text="accuracy is unknown" if accuracy is None else f"top-1 accuracy {accuracy:.3f}, published",
    )


def _cold(option: Option, limit: float) -> Constraint:
    expected = option.mix.cold
    judged = cold_verdict(expected, limit)
    return Constraint(
        variant=option.key,
        name="cold_share",
        limit=limit,
        found=Estimate(value=expected, n=0, reason="by the traffic model, not measured"),
        verdict=judged,
        short_by=expected - limit if judged == "fails" else None,
        text=f"expected {100 * expected:.2g}% cold {answer_text.STRATEGY_NAMES[option.plan.strategy]}",
    )


def make_rival(option: Option, question: Question) -> Rival:
    """A cheaper option with what it would take to decide on it."""
    more = calls_to_decide(option.candidate.conditions, option.mix, question.goal.max_bad_share)
    usd = None
    profile = option.candidate.profile
    if more is not None and profile is not None:
        billed = {"cold": profile.cold_billed_ms or 0.0}
        usd = sum(
            count
            * question.prices.call_usd(
                profile.memory_mb,
                billed.get(name, profile.warm_billed_ms),
                profile.architecture,
                through_gateway=name != "cold",
            )
            for name, count in more.items()
        )
    return Rival(
        variant=option.key,
        strategy=option.plan.strategy,
        monthly_usd=option.usd,
        bad_share=option.found,
        more_calls=sum(more.values()) if more is not None else None,
        more_usd=usd,
    )


def probability_best(options: Sequence[Option], question: Question) -> dict[str, float]:
    """Share of draws in which each option is the cheapest that keeps the share of bad calls within the limit.

    Cost is linear in the mean billed times as long as the plan stays the same, so three evaluations give each draw.
    Empty where an option's mean cost has no spread that the data tell: no number is better than a certain-looking one.
    """
    random = np.random.default_rng(question.seed)
    costs = np.empty((len(options), DRAWS))
    for row, option in enumerate(options):
        candidate = option.candidate
        warm = mean_draws(candidate.warm_billed_ms, random, DRAWS)
        cold = mean_draws(candidate.cold_billed_ms, random, DRAWS)
        if warm is None or cold is None:
            return {}
        base, by_warm, by_cold = linear_cost(option, question)
        costs[row] = base + by_warm * warm + by_cold * cold
        draws = bad_share_draws(candidate.conditions, option.mix, random, DRAWS)
        costs[row, draws > question.goal.max_bad_share] = np.inf
    winners = np.argmin(costs, axis=0)
    decided = np.isfinite(costs.min(axis=0))
    return {option.key: float(np.mean((winners == row) & decided)) for row, option in enumerate(options)}


def linear_cost(option: Option, question: Question) -> tuple[float, float, float]:
    """Coefficients of the monthly cost: constant, per ms of warm and per ms of cold billed time."""
    profile, plan = option.candidate.profile, option.plan
    assert profile is not None  # priced ones alone
    environments = 0 if plan.strategy in AS_NEEDED else round(plan.environments or 0)

    def usd(warm: float, cold: float) -> float:
        # The arrivals keep the service time measured; only what is billed for a call varies.
        changed = replace(profile, warm_billed_ms=warm, cold_billed_ms=cold)
        cost = question.costs.month(plan.strategy, changed, environments=environments, service=profile.service)
        return cost.usd or 0.0

    warm, cold = profile.warm_billed_ms, profile.cold_billed_ms or 0.0
    here = usd(warm, cold)
    by_warm = (usd(warm * 1.1, cold) - here) / (warm * 0.1) if warm else 0.0
    by_cold = (usd(warm, cold * 1.1) - here) / (cold * 0.1) if cold else 0.0
    return here - by_warm * warm - by_cold * cold, by_warm, by_cold
