"""What every command reads from its arguments."""

from __future__ import annotations

import argparse

import pytest

from core.program.command_line import number, seconds


@pytest.mark.parametrize(("text", "duration_s"), [("0", 0.0), ("60", 60.0), ("0.5", 0.5)])
def test_a_duration_is_read(text: str, duration_s: float) -> None:
    assert seconds(text) == duration_s


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1e999", "60 s"])
def test_what_would_end_no_wait_is_not_a_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "three", "nan", "inf", "1e999", "3%"])
def test_what_is_not_a_finite_number_is_refused_in_words(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number"):
        number(text)
