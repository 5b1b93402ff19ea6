from hypothesis import given, settings
from hypothesis import strategies as st

from core.run.records import ClientRecord
from loadtests.account import Account, StageTotals, merge_rows, percentiles

START = 1_000_000.0


def record(number, *, intended_s, lag_s=0.001, latency_s=0.2, outcome="ok"):
    intended_at = START + intended_s
    sent_at = None if outcome == "dropped" else intended_at + lag_s
    answered_at = None if sent_at is None or latency_s is None else sent_at + latency_s
    return ClientRecord(
        run_id="r",
        call_id=f"c{number}",
        experiment="load",
        protocol="constant",
        trigger="api",
        variant="v",
        model="mobilenet",
        engine="tensorflow",
        architecture="x86_64",
        memory_mb=512,
        intended_at=intended_at,
        sent_at=sent_at,
        answered_at=answered_at,
        latency_from_intended_ms=None if answered_at is None else (answered_at - intended_at) * 1000,
        outcome=outcome,
    )


def account(records, late_after_ms=10.0):
    made = Account(started_at=START, late_after_ms=late_after_ms)
    for item in records:
        made.add(item)
    return made.rows()


def summarize(records, *, duration_s, times=1):
    totals = StageTotals(started_at=START, duration_s=duration_s, late_after_ms=10)
    for _ in range(times):
        for number, item in enumerate(records):
            totals.add(item, number)
    assert totals.rows() == account(records)
    return totals.summary(offered=len(records))


def test_a_call_counts_in_the_seconds_it_was_intended_sent_and_answered():
    (first, second, third) = account([record(0, intended_s=0.5, lag_s=0.7, latency_s=1.0)])
    assert (first["offered"], first["late"], first["sent"]) == (1, 1, 0)
    assert (second["sent"], second["answered"]) == (1, 0)
    assert third["answered"] == 1


def test_an_arrival_without_room_is_offered_and_dropped_and_never_sent():
    (second,) = account([record(0, intended_s=0.5, outcome="dropped")])
    assert (second["offered"], second["dropped"], second["sent"], second["late"]) == (1, 1, 0, 0)


def test_a_second_without_a_call_is_a_row_of_zeros():
    rows = account([record(0, intended_s=0.1), record(1, intended_s=3.1)])
    assert [row["second"] for row in rows] == [0, 1, 2, 3]
    assert rows[1]["offered"] == rows[2]["offered"] == 0


calls = st.lists(
    st.builds(
        lambda n, intended_s, lag_s, latency_s, outcome: record(
            n, intended_s=intended_s, lag_s=lag_s, latency_s=latency_s, outcome=outcome
        ),
        st.integers(),
        st.floats(0, 20),
        st.floats(0, 2),
        st.none() | st.floats(0, 5),
        st.sampled_from(["ok", "dropped", "throttled", "connection"]),
    ),
    max_size=60,
)


@settings(max_examples=50)
@given(calls, st.integers(1, 5))
def test_accounts_of_workers_add_up_to_the_account_of_all(records, workers):
    parts = [account(records[index::workers]) for index in range(workers)]
    assert merge_rows(parts) == account(records)


@settings(max_examples=50)
@given(calls)
def test_nothing_is_counted_twice_or_forgotten(records):
    rows = account(records)
    assert sum(row["offered"] for row in rows) == len(records)
    assert sum(row["sent"] + row["dropped"] for row in rows) == len(records)
    summary = summarize(records, duration_s=20)
    assert sum(summary.outcomes.values()) == summary.recorded == len(records)
    assert summary.late == sum(row["late"] for row in rows)


@settings(max_examples=50)
@given(calls)
def test_a_call_that_two_workers_recorded_counts_once(records):
    assert summarize(records, duration_s=20, times=2) == summarize(records, duration_s=20)


def test_what_is_sent_after_the_shapes_end_does_not_make_up_for_the_rate():
    records = [record(n, intended_s=n / 10, lag_s=0.0 if n < 5 else 5.0) for n in range(10)]
    summary = summarize(records, duration_s=1)
    assert (summary.offered_rps, summary.sent_rps) == (10, 5)


def test_percentiles_are_values_that_were_measured_and_carry_an_interval_only_with_enough_samples():
    few, many = percentiles([3.0, 1.0, 2.0]), percentiles(float(n) for n in range(1000))
    assert [p.value for p in few] == [2.0, 3.0, 3.0]
    assert few[2].interval is None
    assert many[2].interval.lower <= many[2].value <= many[2].interval.upper
    assert percentiles([]) == ()
