"""Lambda's rules as figures: CPU share, limits, billing, scaling. No I/O.

Pages are those of the AWS Lambda developer guide unless the rule names another source.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from core.aws.endpoint import VCPU_VARIABLE
from lab.contracts import LATEST

MB_PER_VCPU: Final = 1769  # "configuration-memory": one vCPU at 1,769 MB, in proportion to memory
CFS_PERIOD_US: Final = 20_000  # measured on Lambda by third parties; AWS does not document it
# vCPUs that the guest shows by memory size; 2 and 6 are AWS's own, the steps between were measured by third parties.
_VISIBLE_CPUS_UP_TO_MB: Final = ((3008, 2), (5307, 3), (7076, 4), (8845, 5))
_VISIBLE_CPUS_AT_MOST: Final = 6

MAX_SYNCHRONOUS_PAYLOAD_BYTES: Final = 6 * 1024 * 1024  # "gettingstarted-limits": 6 MB each for request and response
MAX_RESPONSE_BYTES: Final = MAX_SYNCHRONOUS_PAYLOAD_BYTES + 100  # AWS's error message names 6291556 bytes
MAX_ASYNCHRONOUS_PAYLOAD_BYTES: Final = 1024 * 1024  # "API_Invoke": 1 MB
MAX_CLIENT_CONTEXT_BYTES: Final = 3583  # "API_Invoke": ClientContext, base64
LOG_TAIL_BYTES: Final = 4096  # "API_Invoke": the last 4 KB of the log
MAX_LOG_EVENT_BYTES: Final = 262_118  # a CloudWatch event of 256 KB less its 26 bytes of overhead

# "lambda-runtime-environment": for SnapStart, before-snapshot hooks included, and provisioned concurrency.
LEAST_INIT_AHEAD_S: Final = 130.0  # or the function's timeout where that is longer
RESTORE_TIMEOUT_S: Final = 10.0  # "snapstart-runtime-hooks": the restore with its after-restore hooks
SNAPSTART_LABEL: Final = "com.amazonaws.lambda.feature.snapstart"  # "snapstart-runtime-hooks-custom"

RETRY_DELAYS_S: Final = (60.0, 120.0)  # "invocation-async-error-handling": a minute, then two
THROTTLE_BACKOFF_S: Final = (1.0, 300.0)  # same page: from 1 second, doubling, to 5 minutes


# "API_Invoke": FunctionName, at most 256 characters
FUNCTION_NAME_PATTERN: Final = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-[a-z]+)+-\d:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
)
_FUNCTION_NAME: Final = re.compile(FUNCTION_NAME_PATTERN)


def split_qualifier(name_or_arn: str) -> tuple[str, str | None]:
    """Return a function's name or full ARN, and the version or alias that follows it, if any.

    Forms: NAME, ACCOUNT:function:NAME, function:NAME and arn:aws:lambda:REGION:ACCOUNT:function:NAME, each with or
    without `:QUALIFIER`. A partial ARN comes back as the name alone.
    https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
    """
    parts = name_or_arn.split(":")
    if name_or_arn.startswith("arn:"):
        return (":".join(parts[:7]), parts[7]) if len(parts) == 8 else (name_or_arn, None)
    for place in (0, 1):  # of the word in a partial ARN
        if parts[place : place + 1] == ["function"] and len(parts) > place + 1 and parts[place + 1] != "$LATEST":
            return parts[place + 1], parts[place + 2] if len(parts) > place + 2 else None
    return (parts[0], parts[1]) if len(parts) == 2 else (name_or_arn, None)


def init_vcpu(share_vcpu: float, burst_vcpu: float) -> float:
    """CPU of the init phase in vCPUs: a burst for small sizes, and never less than the invoke phase has.

    A measurement over memory sizes finds init code faster than handler code up to 3 GB, where both have two vCPUs:
    https://bitesizedserverless.com/bite/lambda-cold-start-bootstrap/. No source shows an init that is slower.
    """
    return max(share_vcpu, burst_vcpu)


def visible_cpus(memory_mb: int) -> int:
    """How many CPUs the guest shows at a memory size."""
    for up_to_mb, cpus in _VISIBLE_CPUS_UP_TO_MB:
        if memory_mb <= up_to_mb:
            return cpus
    return _VISIBLE_CPUS_AT_MOST


def vcpu_share(memory_mb: int) -> float:
    """CPU share of an environment while it serves a request, in vCPU."""
    return min(memory_mb / MB_PER_VCPU, float(visible_cpus(memory_mb)))


def owed_vcpu(memory_mb: int, environment: Mapping[str, str]) -> float:
    """CPU share of an environment, or what its variable LAB_VCPU asks for, at most the CPUs that the guest shows.

    The lab can hold memory and vary the share, or hold the share and vary memory; AWS ignores the variable.
    """
    try:
        asked = float(environment.get(VCPU_VARIABLE, ""))
    except ValueError:
        return vcpu_share(memory_mb)
    return min(asked, float(visible_cpus(memory_mb))) if asked > 0 else vcpu_share(memory_mb)


def cfs_quota_us(vcpu: float) -> int:
    """CFS quota per period for a share; never below the kernel's least of 1 ms."""
    return max(1000, round(vcpu * CFS_PERIOD_US))


def billed_duration_ms(duration_ms: float, init_ms: float | None) -> int:
    """Init and invoke together, rounded up to the millisecond: for images always ("lambda-runtime-environment")."""
    return max(1, math.ceil(round(duration_ms + (init_ms or 0.0), 6)))


class _RandomDigits:
    """Random hexadecimal digits, asked of the kernel for many invocations at once; for one thread."""

    def __init__(self) -> None:
        self._digits = ""
        self._used = 0

    def hex_digits(self, count: int) -> str:
        start = self._used
        if start + count > len(self._digits):
            self._digits = os.urandom(4096).hex()
            start = 0
        self._used = start + count
        return self._digits[start : start + count]


_RANDOM: Final = _RandomDigits()


def new_request_id() -> str:
    """A random UUID (version 4), without the cost of `uuid.UUID`."""
    digits = _RANDOM.hex_digits(32)
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def new_trace_id(now_s: float) -> str:
    """A trace header as Lambda makes one where the caller sent none; not sampled."""
    digits = _RANDOM.hex_digits(40)
    return f"Root=1-{int(now_s):08x}-{digits[:24]};Parent={digits[24:]};Sampled=0"


def log_stream_name(environment_id: str, now_s: float, version: str = LATEST) -> str:
    """Log stream of an environment: date of its start (UTC), version, its id."""
    return time.strftime(f"%Y/%m/%d/[{version}]{environment_id}", time.gmtime(now_s))


def function_name_problem(text: str) -> str:
    """Why this can be neither a function's name nor its ARN, whole or in part, in Lambda's words; "" if it can."""
    if _FUNCTION_NAME.fullmatch(text) and len(text) <= 256:
        return ""
    if not text.strip():
        constraint = "have length greater than or equal to 1"
    elif len(text) > 256:
        constraint = "have length less than or equal to 256"
    else:
        constraint = f"satisfy regular expression pattern: {FUNCTION_NAME_PATTERN}"
    value = text.strip()[:300]
    return (
        f"1 validation error detected: Value '{value}' at 'functionName' failed to satisfy constraint: "
        f"Member must {constraint}"
    )


def retry_delay_s(attempt: int) -> float:
    """Wait before attempt number `attempt` (2, 3) of an asynchronous invoke whose function failed."""
    return RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S) + 1) - 2]


def throttle_delay_s(throttles: int) -> float:
    """Wait after the `throttles`-th throttle of an asynchronous event."""
    first, longest = THROTTLE_BACKOFF_S
    return min(first * 2.0 ** min(throttles - 1, 20), longest)


class StartRate:
    """The scaling rate of one function: so many new environments in a sliding window ("lambda-concurrency")."""

    def __init__(self, burst: int, window_s: float) -> None:
        self._burst = burst
        self._window_s = window_s
        self._starts: deque[float] = deque()

    def take(self, now_s: float) -> bool:
        """Count one new environment if the rate allows it."""
        starts = self._starts
        while starts and starts[0] <= now_s - self._window_s:
            starts.popleft()
        if len(starts) >= self._burst:
            return False
        starts.append(now_s)
        return True


class CpuLedger:
    """Who is owed which CPU: tells when busy environments together are owed more than the host has.

    Each busy environment is owed its share, spread evenly over the CPUs it may run on. A CPU that owes more than all
    of its time is contended, and so is every environment that was busy on it then.
    """

    def __init__(self, cpus: tuple[int, ...]) -> None:
        self.cpus = cpus
        self._owed = dict.fromkeys(cpus, 0.0)
        self._placed = dict.fromkeys(cpus, 0)
        self._contentions = dict.fromkeys(cpus, 0)  # how often a CPU has become contended

    def place(self, count: int) -> tuple[int, ...]:
        """CPUs for a new environment: those with the fewest environments, all of them if the host has no more."""
        chosen = tuple(sorted(self.cpus, key=lambda cpu: (self._placed[cpu], cpu))[:count])
        for cpu in chosen:
            self._placed[cpu] += 1
        return chosen

    def remove(self, cpus: tuple[int, ...]) -> None:
        for cpu in cpus:
            self._placed[cpu] -= 1

    def begin(self, cpus: tuple[int, ...], vcpu: float) -> int:
        """An environment becomes busy; returns a mark for `was_contended`."""
        share = min(vcpu, len(cpus)) / len(cpus)
        mark = 0
        for cpu in cpus:
            before = self._owed[cpu]
            self._owed[cpu] = before + share
            if before + share > 1.0 + 1e-9:
                if before <= 1.0 + 1e-9:
                    self._contentions[cpu] += 1
                mark -= 1
            mark += self._contentions[cpu]
        return mark

    def was_contended(self, cpus: tuple[int, ...], mark: int) -> bool:
        """Whether any of these CPUs has been contended since `mark` was taken."""
        return sum(self._contentions[cpu] for cpu in cpus) > mark

    def end(self, cpus: tuple[int, ...], vcpu: float) -> None:
        share = min(vcpu, len(cpus)) / len(cpus)
        for cpu in cpus:
            self._owed[cpu] = max(0.0, self._owed[cpu] - share)
