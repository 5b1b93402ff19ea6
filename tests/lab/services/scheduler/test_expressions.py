"""Fire times: pure, checked against brute force and against AWS's own examples."""

import contextlib
import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lab.services.scheduler.expressions import ExpressionError, Rate, parse


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC).timestamp()


def times(expression, after, count, zone="UTC", **kwargs):
    parsed = parse(expression, zone, base_s=kwargs.pop("base_s", after), **kwargs)
    found = []
    while len(found) < count and (after := parsed.next_after(after)) is not None:
        found.append(after)
    return found


def local(seconds, zone):
    return [dt.datetime.fromtimestamp(s, ZoneInfo(zone)).strftime("%d %H:%M") for s in seconds]


@given(
    base=st.floats(1e9, 2e9),
    value=st.integers(1, 10_000),
    unit=st.sampled_from(["minute", "hour", "day"]),
    scale=st.floats(1, 10_000),
    offset=st.floats(-1e6, 1e8),
)
def test_a_rate_fires_at_its_base_plus_whole_intervals_and_always_later(base, value, unit, scale, offset):
    rate = parse(f"rate({value} {unit}s)", "UTC", base_s=base, time_scale=scale)
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


@given(
    minute=st.sampled_from(["*", "0", "*/7", "5-20", "3,50", "10/15"]),
    hour=st.sampled_from(["*", "3", "8-17", "0/6", "23"]),
    day=st.sampled_from([("*", "?"), ("1,15", "?"), ("?", "MON-FRI"), ("?", "1"), ("L", "?")]),
    month=st.sampled_from(["*", "1-6", "FEB", "3,12"]),
    start=st.integers(int(utc(2026, 1, 1)), int(utc(2028, 12, 1))),
)
def test_cron_agrees_with_a_walk_over_every_minute(minute, hour, day, month, start):
    def allowed(field, value, low, high):
        values = set()
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, last = (low, high) if span == "*" else (int(span.split("-")[0]), int(span.split("-")[-1]))
            if step and "-" not in span and span != "*":
                last = high
            values.update(range(first, last + 1, int(step or 1)))
        return value in values

    names = {"FEB": "2", "MON-FRI": "2-6"}

    def matches(moment):
        last_day = (moment + dt.timedelta(days=1)).month != moment.month
        day_of_month, day_of_week = day
        by_day = (
            (last_day if day_of_month == "L" else allowed(day_of_month, moment.day, 1, 31))
            if day_of_month != "?"
            else allowed(names.get(day_of_week, day_of_week), moment.isoweekday() % 7 + 1, 1, 7)
        )
        return (
            allowed(minute, moment.minute, 0, 59)
            and allowed(hour, moment.hour, 0, 23)
            and by_day
            and allowed(names.get(month, month), moment.month, 1, 12)
        )

    window = dt.timedelta(days=2)
    begin = dt.datetime.fromtimestamp(start, dt.UTC)
    expected = None
    probe = begin.replace(second=0) + dt.timedelta(minutes=1)
    while probe <= begin + window:
        if matches(probe):
            expected = probe.timestamp()
            break
        probe += dt.timedelta(minutes=1)
    found = parse(f"cron({minute} {hour} {day[0]} {month} {day[1]} *)", "UTC", base_s=0).next_after(start)
    if expected is None:
        assert found is None or found > (begin + window).timestamp() - 60
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#cron-based
        ("cron(15 10 ? * 6L 2026-2027)", ["2026-01-30 10:15", "2026-02-27 10:15"]),
        ("cron(0 8 1 * ? *)", ["2026-01-01 08:00", "2026-02-01 08:00"]),
        ("cron(0 18 ? * MON-FRI *)", ["2026-01-01 18:00", "2026-01-02 18:00", "2026-01-05 18:00"]),
        ("cron(0 9 ? * 2#1 *)", ["2026-01-05 09:00", "2026-02-02 09:00"]),
        ("cron(0 0 15W * ? *)", ["2026-01-15 00:00", "2026-02-16 00:00"]),
        ("cron(0 0 L * ? *)", ["2026-01-31 00:00", "2026-02-28 00:00"]),
        ("cron(0 0 ? * L *)", ["2026-01-03 00:00", "2026-01-10 00:00"]),
        ("cron(0 0 1 1 ? 2026/2)", ["2028-01-01 00:00", "2030-01-01 00:00"]),
        ("cron(0 0 1 1 ? 2027-2031/4)", ["2027-01-01 00:00", "2031-01-01 00:00"]),
        ("cron(0 0 1 1 ? */100)", ["2070-01-01 00:00", "2170-01-01 00:00"]),
        # https://github.com/localstack/localstack/issues/13572: valid, and refused there
        ("cron(0-15/1 8-8 ? * 2,3,4,5,6,7 *)", ["2026-01-01 08:00", "2026-01-01 08:01"]),
        ("cron(30-30 13-13 ? * 2,4,6 *)", ["2026-01-02 13:30", "2026-01-05 13:30"]),
        ("cron(1-31/30 1-1 ? * 1,7 *)", ["2026-01-03 01:01", "2026-01-03 01:31"]),
    ],
)
def test_cron_knows_the_signs_that_aws_has(expression, expected):
    found = times(expression, utc(2026, 1, 1), len(expected))
    assert [dt.datetime.fromtimestamp(s, dt.UTC).strftime("%Y-%m-%d %H:%M") for s in found] == expected


def test_cron_is_read_in_its_time_zone():
    assert times("cron(0 9 * * ? *)", utc(2026, 1, 1), 1, "Asia/Tokyo") == [utc(2026, 1, 2, 0, 0)]


def test_a_local_time_that_spring_leaves_out_is_skipped():
    found = times("cron(30 2 * * ? *)", utc(2026, 3, 28), 3, "Europe/Berlin")
    assert local(found, "Europe/Berlin") == ["28 02:30", "30 02:30", "31 02:30"]


def test_a_local_time_that_autumn_repeats_fires_once():
    found = times("cron(0/30 2 * * ? *)", utc(2026, 10, 24, 12), 4, "Europe/Berlin")
    assert local(found, "Europe/Berlin") == ["25 02:00", "25 02:30", "26 02:00", "26 02:30"]
    assert found == sorted(set(found))


def test_cron_ends_with_its_last_year():
    assert times("cron(0 0 1 1 ? 2025)", utc(2026, 1, 1), 1) == []
    assert times("cron(0 0 31 2 ? *)", utc(2026, 1, 1), 1) == []


def test_at_fires_once_in_its_zone():
    assert times("at(2026-07-01T12:00:00)", utc(2026, 1, 1), 5, "America/New_York") == [utc(2026, 7, 1, 16)]


def test_the_time_scale_shortens_rates_alone():
    start = utc(2026, 1, 1)
    assert times("rate(10 minutes)", start, 2, time_scale=10) == [start + 60, start + 120]
    for expression in ("cron(0 9 * * ? *)", "at(2026-07-01T12:00:00)"):
        assert times(expression, start, 1, time_scale=10) == times(expression, start, 1)


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("rate(0 minutes)", "UTC"),
        ("rate(5 seconds)", "UTC"),
        ("rate(-1 minutes)", "UTC"),
        # https://github.com/aws/aws-cdk/issues/27618 and 32753: these reached AWS before anybody refused them
        ("cron(0/10 * ? * *)", "UTC"),
        ("cron(0 50 0,6,12,18 * ? *)", "UTC"),
        ("cron(* * * * *)", "UTC"),
        ("cron(0 9 * * * *)", "UTC"),
        ("cron(61 9 * * ? *)", "UTC"),
        ("cron(0 25 * * ? *)", "UTC"),
        ("cron(0 9 32 * ? *)", "UTC"),
        ("cron(0 9 * 13 ? *)", "UTC"),
        ("cron(0 9 ? * 8 *)", "UTC"),
        ("cron(0 9 * * ? 1969)", "UTC"),
        ("cron(0 9 * * ? 2026/0)", "UTC"),
        ("cron(0 9 * * ? * *)", "UTC"),
        ("cron(0 9 ? * ? *)", "UTC"),
        ("cron(0 9 1 * MON *)", "UTC"),
        ("rate(5 minutes)", "Mars/Olympus"),
        ("at(2026-07-01T12:00:00)", "Mars/Olympus"),
        ("at(2026-13-01T00:00:00)", "UTC"),
        ("at(tomorrow)", "UTC"),
        (f"rate({'9' * 5000} days)", "UTC"),
        (f"rate({'9' * 400} days)", "UTC"),
        (f"rate({'0' * 5000}1 days)", "UTC"),
        (f"cron({'0' * 5000} 9 * * ? *)", "UTC"),
        (f"cron(0 9 * * ? {','.join(['2030'] * 60)})", "UTC"),
        ("rate(\u0665 minutes)", "UTC"),
        ("cron(\u0665 9 * * ? *)", "UTC"),
        ("at(\u0662026-07-01T12:00:00)", "UTC"),
        ("", "UTC"),
        ("cron(0 9 * * ? *)", "Mars/Olympus"),
        ("cron(0 9 * * ? *)", "../../etc/passwd"),
    ],
)
def test_what_aws_refuses_is_refused(expression, zone):
    with pytest.raises(ExpressionError):
        parse(expression, zone, base_s=0.0)


@settings(max_examples=60)
@given(
    st.text(max_size=60) | st.from_regex(r"[0-9]{1,300} (minute|hour|day)s?", fullmatch=True),
    st.sampled_from(["UTC", "Europe/Berlin", "", "x"]),
    st.floats(0, 1e300) | st.just(utc(2199, 12, 31, 23, 59)),
)
def test_any_text_is_refused_or_has_fire_times_of_the_calendar(text, zone, after):
    for candidate in (text, f"cron({text})", f"rate({text})", f"at({text})"):
        with contextlib.suppress(ExpressionError):
            found = parse(candidate, zone, base_s=0.0).next_after(after)
            assert found is None or after < found <= utc(9999, 12, 31, 23, 59) + 86_400
