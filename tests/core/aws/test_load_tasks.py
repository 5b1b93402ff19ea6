"""Names of what tasks of a load leave in the bucket."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.aws.load_tasks import Part, run_prefix, worker_name, workers_for

words = st.text("aZ09.-", min_size=1, max_size=5)
parts = st.builds(
    Part,
    run_id=words,
    attempt=st.integers(0, 10**13).map(str),
    task=words,
    file=st.lists(words, min_size=1, max_size=3).map("/".join),
    offset=st.integers(0, 10**15 - 1),
)


@settings(max_examples=50)
@given(parts)
def test_the_key_of_a_part_names_it(part):
    assert Part.from_key(part.key) == part
    assert part.key.startswith(f"{run_prefix(part.run_id)}{part.attempt}/{part.task}/")
    assert part.key.startswith(run_prefix(part.run_id))


@settings(max_examples=50)
@given(parts, parts)
def test_keys_of_one_file_sort_by_offset(part, other):
    keys = [Part(part.run_id, part.attempt, part.task, part.file, offset).key for offset in (part.offset, other.offset)]
    assert (keys[0] < keys[1]) == (part.offset < other.offset)


@given(st.text())
def test_the_key_of_anything_else_names_no_part(text):
    assert Part.from_key(text) is None


def test_workers_sort_by_number():
    assert [worker_name(number) for number in (7, 123)] == ["worker-007", "worker-123"]


def test_as_many_workers_as_send_the_peak_on_time():
    assert [workers_for(rps) for rps in (0.5, 400, 401, 100_000)] == [1, 1, 2, 250]
