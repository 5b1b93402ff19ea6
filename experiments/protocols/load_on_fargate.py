"""Locust's master and workers as Fargate tasks, and their records brought into the run while they work.

A task is known by the run's id alone, so that a resumed run finds, ends, and empties what an interrupted one left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from core.aws.load_tasks import BENCHMARK, MASTER, worker_name
from core.configuration import configuration_path
from core.errors import CloudError
from core.money.charges import load_tasks_usd
from core.program.interruption import undisturbed
from core.run.run_directory import MANIFEST_FILE, RunDirectory
from core.run.stages import read_stages
from core.variants import Variant
from experiments.aws.fetched_parts import put, take_over_stages
from experiments.aws.load_tasks import Fargate, LoadTasks, RunObjects, TaskState
from experiments.session import Session
from loadtests.arrivals import shape_of
from loadtests.plan import gateway_patience_s, selecting_words
from loadtests.results import sum_up
from loadtests.summary_text import summary_text

LOG_FILE: Final = "load.log"
MARKER: Final = "load-on-fargate"  # there while tasks may run, or records be in the bucket
LOOK_EVERY_S: Final = 5.0
# Until a task has its address, its image, and its place: usually within two minutes.
START_WITHIN_S: Final = 600.0
WORKERS_WITHIN_S: Final = 300.0  # from the master's start until all its workers are connected
LAST_RECORDS_WITHIN_S: Final = 150.0  # after StopTask: the tasks' own grace of two minutes, and a look
MARGIN_S: Final = 60.0  # of each variant, for what the plan does not count
FETCHES_AT_ONCE: Final = 16


def recover(session: Session, fargate: Fargate) -> None:
    """End the tasks that an interrupted run left, and fetch what they recorded."""
    run = session.log.run
    tasks, objects = fargate.tasks(run.run_id), fargate.objects(run.run_id)
    if arns := tasks.running():
        session.progress.say(f"stopping {len(arns)} tasks that an interrupted run left")
        tasks.stop(arns, "the run is resumed")
        _await_end(tasks, arns)
    fetch(run, objects)
    take_over_stages(run)
    objects.delete_all()
    (run.root / MARKER).unlink(missing_ok=True)


@contextmanager
def locust_on_fargate(session: Session, fargate: Fargate, variants: Sequence[Variant]) -> Iterator[FargateLoad]:
    """Run Locust on tasks for the time of the block; afterwards none runs, and the run has their records."""
    load = FargateLoad(session, fargate, variants)
    try:
        load.start()
        yield load
    finally:
        load.end()


def fetch(run: RunDirectory, objects: RunObjects) -> None:
    """Put every part there is into its place in the run, then delete it. Raises CloudError."""
    parts = list(objects.parts())
    with ThreadPoolExecutor(max_workers=FETCHES_AT_ONCE) as pool:
        contents = zip(parts, pool.map(objects.read, parts), strict=True)
        objects.delete([part.key for part, content in contents if put(run, part, content)])


class FargateLoad:
    """One master and its workers, from their start to their last record."""

    def __init__(self, session: Session, fargate: Fargate, variants: Sequence[Variant]) -> None:
        self._session = session
        self._fargate = fargate
        self._variants = variants
        self._run = session.log.run
        self._tasks = fargate.tasks(self._run.run_id)
        self._objects = fargate.objects(self._run.run_id)
        self._attempt = f"{time.time() * 1000:.0f}"
        self._names: dict[str, str] = {}  # by ARN; the master first
        self._states: Mapping[str, TaskState] = {}
        self._stages_before = len(read_stages(self._run) or [])
        self._looked_at = time.monotonic()

    def start(self) -> None:
        """Start the master, wait for its address, then start the workers. Raises CloudError."""
        (self._run.root / MARKER).touch()
        self._objects.put(MANIFEST_FILE, self._run.manifest_path.read_bytes())
        self._objects.put(BENCHMARK, configuration_path().read_bytes())
        workers = self._fargate.workers
        self._session.progress.say(f"starting a master and {workers} workers on Fargate")
        self._start([MASTER], [self._master_words()])
        address = self._await_address()
        names = [worker_name(number) for number in range(workers)]
        self._start(names, [["--worker", "--master-host", address]] * workers)

    def poll(self) -> int | None:
        """Return the master's exit code once all tasks have ended and their records are here, or None."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return None
        self._look()
        master = self._states[self._master]
        if not master.ended:
            return None
        self._await_workers()
        self._finish()
        return 1 if master.exit_code is None else master.exit_code

    def failure(self, code: int) -> CloudError:
        """Return the error for a master that ended with this code."""
        reason = self._states[self._master].reason
        return CloudError(
            f"the load test on Fargate ended with exit code {code}: {reason or 'it gave no reason'}",
            hint=f"Log group {self._session.configuration.names.load_log_group} has what the tasks said.",
        )

    def end(self) -> None:
        """Stop what still runs and fetch the last records; without effect after a load that came to its end."""
        arns = [arn for arn in self._names if not self._state(arn).ended]
        if not arns:
            return
        with undisturbed():
            self._tasks.stop(arns, "the experiment ended")
        self._session.progress.say(
            f"waiting for the last records of {len(arns)} tasks; a resumed run fetches them, too"
        )
        _await_end(self._tasks, arns)
        self._finish()

    @property
    def _master(self) -> str:
        return next(iter(self._names))

    def _state(self, arn: str) -> TaskState:
        return self._states.get(arn) or TaskState(ended=False, exit_code=None, address="", reason="")

    def _start(self, names: Sequence[str], words: Sequence[Sequence[str]]) -> None:
        for name, locust in zip(names, words, strict=True):
            with undisturbed():  # a task that nobody knows of would be stopped by nobody
                self._names[self._tasks.start([*self._own_words(name), "--", *locust])] = name

    def _own_words(self, name: str) -> list[str]:
        words = {
            "bucket": self._fargate.stack.bucket,
            "run": self._run.run_id,
            "attempt": self._attempt,
            "name": name,
            "limit-s": f"{self._limit_s:.0f}",
        }
        return [text for key, value in words.items() for text in (f"--{key}", value)]

    @property
    def _limit_s(self) -> float:
        """Return the time after which a task ends by itself, whatever became of everything else."""
        configuration = self._session.configuration
        table, patience_s = configuration.experiments.load, gateway_patience_s(configuration.gateway)
        each_s = shape_of(table).duration_s + (table.warmups + 2) * patience_s + MARGIN_S
        return START_WITHIN_S + WORKERS_WITHIN_S + len(self._variants) * each_s

    def _master_words(self) -> list[str]:
        profile = self._session.configuration.profile
        return [
            "--master",
            *("--expect-workers", str(self._fargate.workers)),
            *("--expect-workers-max-wait", f"{WORKERS_WITHIN_S:.0f}"),
            *("--run", self._run.run_id, "--no-summary"),
            *selecting_words(self._variants),
            *(("--benchmark-profile", profile) if profile else ()),
        ]

    def _await_address(self) -> str:
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            self._look()
            state = self._states[self._master]
            if state.ended:
                raise self.failure(1 if state.exit_code is None else state.exit_code)
            if state.address:
                return state.address
            if time.monotonic() > deadline:
                raise CloudError(f"the master has no address after {START_WITHIN_S:g} s", hint="Resume the run.")
            time.sleep(LOOK_EVERY_S)

    def _await_workers(self) -> None:
        """Wait until the workers, which the master sent away, have shipped their records."""
        arns = [arn for arn in self._names if not self._state(arn).ended]
        if not _ended_within(self._tasks, arns, LAST_RECORDS_WITHIN_S):
            self._tasks.stop(arns, "the master has ended")
            _await_end(self._tasks, arns)

    def _look(self) -> None:
        """Fetch records, see who has ended, count what the tasks cost."""
        fetch(self._run, self._objects)
        before, self._states = self._states, self._tasks.states(list(self._names))
        master_works = not self._states[self._master].ended
        for arn, state in self._states.items():
            was_there = arn in before and not before[arn].ended
            if was_there and state.ended and master_works:
                self._session.progress.say(f"{self._names[arn]} ended early: {state.reason or state.exit_code}")
        now = time.monotonic()
        session = self._session
        session.add_sending_usd(
            load_tasks_usd(
                sum(not state.ended for state in self._states.values()),
                now - self._looked_at,
                session.configuration.matrix.architectures[0],
                session.meter.prices,
            )
        )
        self._looked_at = now

    def _finish(self) -> None:
        """Bring in what is still in the bucket, and write the summary that a single process would have written."""
        self._look()
        take_over_stages(self._run)
        self._objects.delete_all()
        (self._run.root / MARKER).unlink(missing_ok=True)
        stages = (read_stages(self._run) or [])[self._stages_before :]
        summaries = sum_up(self._run, stages)
        with (self._run.root / LOG_FILE).open("a", encoding="utf-8") as log:
            print(summary_text(self._run.run_id, summaries), file=log)
        for stage, summary in summaries:
            if stage.lost_workers:
                lost = ", ".join(map(str, stage.lost_workers))
                missing = summary.offered - summary.recorded
                self._session.progress.say(f"{stage.name}: worker {lost} left, {missing} arrivals have no record")


def _await_end(tasks: LoadTasks, arns: Sequence[str]) -> None:
    """Wait until tasks that were asked to stop have ended. Raises CloudError."""
    if not _ended_within(tasks, arns, LAST_RECORDS_WITHIN_S):
        raise CloudError(
            f"{len(arns)} tasks do not end", hint="They end at their time limit. Resume the run to fetch their records."
        )


def _ended_within(tasks: LoadTasks, arns: Sequence[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while arns and not all(state.ended for state in tasks.states(arns).values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
