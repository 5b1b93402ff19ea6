"""JSON is read and written as the standard has it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import strict_json
from core.run.outcomes import classify_http
from core.run.records import HandlerFacts

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(documents)
def test_every_document_is_read_back(document: object) -> None:
    assert strict_json.loads(strict_json.dumps(document)) == document
    assert strict_json.loads(json.dumps(document).encode()) == document


@given(documents, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_not_json_is_written_nowhere(document: object, number: float) -> None:
    for holder in (number, [document, number], {"a": document, "b": {"c": number}}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            strict_json.dumps(holder, indent=1)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("form", ["{}", "[1, {}]", '{{"a": {{"b": {}}}}}'])
def test_a_number_that_is_not_json_is_refused(constant: str, form: str) -> None:
    with pytest.raises(ValueError, match="is not JSON"):
        strict_json.loads(form.format(constant))


@pytest.mark.parametrize("text", [b'"\xff"', '"a"'.encode("utf-16"), b"[" * 100_000, b"", b"{} {}"])
def test_other_encodings_and_what_is_no_document_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        strict_json.loads(text)


def test_an_answer_with_nan_holds_no_facts() -> None:
    facts = dict.fromkeys(HandlerFacts.model_fields, 1.0) | {"inference_ms": float("nan")}
    answer = classify_http(200, json.dumps(facts).encode(), {})
    assert (answer.outcome, answer.handler) == ("ok", None)
