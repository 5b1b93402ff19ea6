"""What the platform does with requests, and how environments are kept ready: the terms of a simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from core.money.charges import FrontDoor
from simulation.kernel import ANSWER, BILLED_MS, BUSY_S, CORRECT, INCORRECT_ANSWER, LATENCY_S, NO_ANSWER_IN_TIME

Choice = Literal["newest_first", "oldest_first", "random"]

# How long each front door waits for an answer. REST: the default quota; HTTP API: fixed; a Function URL waits as long
# as a function may run. https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
FRONT_DOOR_LIMIT_S: Final[dict[str, float]] = {"rest_api": 29.0, "http_api": 30.0, "function_url": 900.0}


class NotMeasuredError(UserError):
    """A strategy needs samples of a kind that was not measured."""


@dataclass(frozen=True)
class Calls:
    """Measured calls of one kind; all arrays have one entry per call, in milliseconds.

    `busy_ms` is how long the environment was occupied, init included; `latency_ms` what the caller waited. Calls of the
    same environment share their `environment` number and are resampled together, since they resemble each other.
    """

    busy_ms: npt.NDArray[np.float64]
    billed_ms: npt.NDArray[np.float64]
    latency_ms: npt.NDArray[np.float64]
    is_correct: npt.NDArray[np.bool_]
    environment: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.busy_ms)

    def table(self, limit_s: float) -> npt.NDArray[np.float64]:
        """Return the table that the event loop draws from, for a front door that waits so long.

        A caller whose answer is later gets a 504 then; the environment stays busy to the end of its call.
        """
        is_late = self.latency_ms > 1000 * limit_s
        table = np.empty((len(self), 4))
        table[:, BUSY_S] = self.busy_ms / 1000
        table[:, BILLED_MS] = self.billed_ms
        table[:, LATENCY_S] = np.minimum(self.latency_ms / 1000, limit_s)
        table[:, ANSWER] = np.where(is_late, NO_ANSWER_IN_TIME, np.where(self.is_correct, CORRECT, INCORRECT_ANSWER))
        return table

    def resampled(self, random: np.random.Generator, limit_s: float) -> npt.NDArray[np.float64]:
        """Return a bootstrap sample of the table: whole environments where they are known, otherwise calls."""
        table = self.table(limit_s)
        if self.environment is None:
            return table[random.integers(0, len(table), len(table))]
        numbers, starts = np.unique(self.environment, return_inverse=True)
        members = np.split(np.argsort(starts, kind="stable"), np.cumsum(np.bincount(starts))[:-1])
        chosen = random.integers(0, len(numbers), len(numbers))
        chosen_rows: npt.NDArray[np.float64] = table[np.concatenate([members[index] for index in chosen])]
        return chosen_rows


@dataclass(frozen=True)
class Samples:
    """What was measured of one variant. `cold` holds calls that started an environment, `restored` from a snapshot."""

    warm: Calls
    cold: Calls | None = None
    restored: Calls | None = None


@dataclass(frozen=True)
class Pool:
    """How the platform treats one function.

    `idle_minutes` is the range of the life of an idle environment, which AWS does not publish (5 to 60 minutes have
    been observed). `concurrency` is the reserved concurrency of the function, or else the account's.
    Scaling: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html#scaling-rate
    """

    idle_minutes: tuple[float, float] = (5.0, 60.0)
    choice: Choice = "newest_first"
    concurrency: int = 1000
    scaling_burst: int = 1000
    scaling_per_s: float = 100.0
    front_door: FrontDoor = "rest_api"
    front_door_limit_s: float | None = None  # None: that of FRONT_DOOR_LIMIT_S
    caller_retries: int = 0
    caller_backoff_s: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.idle_minutes[0] <= self.idle_minutes[1]:
            raise ValueError(f"idle_minutes {self.idle_minutes} is not a range above 0")
        if self.concurrency < 1:
            raise ValueError("concurrency must be at least 1")

    @property
    def limit_s(self) -> float:
        return self.front_door_limit_s or FRONT_DOOR_LIMIT_S[self.front_door]


@dataclass(frozen=True)
class OnDemand:
    """Environments start when they are needed."""


@dataclass(frozen=True)
class SnapStart:
    """Environments are restored from a snapshot of a published version."""


@dataclass(frozen=True)
class Provisioned:
    """Provisioned concurrency: one level, or one for each hour of the day or of the week."""

    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.levels) not in {1, 24, 168} or min(self.levels) < 0:
            raise ValueError("give 1, 24 or 168 levels from 0 on")


@dataclass(frozen=True)
class TargetTracking:
    """Provisioned concurrency that follows its own use.

    The metric is the mean of ProvisionedConcurrencyUtilization over a minute, as requests see it. A raise takes
    `allocation_s` to take effect.
    """

    target: float = 0.7
    minimum: int = 1
    maximum: int = 1000
    allocation_s: float = 120.0

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1 or not 1 <= self.minimum <= self.maximum:
            raise ValueError("the target must be above 0 and at most 1, and 1 <= minimum <= maximum")


@dataclass(frozen=True)
class WarmPings:
    """`count` schedules, each of which calls the function once per interval.

    A schedule fires at a random moment within `spread_s` (EventBridge Scheduler's precision is one minute), and a ping
    takes whichever environment is free: pings that do not overlap keep the same one warm. `hold_ms` is how much longer
    than a prediction a ping occupies its environment, so that simultaneous pings reach different ones.
    """

    count: int
    every_minutes: float = 4.0
    spread_s: float = 60.0
    hold_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.every_minutes <= 0 or self.spread_s < 0 or self.hold_ms < 0:
            raise ValueError("count must be at least 1, every_minutes above 0, spread_s and hold_ms from 0 on")


Strategy = OnDemand | SnapStart | Provisioned | TargetTracking | WarmPings
