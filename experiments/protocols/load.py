"""The load protocol: runs `loadtests/locustfile.py` as a separate program, here or on Fargate, and watches it.

Locust patches Python's sockets and threads when it is imported, so it has its process to itself. A stage, one variant
under the whole shape, is the unit of a resumed run: a rising rate cannot be entered half way. A load that is repeated
visits every variant before it begins again, and each of its stages begins in a new environment: a slow load leaves all
calls of a stage to one environment, which is one observation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.configuration import PATH_VARIABLE, PROFILE_VARIABLE, Configuration, configuration_path
from core.errors import CloudError, ConfigurationError
from core.money.charges import network_traffic_usd
from core.paths import LOCUSTFILE, REPOSITORY
from core.program.processes import end_child, start_child
from core.run.records import ClientRecord
from core.run.run_directory import RunDirectory, read_client_records
from core.run.stages import SEARCH, complete_stages, read_stages, search_of, search_steps, stage_of
from core.run.stops import Stop, read_stops
from core.statistics.rate_search import look
from core.variants import Variant
from experiments.protocols.load_on_fargate import LOG_FILE, MARKER, locust_on_fargate, recover
from experiments.session import Session
from loadtests.arrivals import shape_of
from loadtests.plan import planned_duration_s, selecting_words

OVERHEAD_S: Final = 3.0  # of a stage: a new environment, spare connections, last answers
UPDATES_AT_ONCE: Final = 4  # Lambda takes 15 requests a second that change functions, and each asks for more to wait
WATCH_EVERY_S: Final = 1.0
STOP_PATIENCE_S: Final = 30.0
LOG_LINES_SHOWN: Final = 8


def run_load(session: Session) -> None:
    """Load every variant that was not loaded yet and that can run."""
    configuration = session.configuration
    shape = shape_of(configuration.experiments.load)
    fargate = session.services.fargate
    if fargate is not None:
        recovered = RecordWatch(session.log.run)
        recovered.skip_what_is_there()
        recover(session, fargate)
        _count(session, recovered)
    elif (session.log.run.root / MARKER).exists():
        raise ConfigurationError(
            f"run {session.run_id} has a load on Fargate that was interrupted, and its tasks may still send",
            hint="Resume it with --on fargate, which stops them and fetches their records.",
        )
    left = _stages_left(session)
    _report_interrupted_stages(session, shape.name)
    failing = {
        stop.variant: stop.detail
        for stop in read_stops(session.log.run)
        if stop.experiment == "warm" and stop.reason == "fails"
    }
    todo = []
    for variant in configuration.variants:
        if not left[variant.key]:
            continue
        if session.log.cannot_run("warm", variant):
            detail = f"the warm calls ended in {session.log.latest_outcome('warm', variant)}: not loaded"
            session.stop(Stop("load", shape.name, variant.key, "none", "cannot_run", detail, 0))
        elif variant.key in failing:
            detail = f"fails the goal, so it is not loaded: {failing[variant.key]}"
            session.stop(Stop("load", shape.name, variant.key, "none", "fails", detail, 0))
        else:
            todo.append(variant)
    counts = [left[variant.key] for variant in todo]
    expected_s = sum(counts) * (planned_duration_s(configuration) + OVERHEAD_S)
    session.progress.phase(f"load, {shape.name}", max(1.0, expected_s), then_s=session.then_s)
    if todo:
        _load_in_rounds(session, todo, max(counts))
    for variant in todo:
        session.services.first_calls.called(variant)
    session.progress.end_phase()


def _stages_left(session: Session) -> dict[str, int]:
    """How many times each variant is still to be loaded; not again after a load that ended early, as many calls failed.

    A search ends where it offers no further rate.
    """
    table, goal = session.configuration.experiments.load, session.configuration.goal
    stages = [stage for stage in read_stages(session.log.run) or [] if not stage.interrupted]
    whole = Counter(stage.variant for stage in stages)
    failed = {stage.variant for stage in stages if stage.stopped_because}
    keys = [variant.key for variant in session.configuration.variants]
    if table.shape != SEARCH:
        return {key: 0 if key in failed else max(0, table.times - whole[key]) for key in keys}
    search = search_of(table, goal)
    return {
        key: int(not whole[key] or look(search_steps(session.log.run, key, goal.limit_ms), search)[1] is not None)
        for key in keys
    }


def _load_in_rounds(session: Session, variants: Sequence[Variant], most_left: int) -> None:
    """Send the loads that are left, in rounds over the variants; of repeated loads, each in a new environment."""
    began, watched = time.monotonic(), RecordWatch(session.log.run)
    with session.nonces() as nonces, ThreadPoolExecutor(max_workers=UPDATES_AT_ONCE) as pool:
        for to_come in range(most_left, 0, -1):
            left = _stages_left(session)
            due = [variant for variant in variants if left[variant.key] >= to_come]
            if session.configuration.experiments.load.times > 1:
                for _ in pool.map(nonces.force, due, [f"load/{to_come}"] * len(due)):
                    session.check_spend()
            if due:
                _run_locust(session, due, began, watched)


def _run_locust(session: Session, variants: Sequence[Variant], began: float, watched: RecordWatch) -> None:
    """Load these variants, here or on Fargate, and count each call as its record comes in."""
    watched.skip_what_is_there()
    fargate = session.services.fargate
    where = locust_here(session, variants) if fargate is None else locust_on_fargate(session, fargate, variants)
    try:
        with where as locust:
            while (code := locust.poll()) is None:
                time.sleep(WATCH_EVERY_S)
                _count(session, watched)
                session.check_spend()
                session.progress.at(time.monotonic() - began, f"{watched.seen} calls")
    finally:
        _count(session, watched)
    if code != 0:
        raise locust.failure(code)


def _count(session: Session, watched: RecordWatch) -> None:
    """Count what the calls have cost that were recorded since the last look."""
    before = watched.seen
    for record in watched.new_records():
        session.meter.add(record)
    if session.services.fargate is not None and watched.seen > before:
        session.add_sending_usd(network_traffic_usd(watched.seen - before, session.meter.prices))


@contextmanager
def locust_here(session: Session, variants: Sequence[Variant]) -> Iterator[LocustHere]:
    """Run Locust on this machine for the time of the block."""
    log_path = session.log.run.root / LOG_FILE
    with log_path.open("ab") as log:
        process = start_child(
            locust_command(session.log.run, variants, session.configuration),
            cwd=REPOSITORY,
            # An empty profile means none, whatever the variable says here; the child works in another folder.
            env={
                **os.environ,
                PROFILE_VARIABLE: session.configuration.profile,
                PATH_VARIABLE: str(configuration_path().resolve()),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C comes to us alone, and we end it in order; it keeps the run's lock as long as it lives.
            start_new_session=True,
            pass_fds=(session.lock,),
        )
    try:
        yield LocustHere(process, log_path)
    finally:
        end_child(process, within_s=STOP_PATIENCE_S)


@dataclass(frozen=True)
class LocustHere:
    """Locust as a process of this machine."""

    process: subprocess.Popen[bytes]
    log_path: Path

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self.process.poll()

    def failure(self, code: int) -> CloudError:
        """Return the error for a Locust that ended with this code."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return CloudError(
            "the load test ended with exit code {}:\n    {}".format(code, "\n    ".join(lines)),
            hint=f"The full log is {self.log_path}.",
        )


def locust_command(run: RunDirectory, variants: Sequence[Variant], configuration: Configuration) -> list[str]:
    """Return the command that loads these variants in this run."""
    return [
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"),
        *("--run", run.run_id, "--results", str(run.root.parent.resolve())),
        *selecting_words(variants),
        *("--shape", configuration.experiments.load.shape),
        *(("--benchmark-profile", configuration.profile) if configuration.profile else ()),
    ]


class RecordWatch:
    """Reads load records as they are appended."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._offsets: dict[Path, int] = {}
        self.seen = 0

    def skip_what_is_there(self) -> None:
        """Pass over the whole lines there are; half a line that a kill left is cut by who writes on."""
        self._offsets = {path: path.read_bytes().rfind(b"\n") + 1 for path in self._run.load_paths()}

    def new_records(self) -> Iterable[ClientRecord]:
        """Whole lines since the last look."""
        for path in self._run.load_paths():
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offsets[path] = self._offsets.get(path, 0) + len(line)
                    self.seen += 1
                    yield ClientRecord.model_validate_json(line)


def _report_interrupted_stages(session: Session, protocol: str) -> None:
    """Name the stages that an earlier attempt did not finish; their calls are kept and reported separately."""
    whole = complete_stages(session.log.run) or frozenset()
    begun: dict[str, tuple[str, int]] = {}
    for path in session.log.run.load_paths():
        for record in read_client_records(path):
            if record.warmup:
                continue  # no part of a stage
            name = stage_of(record.call_id)
            begun[name] = (record.variant, begun.get(name, ("", 0))[1] + 1)
    for name, (variant, calls) in begun.items():
        if name not in whole:
            detail = f"stage {name} was interrupted after {calls} calls and is started again"
            session.stop(Stop("load", protocol, variant, name, "broken_off", detail, calls))
