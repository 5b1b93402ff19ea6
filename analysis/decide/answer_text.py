"""The answer in sentences: headline, reasons, how sure. Numbers and verdicts come from `recommend`. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from analysis.decide.callers import Condition, weights_of
from analysis.estimate.environments import SMALLEST_ENVIRONMENTS
from analysis.report.wording import number_text, percent_text
from analysis.summary import Constraint, Estimate, Rival
from core.configuration import GoalTable
from core.money.charges import FrontDoor, front_door_usd
from core.variants import Variant

if TYPE_CHECKING:
    from analysis.decide.recommend import Candidate, Option, Question

STRATEGY_NAMES: Final[dict[str, str]] = {
    "on_demand": "on demand",
    "snapstart": "with SnapStart",
    "provisioned_concurrency": "with provisioned concurrency",
    "warm_pings": "with warm pings",
}
CONDITION_NAMES: Final[dict[str, str]] = {
    "cold": "cold starts",
    "alone": "sequential warm calls",
    "concurrent": "warm calls under load",
}
DEMANDS: Final = {
    "bad_share": "a share of bad calls of at most",
    "top1_accuracy": "a top-1 accuracy of at least",
    "cold_share": "a cold share of at most",
}


@dataclass(frozen=True)
class Text:
    headline: str
    why: tuple[str, ...]
    how_sure: str


def _named(variant: Variant, strategy: str) -> str:
    """Return the name of an option; a start mode other than on demand is in the variant's name already."""
    name = variant.display_name
    return f"{name}, {STRATEGY_NAMES[strategy]}" if variant.start == "on_demand" else name


def usd(value: float | None) -> str:
    return "unknown" if value is None else f"${value:,.2f}"


def share_text(found: Estimate) -> str:
    """`0.3% (0.1 to 0.8%)`, or the bounds alone where a part was not measured."""
    if found.low is None or found.high is None:
        return percent_text(found.value)
    bounds = f"{number_text(100 * found.low, digits=2)} to {number_text(100 * found.high, digits=2)}%"
    return bounds if found.value is None else f"{percent_text(found.value)} ({bounds})"


def _condition_text(one: Condition, weight: float) -> str:
    name = CONDITION_NAMES[one.name]
    if one.n == 0:
        return f"{name} ({percent_text(weight)} of calls) were not measured"
    return f"{one.bad} of {one.n} {name} were bad (weight {percent_text(weight)})"


def bad_share_text(option: Option, goal: GoalTable) -> str:
    """Return the parts of the share of bad calls."""
    weights = weights_of(option.mix)
    parts = [_condition_text(one, weights[one.name]) for one in option.candidate.conditions if weights[one.name] > 0]
    way = STRATEGY_NAMES[option.plan.strategy]
    return (
        f"{share_text(option.found)} of calls fail or take longer than {goal.limit_ms:,g} ms {way}: {'; '.join(parts)}"
    )


def why_provisional(best: Option, question: Question) -> str:
    """Why no option is certain, for the cheapest that may meet the goal."""
    allowed = percent_text(question.goal.max_bad_share)
    one = next((one for one in best.candidate.conditions if one.n and one.countable <= 0), None)
    if one is not None:
        return (
            f"all {one.n} {CONDITION_NAMES[one.name]} came from {one.environments} environment; measure at least "
            f"{SMALLEST_ENVIRONMENTS}, which `[experiments.warm] environments` sets"
        )
    return f"{share_text(best.found)} of calls may be bad and the goal allows {allowed}: too few samples to decide"


def answer(
    best: Option,
    rivals: Sequence[Rival],
    chances: Mapping[str, float],
    tied: Sequence[str],
    provisional: Sequence[str],
    question: Question,
    options: Sequence[Option],
) -> Text:
    """The answer where there is one."""
    requests = question.traffic.requests_per_month
    dollars = f"{usd(best.plan.usd)} per month at AWS's prices" + (" with the lab's times" if question.lab else "")
    headline = (
        f"{_named(best.candidate.variant, best.plan.strategy)}: {dollars}, "
        f"{requests:,.0f} requests; {share_text(best.found)} of callers get no answer within "
        f"{question.goal.limit_ms:,g} ms."
    )
    lines = [_sentence(c.text) for c in best.constraints]
    others = sorted((option.usd, option.candidate.variant.display_name) for option in options if option is not best)
    dearer = [(price, name) for price, name in others if price >= best.usd]
    if dearer:
        price, name = dearer[0]
        lines.append(f"The next cheapest, {name}, costs {usd(price)} per month, {usd(price - best.usd)} more.")
    names = {option.key: option.candidate.variant.display_name for option in options}
    variants = {option.key: option.candidate.variant for option in options}
    lines.append(front_doors_text(best, question))
    lines += [_rival_text(rival, variants[rival.variant]) for rival in rivals[:3]]
    return Text(headline, tuple(lines), _how_sure(best, rivals, chances, tied, provisional, names))


def front_doors_text(best: Option, question: Question) -> str:
    """Return the API's part of the price, and the month's cost through each alternative."""
    fee = best.plan.parts["gateway"]
    without = best.usd - fee
    doors: tuple[tuple[str, FrontDoor], ...] = (("an HTTP API", "http_api"), ("a function URL", "function_url"))
    others = {
        name: without + front_door_usd(question.traffic.requests_per_month, door, question.prices)
        for name, door in doors
    }
    priced = " and ".join(f"{usd(value)} through {name}" for name, value in others.items())
    return f"The REST API is {usd(fee)} of {usd(best.usd)}; the month would cost {priced}."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _rival_text(rival: Rival, variant: Variant) -> str:
    text = (
        f"Cheaper and undecided: {_named(variant, rival.strategy)}, {usd(rival.monthly_usd)} per month, "
        f"{share_text(rival.bad_share)} bad calls. "
    )
    if rival.more_calls is None:
        return text + "It is so close to the limit that a hundred times the calls would not decide."
    return text + f"About {rival.more_calls:,} more calls ({number_text(rival.more_usd, digits=2)} USD) would decide."


def _how_sure(
    best: Option,
    rivals: Sequence[Rival],
    chances: Mapping[str, float],
    tied: Sequence[str],
    provisional: Sequence[str],
    names: Mapping[str, str],
) -> str:
    parts = []
    if provisional:
        parts.append(f"Provisional: {' '.join(_sentence(reason) for reason in provisional)}")
    else:
        parts.append("Every requirement holds even at the pessimistic end of its 95% interval.")
    if not chances:
        parts.append("Too few environments were measured to say how likely it is the cheapest.")
    elif best.key in chances:
        parts.append(f"Of the variants that may meet the goal it is the best with probability {chances[best.key]:.2f}.")
    if tied:
        parts.append(f"The data do not separate it from {', '.join(names[key] for key in tied)}.")
    if rivals:
        parts.append(
            "One cheaper option is undecided." if len(rivals) == 1 else f"{len(rivals)} cheaper options are undecided."
        )
    return " ".join(parts)


def no_answer(
    candidates: Sequence[Candidate], constraints: Sequence[Constraint], open_ones: Sequence[Option], *, comparable: bool
) -> Text:
    """The text where nothing can be recommended: refused by the data, not measured enough, or not comparable."""
    names = {candidate.variant.key: candidate.variant.display_name for candidate in candidates}
    misses = _nearest_misses(constraints, names)
    if open_ones and not comparable:
        return Text(
            "No memory size can be recommended: nothing enforced the limits that tell them apart.",
            ("Without a CPU share and a memory limit, memory sizes differ in name alone.",),
            "Undecided. `inference-lab lab doctor` says which limits work here, and how to enable the rest.",
        )
    failing = {c.variant for c in constraints if c.verdict == "fails"}
    unmeasured = [key for key in names if key not in failing]
    if candidates and not unmeasured:
        return Text("No measured variant meets the goal.", misses, "The demands named fail beyond their 95% intervals.")
    reasons: dict[str, list[str]] = {}
    for constraint in constraints:
        if constraint.variant in unmeasured and constraint.name == "bad_share":
            reasons.setdefault(constraint.text, []).append(names[constraint.variant])
    why = tuple(f"{', '.join(of)}: {reason}." for reason, of in reasons.items())
    return Text(
        "No variant can be recommended: too little was measured.",
        (why or ("No cold, warm or load call was measured.",)) + misses,
        "Undecided: what is not measured is neither met nor failed.",
    )


def _nearest_misses(constraints: Sequence[Constraint], names: Mapping[str, str]) -> tuple[str, ...]:
    by_variant: dict[str, list[Constraint]] = {}
    for constraint in constraints:
        if constraint.verdict == "fails" and constraint.short_by is not None:
            by_variant.setdefault(constraint.variant, []).append(constraint)
    ranked = sorted(
        by_variant.values(), key=lambda misses: (len(misses), sum((m.short_by or 0) / (m.limit or 1) for m in misses))
    )
    return tuple(
        f"{names[misses[0].variant]} misses " + ", and ".join(_miss(miss) for miss in misses) + "."
        for misses in ranked[:3]
    )


def _miss(miss: Constraint) -> str:
    return f"{DEMANDS[miss.name]} {number_text(miss.limit)} by {number_text(miss.short_by)} ({miss.text})"
