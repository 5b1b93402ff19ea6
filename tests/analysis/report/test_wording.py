"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.report.wording import (
    NO_NUMBER,
    count_text,
    estimate_text,
    number_text,
    percent_text,
    rounded,
    usd_text,
)
from analysis.summary import Estimate

finite = st.floats(min_value=1e-6, max_value=1e12)


@given(finite)
def test_a_number_is_written_to_three_significant_digits(value):
    read = float(number_text(value).replace(",", ""))
    assert math.isclose(read, value, rel_tol=0.0051)


@given(st.floats())
def test_no_text_says_nan_or_infinity(value):
    for text in (number_text(value), usd_text(value), percent_text(value), count_text(value)):
        assert "nan" not in text.lower()
        assert "inf" not in text.lower()


@given(finite)
def test_rounding_keeps_five_digits(value):
    assert math.isclose(rounded(value), value, rel_tol=1e-4)


@pytest.mark.parametrize(
    ("value", "text"),
    [(57.26, "57.3"), (1234.5, "1,234"), (0.01234, "0.0123"), (0, "0"), (9.999, "10.00"), (None, NO_NUMBER)],
)
def test_numbers_have_their_thousands_separated_and_no_more_digits_than_they_carry(value, text):
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(4.5, "$4.50"), (1234.567, "$1,234.57"), (0.0123, "$0.0123"), (0, "$0.00")]
)
def test_dollars_have_cents_and_less_than_a_dollar_has_digits(value, text):
    assert usd_text(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.93, "93%"), (0.0123, "1.23%"), (1.0, "100%"), (0.0, "0%")])
def test_shares_are_percent_without_idle_zeros(share, text):
    assert percent_text(share) == text


def test_an_estimate_without_interval_says_why():
    assert (
        estimate_text(Estimate(value=57.3, n=3, reason="needs n >= 6"), "ms") == "57.3 ms (no interval: needs n >= 6)"
    )
    assert estimate_text(Estimate(value=57.3, low=55.0, high=60.0, n=30), "ms") == "57.3 ms (55.0 to 60.0)"
