"""What is asked of an unknown function: cold and warm calls at every memory size, in rounds of random order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from analysis.ingest.platform_logs import Conditions, InitReport, Report, parse_event
from core.configuration import Configuration
from core.run.outcomes import classify_invoke
from core.run.records import Outcome
from core.variants import Variant
from experiments.aws.lambda_control import InvokeAnswer, LambdaControl, Nonces

ROUNDS: Final = 6  # the fewest cold starts whose median has an interval
WARM_CALLS: Final = 10  # of each environment
SEED: Final = 20_261_127


@dataclass(frozen=True)
class Call:
    """One call as the platform reports it; times are None where the log has no report."""

    variant: Variant
    environment: int  # number of the round that started it
    outcome: Outcome
    error: str
    cold: bool
    total_ms: float | None  # init and duration
    billed_ms: float | None
    max_memory_used_mb: float | None
    contended: bool  # the lab's host was short of CPU


def measure(
    control: LambdaControl,
    variants: Sequence[Variant],
    payload: bytes,
    *,
    deadline: float,
    say: Callable[[str], None] = lambda _text: None,
) -> Iterator[Call]:
    """Call every variant that runs, round by round, until `deadline` on the monotonic clock.

    Each round gives a variant one new environment: one cold call and WARM_CALLS warm ones. A variant whose first
    environment fails is not called again.
    """
    running = sorted(variants, key=lambda variant: variant.memory_mb)
    order = random.Random(SEED)  # noqa: S311 - an order of sizes, no secret
    with Nonces(control, "try") as nonces:
        for round_number in range(ROUNDS):
            for variant in list(running):
                if time.monotonic() > deadline and round_number:
                    say("the time is up; fewer cold starts than planned were measured")
                    return
                say(f"round {round_number + 1} of {ROUNDS}: {variant.memory_mb} MB")
                nonces.force(variant, f"{variant.memory_mb}/{round_number}")
                calls = [_call(control, variant, payload, round_number)]
                while calls[-1].outcome == "ok" and len(calls) <= WARM_CALLS:
                    calls.append(_call(control, variant, payload, round_number))
                yield from calls
                if round_number == 0 and calls[-1].outcome != "ok":
                    running.remove(variant)
            order.shuffle(running)


def _call(control: LambdaControl, variant: Variant, payload: bytes, round_number: int) -> Call:
    return call_of(variant, control.invoke(variant, payload), round_number)


def call_of(variant: Variant, answer: InvokeAnswer, round_number: int) -> Call:
    """Read one call's outcome, start and times from the answer and the platform's lines in its log tail."""
    lines = [line for event in answer.log_tail.splitlines() for line in parse_event(event)]
    report = next((line for line in lines if isinstance(line, Report)), None)
    failed_init = any(isinstance(line, InitReport) for line in lines)
    refused = answer.connection_error or answer.error_code
    meaning = classify_invoke(answer.payload, answer.function_error)
    init_ms = report.init_ms if report else None
    return Call(
        variant=variant,
        environment=round_number,
        outcome="error" if refused else meaning.outcome,
        error=refused or (meaning.error if meaning.outcome != "ok" else ""),
        cold=init_ms is not None or failed_init,
        total_ms=report.duration_ms + (init_ms or 0.0) if report else None,
        billed_ms=report.billed_ms if report else None,
        max_memory_used_mb=report.max_memory_used_mb if report else None,
        contended=any(isinstance(line, Conditions) and bool(line.host_contended) for line in lines),
    )


def configured(configuration: Configuration, prefix: str, *, timeout_s: int) -> Configuration:
    """The configuration with the names and the timeout of a trial."""
    function = configuration.function.model_copy(update={"name_prefix": prefix, "timeout_s": timeout_s})
    return configuration.model_copy(update={"function": function})
