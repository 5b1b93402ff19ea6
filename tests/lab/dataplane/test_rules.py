"""Lambda's rules as figures."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.dataplane.rules import (
    CpuLedger,
    StartRate,
    billed_duration_ms,
    cfs_quota_us,
    init_vcpu,
    log_stream_name,
    new_request_id,
    new_trace_id,
    owed_vcpu,
    retry_delay_s,
    split_qualifier,
    throttle_delay_s,
    vcpu_share,
    visible_cpus,
)
from lab.dataplane.settings import DataPlaneSettings


@pytest.mark.parametrize(
    ("memory_mb", "cpus"),
    [(128, 2), (3008, 2), (3009, 3), (5307, 3), (5308, 4), (7076, 4), (7077, 5), (8845, 5), (8846, 6), (10240, 6)],
)
def test_the_guest_shows_two_to_six_cpus_by_memory(memory_mb, cpus):
    assert visible_cpus(memory_mb) == cpus


@given(st.integers(128, 10_240))
def test_the_cpu_share_is_in_proportion_to_memory_and_within_what_the_guest_shows(memory_mb):
    assert vcpu_share(memory_mb) == pytest.approx(memory_mb / 1769)
    assert vcpu_share(memory_mb) <= visible_cpus(memory_mb)
    assert 1000 <= cfs_quota_us(vcpu_share(memory_mb)) <= 6 * 20_000


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ("0.25", 0.25),
        ("9", 2.0),
        ("inf", 2.0),
        ("0", 512 / 1769),
        ("-1", 512 / 1769),
        ("nan", 512 / 1769),
        ("much", 512 / 1769),
    ],
)
def test_a_function_may_ask_the_lab_for_a_share_apart_from_its_memory(asked, share):
    assert owed_vcpu(512, {"LAB_VCPU": asked}) == pytest.approx(share)
    assert owed_vcpu(512, {}) == vcpu_share(512)


def test_a_vcpu_is_1769_megabytes_and_a_period_twenty_milliseconds():
    assert vcpu_share(1769) == 1
    assert cfs_quota_us(1.0) == 20_000


@pytest.mark.parametrize(
    ("duration_ms", "init_ms", "billed"),
    [(1049.63, 1293.83, 2344), (1.0, None, 1), (1.0000001, None, 1), (0.2, None, 1), (0.01, 0.02, 1), (99.5, 0.6, 101)],
)
def test_billed_duration_is_init_and_invoke_together_rounded_up(duration_ms, init_ms, billed):
    assert billed_duration_ms(duration_ms, init_ms) == billed


def test_request_ids_are_random_version_four_uuids():
    ids = {new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    for text in ids:
        assert str(uuid.UUID(text)) == text
        assert uuid.UUID(text).version == 4
        assert uuid.UUID(text).variant == uuid.RFC_4122


def test_trace_headers_carry_their_time():
    assert re.fullmatch(r"Root=1-5f5e1000-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", new_trace_id(0x5F5E1000))


def test_log_streams_are_named_by_date_version_and_environment():
    assert log_stream_name("a" * 32, 0.0) == f"1970/01/01/[$LATEST]{'a' * 32}"


def test_asynchronous_retries_wait_a_minute_then_two():
    assert [retry_delay_s(attempt) for attempt in (2, 3)] == [60, 120]


def test_throttled_events_back_off_from_a_second_to_five_minutes():
    delays = [throttle_delay_s(count) for count in range(1, 40)]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays == sorted(delays)
    assert delays[-1] == 300


@given(st.lists(st.floats(0, 5), max_size=200))
def test_never_more_environments_start_in_a_window_than_the_burst(gaps):
    rate, now, starts = StartRate(10, 10.0), 0.0, []
    for gap in gaps:
        now += gap
        if rate.take(now):
            starts.append(now)
    for start in starts:
        assert len([other for other in starts if start <= other < start + 10.0]) <= 10


def test_an_environment_alone_on_its_cpus_is_not_contended():
    ledger = CpuLedger((0, 1))
    cpus = ledger.place(2)
    mark = ledger.begin(cpus, 2.0)
    assert not ledger.was_contended(cpus, mark)
    ledger.end(cpus, 2.0)


def test_everybody_busy_is_contended_once_they_are_owed_more_than_the_host_has():
    ledger = CpuLedger((0, 1))
    cpus = ledger.place(2)
    before = ledger.begin(cpus, 1.0)
    beside = ledger.begin(cpus, 1.0)
    assert not ledger.was_contended(cpus, before)
    over = ledger.begin(cpus, 0.1)
    assert all(ledger.was_contended(cpus, mark) for mark in (before, beside, over))
    ledger.end(cpus, 0.1)
    ledger.end(cpus, 1.0)
    after = ledger.begin(cpus, 0.5)
    assert not ledger.was_contended(cpus, after)
    assert ledger.was_contended(cpus, before)  # it was, even though it no longer is


def test_a_larger_host_gives_each_environment_the_least_used_cpus():
    ledger = CpuLedger(tuple(range(8)))
    places = [ledger.place(2) for _ in range(4)]
    assert sorted(cpu for place in places for cpu in place) == list(range(8))
    ledger.remove(places[1])
    assert ledger.place(2) == places[1]


@given(st.lists(st.tuples(st.booleans(), st.floats(0.05, 2.0)), max_size=60))
def test_contention_is_marked_for_exactly_those_that_were_busy_while_too_much_was_owed(steps):
    ledger = CpuLedger((0, 1))
    cpus, busy, truth = (0, 1), [], {}
    for number, (begin, vcpu) in enumerate(steps):
        if begin or not busy:
            mark = ledger.begin(cpus, vcpu)
            busy.append((number, vcpu, mark))
            truth[number] = False
        else:
            ended, share, mark = busy.pop(0)
            assert ledger.was_contended(cpus, mark) == truth[ended]
            ledger.end(cpus, share)
        if sum(share for _, share, _ in busy) > 2.0 + 1e-6:
            for still, _, _ in busy:
                truth[still] = True


ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"


@pytest.mark.parametrize(
    ("given_name", "name"),
    [("f", "f"), ("123456789012:function:f", "f"), ("function:f", "f"), (ARN, ARN), ("function", "function")],
)
@pytest.mark.parametrize("qualifier", [None, "$LATEST", "7", "live"])
def test_a_function_is_named_in_every_form_with_and_without_a_qualifier(given_name, name, qualifier):
    whole = given_name if qualifier is None else f"{given_name}:{qualifier}"
    if given_name == "function" and qualifier not in {None, "$LATEST"}:
        return  # it reads as a partial ARN
    assert split_qualifier(whole) == (name, qualifier)


@given(memory_mb=st.integers(128, 10_240), burst_vcpu=st.floats(0.05, 8))
def test_an_init_never_has_less_cpu_than_an_invoke(memory_mb, burst_vcpu):
    share_vcpu = owed_vcpu(memory_mb, {})
    assert init_vcpu(share_vcpu, burst_vcpu) == max(share_vcpu, burst_vcpu)


@pytest.mark.parametrize(("memory_mb", "vcpu"), [(128, 2.0), (3_538, 2.0), (10_240, 10_240 / 1_769)])
def test_an_init_has_two_vcpus_up_to_3538_mb_and_its_share_above(memory_mb, vcpu):
    assert init_vcpu(owed_vcpu(memory_mb, {}), DataPlaneSettings().init_burst_vcpu) == vcpu
