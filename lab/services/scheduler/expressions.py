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

_RATE: Final = re.compile(r"rate\(\s*(\d+)\s+(minute|hour|day)s?\s*\)")
_AT: Final = re.compile(r"at\(\s*(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\s*\)")
_CRON: Final = re.compile(r"cron\(\s*(\S+(?:\s+\S+){5})\s*\)")
_UNIT_S: Final = {"minute": 60, "hour": 3600, "day": 86_400}


class ExpressionError(ValueError):
    """A schedule expression or time zone that AWS would refuse."""


class Expression(Protocol):
    """One parsed expression."""

    def next_after(self, after_s: float) -> float | None:
        """The first time strictly after `after_s`, or None if there is none any more."""
        ...


@dataclass(frozen=True)
class Rate:
    """Every `interval_s` seconds from `base_s` on, `base_s` included."""

    base_s: float
    interval_s: float

    def next_after(self, after_s: float) -> float | None:
        if after_s < self.base_s:
            return self.base_s
        step = math.floor((after_s - self.base_s) / self.interval_s)
        # The quotient may be off by one in its last bit; times are products, so that no error adds up.
        while self.base_s + step * self.interval_s <= after_s:
            step += 1
        return self.base_s + step * self.interval_s


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


def parse(expression: str, zone: str, *, base_s: float, time_scale: float = 1.0) -> Expression:
    """Parse an expression.

    `base_s` is where a rate starts to count; `time_scale` shortens a rate's interval, and a rate's alone: cron() and
    at() name times of the clock. Raises ExpressionError.
    """
    text = expression.strip()
    if found := _RATE.fullmatch(text):
        if int(found[1]) < 1:
            raise ExpressionError(f"{expression}: the value of a rate is at least 1")
        return Rate(base_s, int(found[1]) * _UNIT_S[found[2]] / time_scale)
    if found := _AT.fullmatch(text):
        try:
            moment = dt.datetime.fromisoformat(found[1])
        except ValueError as error:
            raise ExpressionError(f"{expression}: {error}") from None
        return At(moment.replace(tzinfo=_zone(zone)).timestamp())
    if found := _CRON.fullmatch(text):
        try:
            fields = AwsCroniter(" ".join(found[1].split()))
        except Exception as error:  # noqa: BLE001 - the library's errors share no base but Exception
            raise ExpressionError(f"{expression}: {error}") from None
        return Cron(fields, _zone(zone))
    raise ExpressionError(f"{expression!r} is no rate(value unit), cron(fields) or at(yyyy-mm-ddThh:mm:ss)")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError below LookupError
        raise ExpressionError(f"time zone {name!r}: {error}") from None
    except KeyError:
        raise ExpressionError(f"time zone {name!r} is not known; expected an IANA name such as Europe/Berlin") from None
