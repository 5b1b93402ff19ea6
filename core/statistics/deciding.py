"""Whether the calls made so far decide about a variant, at every moment one cares to look. No I/O.

An interval for one look is wrong too often when sampling stops at the first look that pleases. Evidence that is a
martingale may be looked at after every call: if the true share of bad calls is on the other side of the limit, it ever
reaches 1/alpha with probability alpha at most (Ville's inequality). Here it is the likelihood of the calls, averaged
over the shares on one side of the limit by Jeffreys' prior, against their likelihood at the limit. H. Robbins,
"Statistical Methods Related to the Law of the Iterated Logarithm", Annals of Mathematical Statistics 41 (1970),
1397-1409; S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, "Time-uniform, Nonparametric, Nonasymptotic Confidence
Sequences", Annals of Statistics 49 (2021), 1055-1080.

That is exact for independent calls. Calls of one execution environment are alike, so they count as the effective
number of calls, and the latency limit shifts by how uncertain the environments' average is, as in the report's
intervals; `inference-lab bench statistics` measures how often a decision is wrong.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from scipy.special import betainc, betaincc, betaln, stdtr

from core.configuration import PILOT_CALLS
from core.statistics.intervals import freedom, t_half_width

Decision = Literal["meets", "fails"]

# Of runs a decision in either direction is wrong, at most; the report's own interval has as much.
WRONG_IN: Final = 0.025
# Cold starts and calls under load are measured elsewhere: they may take this part of the bad calls that are allowed.
LEFT_TO_OTHERS: Final = 0.1
CALLS_OF_AN_ENVIRONMENT: Final = (12, 24, 48, 96)
# Starting an environment takes about as long as so many warm calls: a forced update, a cold start and warm-ups.
START_IN_CALLS: Final = 30
FEWEST_ENVIRONMENTS: Final = 5  # that two variants' costs are compared from


@dataclass
class EnvironmentCalls:
    """The samples of one execution environment: those answered well, and how many failed."""

    latencies_ms: list[float] = field(default_factory=list)
    handler_ms: list[float] = field(default_factory=list)  # time in the handler, which compute is billed by
    failed: int = 0

    @property
    def calls(self) -> int:
        return len(self.latencies_ms) + self.failed

    def bad(self, limit_ms: float) -> int:
        """Return how many calls failed or took longer than the limit."""
        return self.failed + sum(latency > limit_ms for latency in self.latencies_ms)


@dataclass(frozen=True)
class Goal:
    """The goal: at most `max_bad_share` of calls fail or take longer than `limit_ms`."""

    limit_ms: float
    max_bad_share: float

    @property
    def allowed_warm(self) -> float:
        """Return the share of bad calls that warm calls may have, so that other calls have their part."""
        return (1 - LEFT_TO_OTHERS) * self.max_bad_share


@dataclass(frozen=True)
class Counted:
    """Calls reduced to what they count: a share of bad ones among an effective number of calls."""

    share: float
    n: int
    environments: int
    alike: float  # intraclass correlation of being bad: 0 where environments do not differ

    @property
    def countable(self) -> float:
        """Return the effective number of calls, reduced for the few degrees of freedom of the environments."""
        per_environment = self.n / max(1, self.environments)
        return self.n / (1 + (per_environment - 1) * self.alike) * freedom(self.n, self.environments)

    def with_more(self, environments: int, calls: int) -> Counted:
        """Return the same with so many more environments of so many calls, were they like these."""
        return Counted(self.share, self.n + environments * calls, self.environments + environments, self.alike)


def count(environments: Sequence[EnvironmentCalls], limit_ms: float) -> Counted:
    """Count the calls that are bad by a limit."""
    sizes = [one.calls for one in environments if one.calls]
    bad = [one.bad(limit_ms) for one in environments if one.calls]
    n, k = sum(sizes), len(sizes)
    share = sum(bad) / n if n else 0.0
    if k < 2 or share in (0.0, 1.0):
        return Counted(share, n, k, 0.0)
    between = k / (k - 1) * sum((hits - size * share) ** 2 for hits, size in zip(bad, sizes, strict=True))
    design_effect = max(1.0, between / (n * share * (1 - share)))
    return Counted(share, n, k, min(1.0, (design_effect - 1) / max(1.0, n / k - 1)))


def decide(environments: Sequence[EnvironmentCalls], goal: Goal) -> Decision | None:
    """Return whether warm calls keep the goal or fail it; None while these calls do not tell."""
    moved = 1 + _location_half_width(environments)
    if shows(count(environments, goal.limit_ms / moved), goal, "meets"):
        return "meets"
    return "fails" if shows(count(environments, goal.limit_ms * moved), goal, "fails") else None


def shows(counted: Counted, goal: Goal, decision: Decision) -> bool:
    """Whether the evidence for a decision is as strong as it has to be at any look."""
    hits, misses = counted.share * counted.countable, (1 - counted.share) * counted.countable
    if decision == "meets":
        return log_evidence(hits, misses, goal.allowed_warm, below=True) >= -math.log(WRONG_IN)
    return log_evidence(hits, misses, goal.max_bad_share, below=False) >= -math.log(WRONG_IN)


def log_evidence(hits: float, misses: float, limit: float, *, below: bool) -> float:
    """Return the logarithm of the evidence that the true share is below (or above) the limit."""
    side = betainc if below else betaincc
    prior, posterior = float(side(0.5, 0.5, limit)), float(side(0.5 + hits, 0.5 + misses, limit))
    if posterior <= 0:
        return -math.inf
    mixture = float(betaln(0.5 + hits, 0.5 + misses) - betaln(0.5, 0.5)) + math.log(posterior / prior)
    return mixture - hits * math.log(limit) - misses * math.log1p(-limit)


def costs_more(
    mine: Sequence[EnvironmentCalls], theirs: Sequence[EnvironmentCalls], price_ratio: float, *, rivals: int = 1
) -> bool:
    """Whether a variant's warm calls are shown to cost more than another's; `price_ratio` is of a millisecond.

    Student's t over the logarithms of the environments' means. The look at k environments spends
    alpha (f - 1) / (k (k - 1)), which adds up to alpha over all looks from f, the fewest environments, on. `rivals` is
    how many variants it may be compared with; they share alpha.
    """
    logs_mine, logs_theirs = _log_means(mine), _log_means(theirs)
    k = min(len(logs_mine), len(logs_theirs))
    if k < FEWEST_ENVIRONMENTS:
        return False
    apart = statistics.fmean(logs_mine) - statistics.fmean(logs_theirs) + math.log(price_ratio)
    error = math.sqrt(sum(statistics.variance(logs) / len(logs) for logs in (logs_mine, logs_theirs)))
    looked = len(logs_mine)
    spent = WRONG_IN / rivals * (FEWEST_ENVIRONMENTS - 1) / (looked * (looked - 1))
    return apart > 0 and (error == 0 or float(stdtr(k - 1, -apart / error)) <= spent)


def cheapest_plan(counted: Counted, goal: Goal, most_calls: int) -> tuple[int, int] | None:
    """Return how many more environments of how many calls would decide, if they were like those before.

    Of the plans with at most `most_calls` more calls, the cheapest: few long environments where calls alone are wanted,
    many short ones where environments differ. T. Kalibera and R. Jones, "Rigorous Benchmarking in Reasonable Time",
    ISMM 2013, section 4, weigh the levels by the same two things: their variances and what a repetition costs.
    """
    decision: Decision = "meets" if counted.share < goal.allowed_warm else "fails"
    plans = []
    for calls in CALLS_OF_AN_ENVIRONMENT:
        most = most_calls // calls
        if most and shows(counted.with_more(most, calls), goal, decision):
            fewest = next(k for k in range(1, most + 1) if shows(counted.with_more(k, calls), goal, decision))
            plans.append((fewest * (START_IN_CALLS + calls), fewest, calls))
    return min(plans)[1:] if plans else None


def expected_plan(environments: int, goal: Goal, most_calls: int) -> list[int]:
    """Return the calls of each environment that a decision is expected to take where no call is bad."""
    pilot = [PILOT_CALLS] * environments
    counted = Counted(0.0, sum(pilot), environments, 0.0)
    if shows(counted, goal, "meets"):
        return pilot
    more, calls = cheapest_plan(counted, goal, most_calls - sum(pilot)) or (0, 0)
    return pilot + [calls] * more


def calls_of_next(environments: Sequence[EnvironmentCalls], goal: Goal, most_calls: int) -> int:
    """Return how many calls the next environment gets, given what the earlier ones showed."""
    plan = cheapest_plan(count(environments, goal.limit_ms), goal, most_calls)
    return min(most_calls, plan[1] if plan else CALLS_OF_AN_ENVIRONMENT[-1])


def _log_means(environments: Sequence[EnvironmentCalls]) -> list[float]:
    means = [statistics.fmean(one.handler_ms) for one in environments if one.handler_ms]
    return [math.log(mean) for mean in means if mean > 0]


def _location_half_width(environments: Sequence[EnvironmentCalls]) -> float:
    """Return the relative half-width of the environments' average: Student's t over log medians."""
    medians = [statistics.median(one.latencies_ms) for one in environments if one.latencies_ms]
    logs = [math.log(median) for median in medians if median > 0]
    return math.expm1(t_half_width(logs)) if len(logs) > 1 else 0.0
