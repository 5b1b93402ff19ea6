"""What conductor and performers say to each other, as Locust's own messages carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.aws.endpoint_access import Access
from core.variants import Variant
from loadtests.arrivals import Segment, Shape, Spacing
from loadtests.sender import Stage

READY: Final = "load_ready"  # performer to conductor: it can be given shares
SHARE: Final = "load_share"  # conductor to performer: Share
HALT: Final = "load_halt"  # conductor to performer: stage, because
DONE: Final = "load_done"  # performer to conductor: Done
RECORDS: Final = "load_records"  # performer to conductor: worker, lines of its record file
REPORT_KEY: Final = "load_seconds"  # in a worker's report to the master: seconds by stage


@dataclass(frozen=True, kw_only=True)
class Share(Stage):
    """One worker's part of a stage: arrivals n with n mod count == index, from `from_s` on.

    A worker needs nothing else: no `benchmark.toml`, and AWS credentials only where requests are signed. Workers on
    several hosts need clocks in step.
    """

    number: int  # of the stage; counts from the start of the conductor's process
    worker: int  # names the record file
    segments: tuple[tuple[float, float, float], ...]
    spacing: Spacing
    seed: int
    index: int
    count: int
    from_s: float
    patience_s: float  # how long a call waits for its answer
    late_after_ms: float

    @property
    def shape(self) -> Shape:
        return Shape(self.protocol, tuple(Segment(*segment) for segment in self.segments))

    @classmethod
    def from_message(cls, data: Mapping[str, Any]) -> Share:
        """Return the share that was sent as a dictionary of its fields."""
        segments = tuple(tuple(segment) for segment in data["segments"])
        access, variant = Access(**data["access"]), Variant(**data["variant"])
        return cls(**{**data, "access": access, "variant": variant, "segments": segments})


@dataclass(frozen=True)
class Done:
    """A worker's share is sent and answered."""

    stage: int
    worker: int
    index: int
    stopped_because: str  # "" where it came to its end
    no_connection: bool  # it stopped because nothing answers at the address
