"""From the platform's lines to the table of a trial."""

from __future__ import annotations

import json

import pytest

from core.money.prices import read_prices
from core.variants import Variant
from experiments.aws.lambda_control import InvokeAnswer
from trial.estimating import answers, facts, knee_of, sizes_of, table
from trial.measuring import ROUNDS, WARM_CALLS, call_of

SIZES = {size: Variant("tiny", "own", "x86_64", size) for size in (128, 512, 1024, 2048)}
ID = "01a22c85-1fa4-47db-a9d9-571014f385de"


def report(duration_ms, *, init_ms=None, billed_ms=None):
    init = f"\tInit Duration: {init_ms:.2f} ms" if init_ms else ""
    return (
        f"START RequestId: {ID} Version: $LATEST\nhello from the function\nEND RequestId: {ID}\n"
        f"REPORT RequestId: {ID}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed_ms or duration_ms:.0f} ms"
        f"\tMemory Size: 512 MB\tMax Memory Used: 90 MB{init}\t\n"
    )


def answer(log_tail, payload=b'{"any": "thing"}', error=None):
    return InvokeAnswer(0.0, 1.0, 1000.0, status=200, payload=payload, function_error=error, log_tail=log_tail)


def calls_of(size, warm_ms):
    for number in range(ROUNDS):
        cold = report(warm_ms, init_ms=300.0 + number, billed_ms=300 + warm_ms)
        yield call_of(SIZES[size], answer(cold), number)
        for warm in range(WARM_CALLS):
            yield call_of(SIZES[size], answer(report(warm_ms + warm / 10)), number)


@pytest.fixture(scope="module")
def sizes():
    killed = {"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited with error: signal: killed"}
    failing = call_of(SIZES[128], answer("", json.dumps(killed).encode(), "Unhandled"), 0)
    calls = [failing, *calls_of(512, 80.0), *calls_of(1024, 40.0), *calls_of(2048, 39.0)]
    return sizes_of(calls, read_prices())


def test_a_call_is_cold_by_init_duration_alone():
    cold = call_of(SIZES[512], answer(report(20.0, init_ms=300.0)), 0)
    warm = call_of(SIZES[512], answer(report(20.0)), 0)
    assert (cold.cold, cold.total_ms, warm.cold, warm.total_ms) == (True, 320.0, False, 20.0)
    assert warm.outcome == "ok"
    assert not warm.error, "an answer without the facts of this project's handler is no error"


def test_each_size_has_medians_with_intervals_and_a_price(sizes):
    ran = {size.variant.memory_mb: size for size in sizes if not size.fails}
    assert list(ran) == [512, 1024, 2048]
    for size in ran.values():
        assert size.cold.n == ROUNDS
        assert size.warm.n == ROUNDS * WARM_CALLS
        assert size.cold.low <= size.cold.value <= size.cold.high
        assert size.warm.low <= size.warm.value <= size.warm.high
    per_ms = 512 / 1024 / 1000 * 0.0000166667 * 1e6
    assert ran[512].cold_usd.value == pytest.approx(380 * per_ms + 0.2, rel=1e-6)


def test_the_answers_name_what_fails_the_smallest_size_and_the_knee(sizes):
    said = " ".join(answers(sizes))
    assert "128 MB fails: 1 of 1 calls" in said
    assert "Smallest size that runs: 512 MB" in said
    assert knee_of(sizes).memory_mb == 1024
    assert "Inference time is absent" in said
    assert len(table(sizes).splitlines()) == 2 + len(sizes)


def test_the_facts_for_a_program_are_those_of_the_table(sizes):
    found = json.loads(json.dumps(facts(sizes), allow_nan=False))
    assert (found["smallest_mb"], found["knee_mb"]) == (512, 1024)
    assert found["knee_reason"].startswith("no larger size is faster")
    for size, one in zip(sizes, found["sizes"], strict=True):
        assert one["memory_mb"] == size.variant.memory_mb
        assert (one["warm_ms"]["value"], one["warm_ms"]["reason"]) == (size.warm.value, size.warm.reason)


def test_a_function_that_fails_everywhere_has_no_knee_and_no_smallest_size():
    failed = call_of(
        SIZES[512], answer(report(5.0), b'{"errorType": "KeyError", "errorMessage": "name"}', "Unhandled"), 0
    )
    sizes = sizes_of([failed], read_prices())
    assert knee_of(sizes) is None
    assert "KeyError: name" in sizes[0].fails
    assert "Smallest" not in " ".join(answers(sizes))
