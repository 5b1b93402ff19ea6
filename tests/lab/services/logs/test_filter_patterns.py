"""Filter patterns, by the examples of CloudWatch's own documentation and beyond."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.services.logs.filter_patterns import FilterPatternError, compile_pattern

EVENT = json.dumps(
    {
        "eventType": "UpdateTrail",
        "sourceIPAddress": "111.111.111.111",
        "arrayKey": ["value", "another value"],
        "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
        "SomeObject": None,
        "cluster.name": "c",
        "ThisFlag": True,
        "count": 12.5,
        "type": "platform.report",
        "record": {"requestId": "r", "metrics": {"durationMs": 30.25}},
    }
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ('{ $.eventType = "UpdateTrail" }', True),
        ('{ $.eventType = "Update*" }', True),
        ('{ $.eventType = "Delete*" }', False),
        ("{ $.sourceIPAddress != 123.123.* }", True),
        ("{ $.sourceIPAddress = 111.111.* }", True),
        ('{ $.arrayKey[0] = "value" }', True),
        ('{ $.arrayKey[1] = "value" }', False),
        ('{ $.arrayKey[*] = "another value" }', True),
        ("{ $.objectList[1].id = 2 }", True),
        ("{ $.objectList[*].id > 2 }", False),
        ("{ $.SomeObject IS NULL }", True),
        ("{ $.SomeOtherObject NOT EXISTS }", True),
        ("{ $.SomeObject NOT EXISTS }", False),
        ("{ $.ThisFlag IS TRUE }", True),
        ("{ $.ThisFlag IS FALSE }", False),
        ("{ $.['cluster.name'] = \"c\" }", True),
        ("{ $.count >= 12.5 && $.count < 13 }", True),
        ("{ $.count > 1e2 }", False),
        ("{ $.eventType > 1 }", False),
        ('{ ($.eventType = "x" || $.count = 12.5) && $.ThisFlag IS TRUE }', True),
        ('{ $.eventType = "x" || $.count = 12.5 && $.ThisFlag IS FALSE }', False),
        ('{ $.type = "platform.report" }', True),
        ('{ $.type = "platform.start" }', False),
        ("{ $.record.metrics.durationMs = 30.25 }", True),
        ("{ $.eventType = %^Upd.*Trail$% }", True),
        ("UpdateTrail", True),
        ("updatetrail", False),
        ("UpdateTrail missing", False),
        ('"another value"', True),
        ("UpdateTrail -missing", True),
        ("UpdateTrail -another", False),
        ("?missing ?UpdateTrail", True),
        ("?missing ?absent", False),
        ("%count.{1,4}12%", True),
        ("", True),
    ],
)
def test_a_pattern_takes_what_cloudwatch_would(pattern: str, expected: bool) -> None:
    matches = compile_pattern(pattern)
    assert (matches is None or matches(EVENT)) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "{ $.a = }",
        "{ $.a }",
        "{ a = 1 }",
        "{ $.a = 1",
        "{ ($.a = 1 }",
        "{ $.a < text }",
        "[a, b]",
        '"open',
        "x" * 2000,
        "{}",
    ],
)
def test_a_pattern_that_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(FilterPatternError):
        compile_pattern(pattern)


def test_a_json_pattern_passes_over_lines_that_are_no_json() -> None:
    matches = compile_pattern("{ $.a = 1 }")
    assert matches is not None
    assert [matches(line) for line in ("START RequestId: 1", "{broken", "[1]", '{"a": 1}', ' {"a": 1}')] == [
        False,
        False,
        False,
        True,
        True,
    ]


@given(st.text(alphabet='{}$.a1 ="|&()%[]*<>!?-', max_size=40), st.text(max_size=30))
def test_any_text_is_either_a_pattern_or_refused(pattern: str, message: str) -> None:
    try:
        matches = compile_pattern(pattern)
    except FilterPatternError:
        return
    if matches is not None:
        assert matches(message) in {True, False}
