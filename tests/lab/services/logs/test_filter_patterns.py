"""Filter patterns, by the examples of CloudWatch's own documentation and beyond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.services.logs.filter_patterns import FilterPatternError, compile_pattern

EVENT = '{"eventType": "UpdateTrail", "arrayKey": ["value", "another value"]}'


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("UpdateTrail", True),
        ("updatetrail", False),
        ("UpdateTrail missing", False),
        ('"another value"', True),
        ("UpdateTrail -missing", True),
        ("UpdateTrail -another", False),
        ("?missing ?UpdateTrail", True),
        ("?missing ?absent", False),
        ("", True),
    ],
)
def test_a_pattern_takes_what_cloudwatch_would(pattern: str, expected: bool) -> None:
    matches = compile_pattern(pattern)
    assert (matches is None or matches(EVENT)) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "{ $.a = 1 }",
        "{ $.a = 1",
        "[a, b]",
        "%count.{1,4}12%",
        "START %a%",
        '"open',
        "x" * 2000,
        "{}",
    ],
)
def test_a_pattern_that_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(FilterPatternError):
        compile_pattern(pattern)


def test_a_refused_pattern_says_what_works_instead() -> None:
    with pytest.raises(FilterPatternError, match="use terms or quoted phrases"):
        compile_pattern('{ $.type = "platform.report" }')


@given(st.text(alphabet='{}$.a1 ="|&()%[]*<>!?-', max_size=40), st.text(max_size=30))
def test_any_text_is_either_a_pattern_or_refused(pattern: str, message: str) -> None:
    try:
        matches = compile_pattern(pattern)
    except FilterPatternError:
        return
    if matches is not None:
        assert matches(message) in {True, False}
