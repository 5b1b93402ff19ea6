"""The states of an execution environment, the ways from one to another, and why its init can fail."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from core import strict_json
from lab.dataplane.invocation import platform_error_type
from lab.dataplane.platform_log import Status


class State(Enum):
    """Where an environment is in its life."""

    NEW = auto()  # no process yet; the init phase comes with the first invoke
    INITIALIZING = auto()  # a process runs and has not asked for an event yet
    SNAPSHOT = auto()  # initialized ahead of need, and waits to be restored; gets no CPU
    RESTORING = auto()  # has a request, and runs its after-restore hooks
    IDLE = auto()  # the runtime waits for the next event
    FROZEN = auto()  # as IDLE, and gets no CPU
    BUSY = auto()  # the runtime has an event
    SETTLING = auto()  # it has answered and not asked for the next event yet
    RESET = auto()  # no process; the next invoke initializes another one
    ENDED = auto()


MOVES: Final = {
    State.NEW: frozenset({State.INITIALIZING}),
    State.INITIALIZING: frozenset({State.IDLE, State.SNAPSHOT, State.RESET}),
    State.SNAPSHOT: frozenset({State.RESTORING, State.RESET}),
    State.RESTORING: frozenset({State.IDLE, State.RESET}),
    State.IDLE: frozenset({State.BUSY, State.FROZEN, State.RESET}),
    State.FROZEN: frozenset({State.IDLE, State.RESET}),
    State.BUSY: frozenset({State.SETTLING, State.RESET}),
    State.SETTLING: frozenset({State.IDLE, State.RESET}),
    State.RESET: frozenset({State.INITIALIZING}),
    State.ENDED: frozenset(),
}


class ImpossibleMoveError(Exception):
    """An environment was to change between two states that do not follow each other: a fault of the lab's."""


@dataclass(frozen=True)
class InitFailure:
    """Why an init phase did not end in a first `next`."""

    status: Status
    error_type: str | None
    message: str
    payload: bytes | None = None  # what the runtime sent to /init/error

    @property
    def reported_type(self) -> str | None:
        """The error type as the platform reports it."""
        return platform_error_type(self.error_type) if self.error_type else None

    @property
    def reason(self) -> str:
        """The failure in one line, with the runtime's own message where it sent one."""
        message = self.message
        with contextlib.suppress(ValueError):
            sent = strict_json.loads(self.payload or b"null")
            message = str(sent.get("errorMessage") or message) if isinstance(sent, dict) else message
        return ": ".join(part for part in (self.error_type, message) if part)
