"""What intervals cover, and how often answers and comparisons are wrong, over data with known truth."""

from __future__ import annotations

from collections.abc import Iterator

from bench.calibration import Law, changes_called, coverage, wrong_answers
from bench.measurement import Comparison, hand_over, progress

LAWS = {
    "independent": Law(),
    "AR(1) 0.2": Law(correlation=0.2),
    "AR(1) 0.5": Law(correlation=0.5),
    "AR(1) 0.8": Law(correlation=0.8),
    "between 2 %": Law(between=0.02),
    "between 5 %": Law(between=0.05),
    "between 10 %": Law(between=0.1),
    "heavy tail": Law(heavy=True),
    "heavy tail, between 10 %": Law(between=0.1, heavy=True),
    "AR(1) 0.5, between 5 %": Law(between=0.05, correlation=0.5),
}
SHAPES = ((6, 2), (8, 25), (8, 100), (16, 10), (12, 250))  # environments, calls of each
GOAL_COVERAGE = 93.0
MOST_WRONG = 5.0
TRUE_SHARES = (0.006, 0.015)  # of bad calls, where 1 % is allowed
PLANS = ((8, 12), (16, 25), (24, 25))


def measure(quick: bool) -> Iterator[Comparison]:
    """Coverage by law and shape, certain answers that are wrong, and comparisons of two runs of 18 variants."""
    rounds = 20 if quick else 600
    for name, law in LAWS.items():
        progress(name)
        for environments, calls in SHAPES:
            for percentile, (share, given) in coverage(law, environments, calls, rounds).items():
                yield Comparison(
                    f"{percentile}, {name}, {environments} environments of {calls}",
                    "% covered",
                    (100 * share,),
                    better="higher",
                    goal=f"at least {GOAL_COVERAGE:g}",
                    met=100 * share >= GOAL_COVERAGE,
                    note=f"{given} of {rounds} rounds have an interval",
                )
        for true_share in TRUE_SHARES:
            wrong = wrong_answers(law, 8, 100, true_share, rounds)
            yield Comparison(
                f"certain and wrong, {name}, {100 * true_share:g} % bad calls where 1 % is allowed",
                "% of answers",
                (100 * wrong,),
                goal=f"at most {MOST_WRONG:g}",
                met=100 * wrong <= MOST_WRONG,
            )
    for environments, calls in PLANS:
        progress(f"comparisons, {environments} environments of {calls}")
        plan = f"18 variants, between 5 %, {environments} environments of {calls}"
        alarms, _ = changes_called(Law(between=0.05), environments, calls, 1.0, rounds)
        yield Comparison(
            f"any alarm, same code, {plan}",
            "% of comparisons",
            (100 * alarms,),
            goal=f"at most {MOST_WRONG:g}",
            met=100 * alarms <= MOST_WRONG,
        )
        _, found = changes_called(Law(between=0.05), environments, calls, 1.1, rounds)
        yield Comparison(f"a change of 10 % is found, {plan}", "% of comparisons", (100 * found,), better="higher")


if __name__ == "__main__":
    hand_over("statistics", "What intervals cover and how often answers are wrong, for known truth.", measure)
