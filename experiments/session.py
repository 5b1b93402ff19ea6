"""One run while it is being measured: where records go, what was done before, what it has cost, when it has to stop."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from core.aws.cloud import LAB_HINT
from core.configuration import Configuration
from core.errors import CloudError, UserError
from core.program.progress import Progress
from core.run.records import ClientRecord, EndpointFacts
from core.run.run_directory import RunDirectory
from core.run.stops import AS_PLANNED, Stop, append_stop
from core.variants import Variant
from experiments.aws.lambda_control import Nonces
from experiments.checks.spend import SpendMeter, usd
from experiments.run_log import RunLog
from experiments.services import Services

LOCK_FILE: Final = ".lock"
UNREACHABLE_AFTER: Final = 3


class SpendLimitError(UserError):
    """The run has cost what it may cost."""


@contextmanager
def locked(run: RunDirectory) -> Iterator[int]:
    """Keep a second process out of a run's directory; the kernel lets go of it when this process ends.

    Yield the lock's descriptor, for a child that writes to the run too: it holds until the last of us has ended.
    """
    with (run.root / LOCK_FILE).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"run {run.run_id} is being measured by another process",
                hint="Wait for it, or end it; what it measured is kept.",
            ) from None
        yield file.fileno()


@dataclass(kw_only=True)
class Session:
    """What every protocol needs: the services it calls, the log it writes to, the spending it has to stay within."""

    configuration: Configuration
    endpoint: EndpointFacts
    services: Services
    log: RunLog
    lock: int  # descriptor of the lock on the run
    meter: SpendMeter
    progress: Progress
    then_s: float = 0.0  # what the phases after the present one are expected to take
    _unreachable: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        for record in self.log.run.client_records():
            self.log.remember(record)
            self.meter.add(record)
        for variant in self.log.forced_updates(self.configuration):
            self.meter.add_forced_update(variant)
        self.meter.spent_usd += self.log.sending_usd()

    @property
    def run_id(self) -> str:
        return self.log.run.run_id

    @property
    def time_scale(self) -> float:
        return self.endpoint.time_scale

    def nonces(self) -> Nonces:
        """Forced updates of this run, each of which counts towards its spending."""
        return Nonces(self.services.control, self.run_id, self._forced)

    def _forced(self, variant: Variant) -> None:
        if variant.start == "on_demand":
            return  # it has no price
        with self._lock:
            self.log.append_forced_update(variant)
            self.meter.add_forced_update(variant)

    def add(self, record: ClientRecord, *, billed_ms: float | None = None) -> None:
        """Keep one record. Safe to call from several threads.

        Raises SpendLimitError when the run has cost what it may, CloudError when nothing answers any more; the record
        is kept before either.
        """
        with self._lock:
            self.log.append(record)
            self.meter.add(record, billed_ms=billed_ms)
            self._unreachable = self._unreachable + 1 if record.outcome == "connection" else 0
            if self._unreachable >= UNREACHABLE_AFTER:
                raise CloudError(
                    f"{self._unreachable} calls in a row found no connection, the last one: {record.error}",
                    hint=LAB_HINT if self.endpoint.source == "lab" else "Check the network.",
                )
            self.check_spend()

    def add_sending_usd(self, amount_usd: float) -> None:
        """Count what the load's own machines or their traffic cost."""
        self.log.append_sending_usd(amount_usd)
        self.meter.spent_usd += amount_usd

    def check_spend(self) -> None:
        """Raise SpendLimitError when the run has cost what it may."""
        if self.meter.reached:
            raise SpendLimitError(
                f"the run has cost about {usd(self.meter.spent_usd)}, its limit is {usd(self.meter.limit_usd)}",
                hint="Resume it with a higher --max-usd.",
            )

    def stop(self, stop: Stop) -> None:
        """Keep the reason why a part of the plan ended, and say it unless it ended as planned."""
        append_stop(self.log.run, stop)
        if stop.reason not in AS_PLANNED:
            self.progress.say(f"{stop.variant} {stop.protocol}: {stop.detail}")
