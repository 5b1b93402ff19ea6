"""When a schedule fires: `rate(...)`, `cron(...)` and `at(...)` as EventBridge Scheduler reads them. Pure.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
All times are seconds since the epoch.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from aws_croniter import AwsCroniter

# ScheduleExpression of CreateSchedule and of PutRule; https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
_MAX_CHARACTERS: Final = 256
_RATE: Final = re.compile(r"rate\(\s*(\d+)\s+(minute|hour|day)(s?)\s*\)")
_AT: Final = re.compile(r"at\(\s*(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\s*\)")
_CRON: Final = re.compile(r"cron\(\s*(\S+(?:\s+\S+){5})\s*\)")
# A step in the year field, which the library does not take.
_YEAR_STEP: Final = re.compile(r"(?:\*|(\d{4})(?:-(\d{4}))?)/(\d+)")
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_END_S: Final = dt.datetime(_LAST_YEAR + 1, 1, 1, tzinfo=dt.UTC).timestamp()
_UNIT_S: Final = {"minute": 60, "hour": 3600, "day": 86_400}


class ExpressionError(ValueError):
    """A schedule expression or time zone that AWS would refuse."""


class Expression(Protocol):
    """One parsed expression."""

    def next_after(self, after_s: float) -> float | None:
        """Return the first time strictly after `after_s`, or None if there are no more."""
        ...


@dataclass(frozen=True)
class Rate:
    """Every `interval_s` seconds from `base_s` on, `base_s` included, until the last year that cron() knows."""

    base_s: float
    interval_s: float

    def next_after(self, after_s: float) -> float | None:
        if after_s < self.base_s:
            return self.base_s
        if after_s >= _END_S:
            return None  # no step can be counted in such a float
        step = math.floor((after_s - self.base_s) / self.interval_s)
        # The quotient may be off by one in its last bit; times are products, so that no error adds up.
        while self.base_s + step * self.interval_s <= after_s:
            step += 1
        found = self.base_s + step * self.interval_s
        return found if found < _END_S else None


@dataclass(frozen=True)
class At:
    """Once."""

    moment_s: float

    def next_after(self, after_s: float) -> float | None:
        return self.moment_s if after_s < self.moment_s else None


@dataclass(frozen=True)
class Cron:
    """By the calendar of a time zone.

    A local time that a clock change leaves out is skipped; one that it repeats fires once, the first time.
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#daylist-savings-time
    """

    fields: AwsCroniter
    zone: ZoneInfo

    def next_after(self, after_s: float) -> float | None:
        if after_s >= _END_S:
            return None
        # The library knows no zones: it is asked in local time that is dressed up as UTC.
        local = dt.datetime.fromtimestamp(after_s, self.zone).replace(tzinfo=None)
        while True:
            (found,) = self.fields.get_next(local.replace(tzinfo=dt.UTC))
            if found is None:
                return None
            local = found.replace(tzinfo=None)
            moment_s: float = local.replace(tzinfo=self.zone).timestamp()
            exists = dt.datetime.fromtimestamp(moment_s, self.zone).replace(tzinfo=None) == local
            if exists and moment_s > after_s:
                return moment_s


def check_rule(expression: str) -> None:
    """Check an expression as a rule takes it: no at(), and a rate's unit in the singular for 1 alone.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
    Raises ExpressionError.
    """
    parse(expression, "UTC", base_s=0.0)
    rate = _RATE.fullmatch(expression.strip())
    if expression.strip().startswith("at(") or (rate and (rate[1] == "1") == bool(rate[3])):
        raise ExpressionError(f"{expression}: a rule takes rate(1 hour), rate(2 hours) or cron(fields)")


def parse(expression: str, zone: str, *, base_s: float, time_scale: float = 1.0) -> Expression:
    """Parse an expression as a schedule takes it.

    `base_s` is where a rate starts to count; `time_scale` shortens a rate's interval, and a rate's alone: cron() and
    at() name times of the clock. Raises ExpressionError.
    """
    if len(expression) > _MAX_CHARACTERS or not expression.isascii():
        raise ExpressionError(f"{expression[:40]!r}...: at most {_MAX_CHARACTERS} characters, of ASCII, are allowed")
    text, place = expression.strip(), _zone(zone)
    if found := _RATE.fullmatch(text):
        if int(found[1]) < 1:
            raise ExpressionError(f"{expression}: the value of a rate is at least 1")
        return Rate(base_s, int(found[1]) * _UNIT_S[found[2]] / time_scale)
    if found := _AT.fullmatch(text):
        try:
            moment = dt.datetime.fromisoformat(found[1])
        except ValueError as error:
            raise ExpressionError(f"{expression}: {error}") from None
        return At(moment.replace(tzinfo=place).timestamp())
    if found := _CRON.fullmatch(text):
        try:
            fields = AwsCroniter(_plain_fields(found[1]))
        except Exception as error:  # noqa: BLE001 - the library's errors share no base but Exception
            raise ExpressionError(f"{expression}: {error}") from None
        return Cron(fields, place)
    raise ExpressionError(f"{expression!r} is no rate(value unit), cron(fields) or at(yyyy-mm-ddThh:mm:ss)")


def _plain_fields(text: str) -> str:
    """Six fields as the library takes them, which knows no step in the year and no L as a day of the week."""
    *fields, day_of_week, year = text.split()
    years = ",".join(_YEAR_STEP.sub(_years, part) if _YEAR_STEP.fullmatch(part) else part for part in year.split(","))
    return " ".join([*fields, "7" if day_of_week.upper() == "L" else day_of_week, years])


def _years(step: re.Match[str]) -> str:
    first = int(step[1] or _FIRST_YEAR)
    last = int(step[2] or _LAST_YEAR)
    return ",".join(map(str, range(first, last + 1, int(step[3]))))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError below LookupError
        raise ExpressionError(f"time zone {name!r}: {error}") from None
    except KeyError:
        raise ExpressionError(f"time zone {name!r} is not known; expected an IANA name such as Europe/Berlin") from None
