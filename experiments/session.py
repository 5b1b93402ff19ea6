"""One run while it is being measured: where records go, what was done before, what it has cost, when it has to stop."""

from __future__ import annotations

import fcntl
import threading
import time
from collections import defaultdict
from types import TracebackType
from typing import IO, Final, Self

from core.cloud import LAB_HINT, Cloud, Deployment
from core.configuration import Configuration
from core.errors import CloudError, UserError
from core.records import ClientRecord, EndpointFacts, Experiment
from core.run_directory import RecordWriter, RunDirectory
from core.stops import AS_PLANNED, Stop, append_stop
from core.variants import Variant
from experiments.aws.function_logs import FunctionLogs
from experiments.aws.lambda_control import LambdaControl
from experiments.aws.scheduler import Scheduler
from experiments.checks.first_calls import FirstCalls
from experiments.checks.spend import SpendMeter, usd
from experiments.plan import gave_up
from experiments.progress import Progress

LOCK_FILE: Final = ".lock"
UNREACHABLE_AFTER: Final = 3


class SpendLimitError(UserError):
    """The run has cost what it may cost."""


class RunLock:
    """Keeps a second process out of a run's directory; the kernel lets go of it when this process ends."""

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.root / LOCK_FILE
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(
                f"run {self._path.parent.name} is being measured by another process",
                hint="Wait for it, or end it; what it measured is kept.",
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """For a child that writes to the run too: the lock holds until the last of us has ended."""
        return (self._file.fileno(),) if self._file else ()


class Session:
    """What every protocol needs: the parts of the deployment it talks to, and the run it writes to."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        cloud: Cloud,
        deployment: Deployment,
        endpoint: EndpointFacts,
        run: RunDirectory,
        lock: RunLock,
        control: LambdaControl,
        scheduler: Scheduler,
        logs: FunctionLogs,
        first_calls: FirstCalls,
        meter: SpendMeter,
        progress: Progress,
    ) -> None:
        self.configuration = configuration
        self.cloud = cloud
        self.deployment = deployment
        self.endpoint = endpoint
        self.run = run
        self.lock_descriptors = lock.descriptors
        self.control = control
        self.scheduler = scheduler
        self.logs = logs
        self.first_calls = first_calls
        self.meter = meter
        self.progress = progress
        self._writers: dict[str, RecordWriter] = {}
        self._outcomes: dict[tuple[Experiment, str], list[str]] = defaultdict(list)
        self._unreachable = 0
        self._lock = threading.Lock()
        self.then_s = 0.0  # what the phases after the present one are expected to take
        self.records: dict[str, ClientRecord] = {}
        for record in run.client_records():
            self._remember(record)
            meter.add(record)

    # --- records -----------------------------------------------------------------------------------------------------

    def is_done(self, call_id: str) -> bool:
        return call_id in self.records

    def add(self, record: ClientRecord, *, billed_ms: float | None = None) -> None:
        """Keep one record. Safe to call from several threads.

        Raises SpendLimitError when the run has cost what it may, CloudError when nothing answers any more; the record
        is kept before either.
        """
        with self._lock:
            self._add(record, billed_ms)

    def _add(self, record: ClientRecord, billed_ms: float | None) -> None:
        writer = self._writers.get(record.experiment)
        if writer is None:
            path = self.run.client_directory / f"{record.experiment}.jsonl"
            writer = self._writers[record.experiment] = RecordWriter(path)
        writer.append(record)
        self._remember(record)
        self.meter.add(record, billed_ms=billed_ms)
        self._unreachable = self._unreachable + 1 if record.outcome == "connection" else 0
        if self._unreachable >= UNREACHABLE_AFTER:
            raise CloudError(
                f"{self._unreachable} calls in a row found no connection, the last one: {record.error}",
                hint=LAB_HINT if self.endpoint.source == "lab" else "Check the network.",
            )
        self.check_spend()

    def check_spend(self) -> None:
        if self.meter.reached:
            raise SpendLimitError(
                f"the run has cost about {usd(self.meter.spent_usd)}, its limit is {usd(self.meter.limit_usd)}",
                hint="Resume it with a higher --max-usd.",
            )

    def _remember(self, record: ClientRecord) -> None:
        if record.experiment != "load":  # as many as they come, and nothing here asks for them
            self.records[record.call_id] = record
        self._outcomes[record.experiment, record.variant].append(record.outcome)
        del self._outcomes[record.experiment, record.variant][:-10]

    # --- what became of a variant ------------------------------------------------------------------------------------

    def cannot_run(self, experiment: Experiment, variant: Variant) -> bool:
        """Whether this experiment's latest calls show that the variant cannot run here."""
        return gave_up(experiment, self._outcomes[experiment, variant.key])

    def recorded(self, protocol: str, variant: Variant) -> int:
        """Calls of a protocol that have a record."""
        return sum(one.protocol == protocol and one.variant == variant.key for one in self.records.values())

    def latest_outcome(self, experiment: Experiment, variant: Variant) -> str:
        outcomes = self._outcomes[experiment, variant.key]
        return outcomes[-1] if outcomes else ""

    def stop(self, stop: Stop) -> None:
        """Keep the reason why a part of the plan ended."""
        append_stop(self.run, stop)
        if stop.reason not in AS_PLANNED:
            self.progress.say(f"{stop.variant} {stop.protocol}: {stop.detail}")

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def time_scale(self) -> float:
        return self.endpoint.time_scale

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
