"""Fire times: pure, checked against brute force."""

import contextlib
import datetime as dt

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lab.services.scheduler.expressions import ExpressionError, Rate, parse


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC).timestamp()


@given(
    base=st.floats(1e9, 2e9),
    value=st.integers(1, 10_000),
    unit=st.sampled_from(["minute", "hour", "day"]),
    scale=st.floats(1, 10_000),
    offset=st.floats(-1e6, 1e8),
)
def test_a_rate_fires_at_its_base_plus_whole_intervals_and_always_later(base, value, unit, scale, offset):
    rate = parse(f"rate({value} {unit}s)", base_s=base, time_scale=scale)
    interval = value * {"minute": 60, "hour": 3600, "day": 86_400}[unit] / scale
    after = base + offset
    found = rate.next_after(after)
    assert found > after
    assert found >= base
    assert found - after <= interval * (1 + 1e-9) + 1e-6 or found == base
    step = round((found - base) / interval)
    assert found == base + step * interval


@given(base=st.floats(1e9, 2e9), interval=st.floats(0.05, 1e6), count=st.integers(1, 200))
def test_walking_a_rate_visits_every_step_once(base, interval, count):
    rate, after, found = Rate(base, interval), base - 1e-6, []
    assume(interval > 1e-5)
    for _ in range(count):
        after = rate.next_after(after)
        found.append(after)
    assert found == [base + step * interval for step in range(count)]


@pytest.mark.parametrize(
    "expression",
    [
        "rate(0 minutes)",
        "rate(5 seconds)",
        "rate(-1 minutes)",
        f"rate({'9' * 5000} days)",
        f"rate({'9' * 400} days)",
        f"rate({'0' * 5000}1 days)",
        "rate(\u0665 minutes)",
        "cron(0 9 * * ? *)",
        "at(2026-07-01T12:00:00)",
        "",
    ],
)
def test_what_aws_refuses_or_the_lab_does_not_model_is_refused(expression):
    with pytest.raises(ExpressionError):
        parse(expression, base_s=0.0)


@settings(max_examples=60)
@given(
    st.text(max_size=60) | st.from_regex(r"[0-9]{1,300} (minute|hour|day)s?", fullmatch=True),
    st.floats(0, 1e300) | st.just(utc(2199, 12, 31, 23, 59)),
)
def test_any_text_is_refused_or_has_fire_times_of_the_calendar(text, after):
    for candidate in (text, f"rate({text})"):
        with contextlib.suppress(ExpressionError):
            found = parse(candidate, base_s=0.0).next_after(after)
            assert found is None or after < found <= utc(9999, 12, 31, 23, 59) + 86_400
