"""When a schedule fires: `rate(...)` as EventBridge Scheduler reads it, which is all that the stack deploys. Pure.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
All times are seconds since the epoch.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Final

# ScheduleExpression of CreateSchedule: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
_MAX_CHARACTERS: Final = 256
_RATE: Final = re.compile(r"rate\(\s*(\d+)\s+(minute|hour|day)s?\s*\)", re.ASCII)
_END_S: Final = dt.datetime(2200, 1, 1, tzinfo=dt.UTC).timestamp()
_UNIT_S: Final = {"minute": 60, "hour": 3600, "day": 86_400}


class ExpressionError(ValueError):
    """A schedule expression that AWS would refuse, or that the lab does not model."""


@dataclass(frozen=True)
class Rate:
    """Every `interval_s` seconds from `base_s` on, `base_s` included, before `end_s`."""

    base_s: float
    interval_s: float
    end_s: float = _END_S

    def next_after(self, after_s: float) -> float | None:
        """Return the first time strictly after `after_s`, or None if there are no more."""
        if after_s >= self.end_s:
            return None  # nor could a step be counted in any float
        step = max(0, math.floor((after_s - self.base_s) / self.interval_s))
        # The quotient may be off by one in its last bit; times are products, so that no error adds up.
        while self.base_s + step * self.interval_s <= after_s:
            step += 1
        found = self.base_s + step * self.interval_s
        return found if found < self.end_s else None


def parse(expression: str, *, base_s: float, time_scale: float = 1.0, end_s: float | None = None) -> Rate:
    """Parse an expression. Raises ExpressionError.

    `base_s` is where the rate starts to count; `time_scale` shortens its interval; it ends by the year 2200.
    """
    found = _RATE.fullmatch(expression.strip()) if len(expression) <= _MAX_CHARACTERS else None
    if found is None or int(found[1]) < 1:
        raise ExpressionError(
            f"{expression[:40]!r} is no rate(value unit) of 1 or more minutes, hours, or days; cron() and at() are not "
            "modeled by the lab"
        )
    end_s = _END_S if end_s is None else min(end_s, _END_S)
    return Rate(base_s, int(found[1]) * _UNIT_S[found[2]] / time_scale, end_s)
