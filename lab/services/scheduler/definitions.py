"""A schedule as the runner needs it, its fire times and the event it sends. Pure."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from lab.contracts import ACCOUNT_ID

# What a client calls "now" in a StartDate loses its fraction of a second on the way, and the call takes time: the last
# fire time that is this little before the schedule's change still fires. AWS promises a precision of 60 s.
GRACE_S: Final = 10.0


@dataclass(frozen=True)
class ScheduleDefinition:
    """One schedule. Times are seconds since the epoch; `revision` changes with its content."""

    arn: str
    revision: Hashable
    region: str
    expression: str
    enabled: bool
    modified_s: float
    start_s: float | None
    end_s: float | None
    target_arn: str
    input: str | None
    maximum_retry_attempts: int
    maximum_event_age_s: float


def event_payload(definition: ScheduleDefinition, scheduled_s: float, execution_id: str, attempt: int) -> bytes:
    """The target's Input with its context attributes filled in, or the event that AWS sends without an Input.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
    """
    time_text = iso_time(scheduled_s)
    if definition.input is not None:
        text = definition.input
        for name, value in (
            ("schedule-arn", definition.arn),
            ("scheduled-time", time_text),
            ("execution-id", execution_id),
            ("attempt-number", str(attempt)),
        ):
            text = text.replace(f"<aws.scheduler.{name}>", value)
        return text.encode()
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": ACCOUNT_ID,
        "time": time_text,
        "region": definition.region,
        "resources": [definition.arn],
        "detail": "{}",
    }
    return json.dumps(event, separators=(",", ":")).encode()


def iso_time(epoch_s: float) -> str:
    """`2022-03-22T18:59:43Z`."""
    return dt.datetime.fromtimestamp(int(epoch_s), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
