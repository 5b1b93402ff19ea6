"""What conductor and performers say to each other, as Locust's own messages carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from core.variants import Start, Variant
from loadtests.arrivals import Segment, Shape, Spacing

READY: Final = "load_ready"  # performer to conductor: it can be given shares
SHARE: Final = "load_share"  # conductor to performer: Share
HALT: Final = "load_halt"  # conductor to performer: stage, because
DONE: Final = "load_done"  # performer to conductor: Done
RECORDS: Final = "load_records"  # performer to conductor: worker, lines of its record file
REPORT_KEY: Final = "load_seconds"  # in a worker's report to the master: seconds by stage


@dataclass(frozen=True)
class Share:
    """One worker's part of a stage: arrivals n with n mod count == index, from `from_s` on.

    A worker needs nothing else: neither `benchmark.toml` nor AWS.
    """

    stage: int  # counts from the start of the conductor's process
    run_id: str
    worker: int  # names the record file
    model: str
    engine: str
    architecture: str
    memory_mb: int
    start: Start
    url: str  # of the variant's endpoint
    headers: Mapping[str, str] = field(repr=False, hash=False)  # the API key is among them: kept in memory alone
    protocol: str
    segments: tuple[tuple[float, float, float], ...]
    spacing: Spacing
    seed: int
    started_at: float  # seconds since the epoch; workers on several hosts need clocks in step
    index: int
    count: int
    from_s: float
    max_in_flight: int
    patience_s: float  # how long a call waits for its answer
    late_after_ms: float
    time_scale: float

    @property
    def variant(self) -> Variant:
        return Variant(self.model, self.engine, self.architecture, self.memory_mb, self.start)

    @property
    def shape(self) -> Shape:
        return Shape(self.protocol, tuple(Segment(*segment) for segment in self.segments))

    def message(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_message(cls, data: Mapping[str, Any]) -> Share:
        return cls(**{**data, "segments": tuple(tuple(segment) for segment in data["segments"])})


@dataclass(frozen=True)
class Done:
    """A worker's share is sent and answered."""

    stage: int
    worker: int
    index: int
    stopped_because: str  # "" where it came to its end
    no_connection: bool  # it stopped because nothing answers at the address

    def message(self) -> dict[str, Any]:
        return asdict(self)
