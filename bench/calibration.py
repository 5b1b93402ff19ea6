"""Data with known truth: how often intervals cover it, and how often answers and comparisons are wrong. No I/O.

Calls of `environments` execution environments: a log-normal body of 15%, environments that differ by `between`, calls
of one environment correlated from one to the next by `correlation` (AR(1)), and on request one call in twenty from a
Pareto tail of index 1.5, which has no variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from analysis.decide.callers import Condition, Waits, bad_share, verdict
from analysis.decide.comparison import DEFAULT_THRESHOLD, Pair, p_of_samples
from analysis.decide.comparison import decide as call_changes
from analysis.decide.recommend import Candidate, Option, Question, make_options, probability_best
from analysis.estimate.environments import Sample
from analysis.estimate.estimates import percentile_over_environments
from analysis.estimate.traffic import CallMix, CallProfile, Traffic
from core.configuration import PILOT_CALLS, GoalTable
from core.money.prices import read_prices
from core.statistics.deciding import EnvironmentCalls, Goal, calls_of_next, decide
from core.variants import Variant

Values = npt.NDArray[np.float64]
WITHIN = 0.15
PILOT_ENVIRONMENTS = 8
TAIL = 0.05
LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
TRUTH_CALLS = 400_000
NOT_MET = Condition("cold", 0, 0, 0.0, 0.0, 0.0, 0, "")
FEWEST_IN_A_BIN = 30
ALLOWED = 0.01  # share of bad calls
MOST_CALLS = 2000  # of a variant, until decided
VARIANTS = 18  # of a run that is compared
QUESTION = Question(
    GoalTable(limit_ms=1000, max_bad_share=ALLOWED, min_top1_accuracy=0.0),
    Traffic.of(33_000, "business_hours", 10),
    read_prices(),
    "by simulation",
    1,
)
ALONE = CallMix(cold=0.0, alone=1.0, concurrent=0.0)


@dataclass(frozen=True)
class Law:
    """What latencies follow."""

    between: float = 0.0
    correlation: float = 0.0
    heavy: bool = False

    def draw(self, random: np.random.Generator, environments: int, calls: int, factor: float = 1.0) -> Values:
        """Draw latencies in ms, one row per environment."""
        normal = random.standard_normal((environments, calls))
        for place in range(1, calls if self.correlation else 0):
            fresh = np.sqrt(1 - self.correlation**2) * normal[:, place]
            normal[:, place] = self.correlation * normal[:, place - 1] + fresh
        body = np.exp(WITHIN * normal)
        if self.heavy:
            below = ndtr(normal)
            slow = 1.3 * ((1 - np.minimum(below, 1 - 1e-12)) / TAIL) ** (-1 / 1.5)
            body = np.where(below > 1 - TAIL, slow, body)
        return np.asarray(100 * factor * body * np.exp(self.between * random.standard_normal((environments, 1))))

    def quantile(self, share: float) -> float:
        """The true quantile over all environments, from many calls of one each."""
        return float(np.quantile(truth(self), share))


@cache
def truth(law: Law) -> Values:
    """Many latencies of a law in ascending order, each of an environment of its own."""
    return np.sort(law.draw(np.random.default_rng(99), TRUTH_CALLS, 1).ravel())


def sample_of(drawn: Values) -> Sample:
    """Latencies with their environments."""
    return Sample.of(drawn.ravel(), np.repeat(np.arange(len(drawn)), drawn.shape[1]))


def coverage(law: Law, environments: int, calls: int, rounds: int, seed: int = 1) -> dict[str, tuple[float, int]]:
    """Share of intervals that hold the truth, by percentile, and how many of the rounds had one."""
    random = np.random.default_rng(seed)
    true = {name: law.quantile(share) for name, share in LEVELS.items()}
    hits = dict.fromkeys(LEVELS, 0)
    given = dict.fromkeys(LEVELS, 0)
    for _ in range(rounds):
        sample = sample_of(law.draw(random, environments, calls))
        for name, share in LEVELS.items():
            found = percentile_over_environments(sample, share)
            if found.low is not None and found.high is not None:
                given[name] += 1
                hits[name] += found.low <= true[name] <= found.high
    return {name: (hits[name] / given[name], given[name]) for name in LEVELS if given[name]}


def wrong_answers(
    law: Law, environments: int, calls: int, true_share: float, rounds: int, *, variants: int = 1
) -> float:
    """Share of rounds in which any of these variants gets the opposite verdict for certain.

    All of them have this true share of bad calls.
    """
    random = np.random.default_rng(2)
    limit_ms = law.quantile(1 - true_share)
    opposite = "meets" if true_share > ALLOWED else "fails"
    wrong = 0

    def is_wrong() -> bool:
        alone = Waits("alone", sample_of(law.draw(random, environments, calls))).condition(limit_ms)
        return verdict(bad_share((NOT_MET, alone, NOT_MET), ALONE), ALLOWED) == opposite

    for _ in range(rounds):
        wrong += any(is_wrong() for _ in range(variants))
    return wrong / rounds


def share_coverage(
    law: Law, environments: int, calls: int, true_share: float, rounds: int, *, cut_at: float = np.inf
) -> float:
    """Share of intervals of the share of bad calls that hold the truth.

    The client gives up on calls that take longer than `cut_at` times the limit: these failed, and have no latency.
    """
    random = np.random.default_rng(5)
    limit_ms = law.quantile(1 - true_share)
    hits = 0
    for _ in range(rounds):
        drawn = law.draw(random, environments, calls)
        seen = sample_of(np.where(drawn > cut_at * limit_ms, np.inf, drawn))
        found = bad_share((NOT_MET, Waits("alone", seen).condition(limit_ms), NOT_MET), ALONE)
        hits += found.low is not None and found.high is not None and found.low <= true_share <= found.high
    return hits / rounds


@dataclass(frozen=True)
class Claimed:
    """A probability of being best that was claimed, and whether the variant was the best."""

    probability: float
    best: bool


def claims_of_best(law: Law, environments: int, calls: int, rounds: int, *, seed: int = 6) -> list[Claimed]:
    """Probabilities of being best for three variants whose true cost and share of bad calls are drawn anew each round.

    True costs differ by 4%, true shares of bad calls follow Beta(0.5, 25), and 1% is allowed: the best variant is the
    cheapest of those that keep it, and there may be none.
    """
    random = np.random.default_rng(seed)
    made: list[Claimed] = []
    for _ in range(rounds):
        costs, true_shares = np.exp(0.04 * random.standard_normal(3)), random.beta(0.5, 25, 3)
        options = [
            _option(law, random, environments, calls, place, costs[place], law.quantile(1 - share))
            for place, share in enumerate(true_shares)
        ]
        claimed = probability_best(options, QUESTION)
        allowed = np.where(true_shares <= QUESTION.goal.max_bad_share, costs, np.inf)
        best = int(np.argmin(allowed)) if np.isfinite(allowed).any() else None
        made += [Claimed(claimed[option.key], place == best) for place, option in enumerate(options)]
    return made


def farthest_off(made: Sequence[Claimed], bins: int = 5) -> float:
    """The largest difference, in points, between what was claimed and how often it came true, over equal bins."""
    off = 0.0
    for number in range(bins):
        mine = [one for one in made if number <= min(one.probability * bins, bins - 1e-9) < number + 1]
        if len(mine) >= FEWEST_IN_A_BIN:
            claimed, true = (np.mean([getattr(one, name) for one in mine]) for name in ("probability", "best"))
            off = max(off, 100 * abs(float(claimed - true)))
    return off


@cache
def _on_demand(place: int) -> Option:
    """An option whose traffic and plan all drawn ones share: these differ in cost and in bad calls alone."""
    variant = Variant("mobilenet", "tensorflow", "x86_64", 1024 + place)
    profile = CallProfile(variant.key, 1024, "x86_64", 100.0, 3000.0, 1000.0)
    nothing = Sample.of([])
    candidate = Candidate(variant, profile, (NOT_MET, NOT_MET, NOT_MET), nothing, Sample.of(np.full(20, 3000.0)), None)
    return replace(make_options(candidate, QUESTION)[0], mix=ALONE)


def _option(
    law: Law, random: np.random.Generator, environments: int, calls: int, place: int, cost: float, limit_ms: float
) -> Option:
    """A variant with drawn calls, started on demand, whose callers find an idle environment."""
    like, billed = _on_demand(place), sample_of(law.draw(random, environments, calls, cost))
    alone = Waits("alone", sample_of(law.draw(random, environments, calls))).condition(limit_ms)
    return replace(like, candidate=replace(like.candidate, conditions=(NOT_MET, alone, NOT_MET), warm_billed_ms=billed))


@dataclass(frozen=True)
class Ended:
    """How `--until-decided` ended: shares of the rounds by decision, and the mean calls and environments it took."""

    meets: float
    fails: float
    calls: float
    environments: float


def decided(law: Law, true_share: float, rounds: int) -> Ended:
    """Sample as the warm experiment does until its calls decide, with a look after every environment."""
    random = np.random.default_rng(4)
    goal = Goal(law.quantile(1 - true_share) if true_share else np.inf, ALLOWED)
    ends: list[str | None] = []
    took: list[list[EnvironmentCalls]] = []
    for _ in range(rounds):
        environments: list[EnvironmentCalls] = []
        decision, left = None, MOST_CALLS
        while decision is None and left > 0:
            pilot = len(environments) < PILOT_ENVIRONMENTS
            calls = min(left, PILOT_CALLS) if pilot else calls_of_next(environments, goal, left)
            environments.append(EnvironmentCalls(law.draw(random, 1, calls)[0].tolist()))
            left -= calls
            decision = decide(environments, goal) if len(environments) >= PILOT_ENVIRONMENTS else None
        ends.append(decision)
        took.append(environments)
    return Ended(
        meets=ends.count("meets") / rounds,
        fails=ends.count("fails") / rounds,
        calls=float(np.mean([sum(one.calls for one in environments) for environments in took])),
        environments=float(np.mean([len(environments) for environments in took])),
    )


def changes_called(law: Law, environments: int, calls: int, factor: float, rounds: int) -> tuple[float, float]:
    """Share of comparisons of two runs that call any unchanged variant changed, and that find the changed one.

    One variant of VARIANTS is slower by `factor`; with 1, all are the same.
    """
    random = np.random.default_rng(3)
    false_alarms = found = 0
    for _ in range(rounds):
        pairs = [
            Pair(
                f"v{number}",
                "warm",
                "client_latency_ms",
                sample_of(law.draw(random, environments, calls)).medians,
                sample_of(law.draw(random, environments, calls, factor if number == 0 else 1.0)).medians,
            )
            for number in range(VARIANTS)
        ]
        p_values = [p_of_samples(pair.a, pair.b) for pair in pairs]
        calls_made = call_changes(pairs, p_values, [], [], threshold=DEFAULT_THRESHOLD)
        unchanged = calls_made if factor == 1 else calls_made[1:]
        false_alarms += any(change in ("slower", "faster") for change in unchanged)
        found += calls_made[0] == "slower"
    return false_alarms / rounds, found / rounds
