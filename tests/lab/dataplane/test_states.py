"""The states of an execution environment and the ways between them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.paths import REPOSITORY
from lab.dataplane.environment import ExecutionEnvironment
from lab.dataplane.environment_state import MOVES, ImpossibleMoveError, State
from lab.dataplane.plane import _STATES


def environment() -> Any:
    """An environment that has a state and nothing else."""
    bare = ExecutionEnvironment.__new__(ExecutionEnvironment)
    bare.configuration = SimpleNamespace(name="function")  # type: ignore[assignment]
    bare._state = State.NEW
    return bare


@given(st.lists(st.sampled_from(State), max_size=30))
def test_a_state_changes_only_to_one_that_follows_it(wanted: list[State]) -> None:
    subject = environment()
    for to in wanted:
        before = subject._state
        if before is State.ENDED or to is before:
            subject._move(to)
            assert subject._state is before
        elif to is State.ENDED or to in MOVES[before]:
            subject._move(to)
            assert subject._state is to
        else:
            with pytest.raises(ImpossibleMoveError, match=f"from {before.name} to {to.name}"):
                subject._move(to)
            assert subject._state is before


def test_every_state_is_reached_and_every_life_can_begin_again_or_end() -> None:
    reached = {State.NEW, State.ENDED}.union(*MOVES.values())
    assert reached == set(State)
    assert all(following for state, following in MOVES.items() if state is not State.ENDED)


def test_every_state_has_a_name_and_the_page_a_style_for_each_name() -> None:
    assert set(_STATES) == set(State)
    page = (REPOSITORY / "lab/page/page.html").read_text("utf-8")
    assert [name for name in set(_STATES.values()) if f".{name} {{" not in page and f".{name}, " not in page] == []
