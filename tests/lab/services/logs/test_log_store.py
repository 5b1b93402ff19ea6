"""The store of log events: order, pages, retention, durability."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.contracts import LogEvent
from lab.services.logs.log_store import MAX_BYTES_A_PAGE, LogStore, Position, StoredEvent


def read_all(store: LogStore, group: str, **options: object) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    position: Position | None = None
    while True:
        page, position = store.filter_events(group, after=position, **options)  # type: ignore[arg-type]  # any of its options
        events.extend(page)
        if position is None:
            return events


@pytest.fixture
def store(tmp_path: Path):
    opened = LogStore(tmp_path, retention_invocations=10_000)
    yield opened
    opened.close()


@settings(max_examples=30)
@given(
    puts=st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.tuples(st.integers(0, 50), st.text(max_size=20)), max_size=5)),
        max_size=20,
    ),
    limit=st.integers(1, 7),
)
def test_pages_of_any_size_hold_every_event_once_in_the_order_of_time(
    tmp_path_factory: pytest.TempPathFactory, puts: list, limit: int
) -> None:
    store = LogStore(tmp_path_factory.mktemp("logs"), retention_invocations=1000)
    try:
        expected = []
        for stream, events in puts:
            store.put("g", stream, [LogEvent(at, text) for at, text in events])
            expected.extend((at, stream, text.encode(errors="replace").decode()) for at, text in events)
        expected.sort(key=lambda event: event[0])  # stable: what was put first comes first
        found = [(e.timestamp_ms, e.stream, e.message) for e in read_all(store, "g", limit=limit)]
        assert found == expected
        for name in "abc":
            of_stream = [(e.timestamp_ms, e.stream, e.message) for e in read_all(store, "g", streams=[name])]
            assert of_stream == [event for event in expected if event[1] == name]
    finally:
        store.close()


def test_a_page_holds_at_most_one_megabyte_but_always_one_event(store: LogStore) -> None:
    for index in range(5):
        store.put("g", "s", [LogEvent(index, "x" * 400_000)])
    store.put("g", "s", [LogEvent(9, "y" * (2 * MAX_BYTES_A_PAGE))])
    sizes, position = [], None
    while True:
        page, position = store.filter_events("g", after=position)
        sizes.append(len(page))
        if position is None:
            break
    assert sizes == [2, 2, 1, 1]


def test_times_are_inclusive(store: LogStore) -> None:
    store.put("g", "s", [LogEvent(at, str(at)) for at in range(10)])
    assert [e.message for e in read_all(store, "g", start_ms=3, end_ms=5)] == ["3", "4", "5"]


def test_a_hundred_writers_lose_nothing_and_keep_the_order_of_each_stream(store: LogStore) -> None:
    def write(number: int) -> None:
        for index in range(50):
            store.put(
                "g", f"stream{number}", [LogEvent(index, f"{number}/{index}a"), LogEvent(index, f"{number}/{index}b")]
            )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = read_all(store, "g")
    assert len(events) == 10_000
    for number in range(100):
        of_stream = [event.message for event in events if event.stream == f"stream{number}"]
        assert of_stream == [f"{number}/{index}{part}" for index in range(50) for part in "ab"]


def test_the_oldest_invocations_are_forgotten_and_their_empty_streams_with_them(tmp_path: Path) -> None:
    store = LogStore(tmp_path, retention_invocations=1000)
    try:
        for number in range(3000):
            store.put(
                "g",
                f"stream{number // 10}",
                [LogEvent(number, "line"), LogEvent(number, f"REPORT RequestId: {number}")],
            )
            if number % 100 == 0:
                store.flush()
        reports = [e for e in read_all(store, "g") if e.message.startswith("REPORT")]
        # A hundredth is forgotten at a time, in whole batches.
        assert 1000 <= len(reports) <= 1300
        assert reports[-1].message == "REPORT RequestId: 2999"
        names = {name for name, _ in store.streams("g", limit=1000)}
        assert names == {event.stream for event in reports}
    finally:
        store.close()


def test_deleting_a_group_takes_its_events_and_leaves_the_others(store: LogStore) -> None:
    store.put("a", "s", [LogEvent(1, "a")])
    store.put("b", "s", [LogEvent(1, "b")])
    store.delete_group("a")
    store.put("a", "s", [LogEvent(2, "again")])
    assert [e.message for e in read_all(store, "a")] == ["again"]
    assert [e.message for e in read_all(store, "b")] == ["b"]


def test_streams_come_in_pages_by_name(store: LogStore) -> None:
    for number in (3, 1, 2):
        store.put("g", f"s{number}", [LogEvent(10 - number, "x")])
    store.create_stream("g", "s0-empty")
    assert [name for name, _ in store.streams("g", limit=2)] == ["s0-empty", "s1"]
    assert [name for name, _ in store.streams("g", after="s1", limit=9)] == ["s2", "s3"]


def test_text_that_has_no_utf8_is_replaced_and_not_lost(store: LogStore) -> None:
    store.put("g", "s", [LogEvent(1, "a\ud800b"), LogEvent(2, "nul \x00 inside")])
    assert [e.message for e in read_all(store, "g")] == ["a?b", "nul \x00 inside"]
