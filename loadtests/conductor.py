"""One shape over any number of workers: who sends which arrivals, and what becomes of those of a worker that leaves.

The conductor lives in Locust's master, or in the one process there is; a performer in each worker, or in the same
process. They talk in Locust's messages, which a single process delivers to itself, so there is one path.

Arrival n of a stage belongs to worker n mod k, for the k workers that are there when the stage starts. A worker that
joins later takes part from the next stage on. The share of a worker that leaves goes to another one from then on;
what it left without a record is counted, and said.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import gevent
import gevent.event
from locust.env import Environment
from locust.runners import STATE_MISSING, STATE_RUNNING, MasterRunner

from core.aws.cloud import Deployment
from core.configuration import Configuration
from core.errors import CloudError, UserError
from core.run.records import ClientRecord, EndpointFacts
from core.run.run_directory import RecordWriter, RunDirectory
from core.run.stages import INTERRUPTED, SEARCH, LoadStage, append_stage, search_step, search_steps
from core.statistics.rate_search import look, rate_text
from core.variants import Variant
from loadtests.account import merge_rows
from loadtests.arrivals import Segment, Shape
from loadtests.connections import ConnectionPool
from loadtests.messages import DONE, HALT, READY, RECORDS, REPORT_KEY, SHARE, Done, Share
from loadtests.performer import Performer, fsync_off_the_loop
from loadtests.plan import LoadPlan
from loadtests.sender import Sender, Stage

logger = logging.getLogger("loadtests")

WARMUPS: Final = "warmups"  # in place of a worker
LOCAL: Final = "local"  # the only worker of a single process
# Time for a message to reach every worker, and for each to open its spare connections; the second for one process.
LEAD_S: Final = 1.0
LOCAL_LEAD_S: Final = 0.5
# A share that is taken over starts this long after the loss is noticed.
TAKE_OVER_S: Final = 0.5
WATCH_EVERY_S: Final = 0.5
# A worker that has connected listens to us a moment later; one of another program never does.
READY_WITHIN_S: Final = 10.0
# After its last arrival and the longest wait for an answer, a share that is not done will never be.
OVERDUE_S: Final = 30.0
# Before the first rate of a search: new environments start within it, as Lambda stops an init after 10 s.
FIRST_LEAD_IN_S: Final = 10.0
# Before each later rate, which finds environments: what waits for an answer settles in so many times the limit.
LEAD_IN_LIMITS: Final = 2.0


@dataclass(frozen=True)
class Target:
    """What to load, and where it is."""

    configuration: Configuration
    plan: LoadPlan
    deployment: Deployment
    endpoint: EndpointFacts


@dataclass(frozen=True)
class Part:
    """What one stage plays: the whole shape of the plan, or one rate of a search."""

    shape: Shape
    seed: int
    rate_rps: float | None = None
    lead_in_s: float = 0.0


class Conductor:
    """Runs a load plan, stage after stage."""

    def __init__(self, environment: Environment, performer: Performer | None) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._performer = performer  # of this very process, where there are no workers
        self._stage = 0
        self._done: dict[int, dict[int, Done]] = {}
        self._news = gevent.event.Event()
        self._rows: dict[str, dict[int, list[dict[str, Any]]]] = {}
        self._shipped: dict[Path, RecordWriter] = {}
        self._greenlet: gevent.Greenlet | None = None
        self._run: RunDirectory | None = None
        self._shares: dict[int, tuple[str, Share]] = {}  # by index: who sends it
        self._ready: set[str] = set()
        self.reports: list[LoadStage] = []
        self.failure: UserError | None = None
        self.finished = False
        self._runner.register_message(READY, self._on_ready)
        self._runner.register_message(DONE, self._on_done)
        self._runner.register_message(RECORDS, self._on_records)
        environment.events.worker_report.add_listener(self._on_worker_report)
        environment.events.worker_connect.add_listener(self._on_worker_connect)

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self, target: Target, run: RunDirectory) -> None:
        """Begin in the background; `finished` says when it is over, `failure` what went wrong."""
        self.reports, self.failure, self.finished, self._run = [], None, False, run
        self._rows.clear()
        self._greenlet = gevent.spawn(self._conduct, target, run)

    def abandon(self) -> None:
        """Go no further; without effect on a load that came to its end."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        if self.reports and self.reports[-1].finished_at is None:
            self._close(self.reports[-1], INTERRUPTED)

    def close(self) -> None:
        """Bring to disk what workers on other hosts sent."""
        for writer in self._shipped.values():
            writer.close()
        self._shipped.clear()

    def seconds(self, stage: int) -> list[dict[str, Any]]:
        """Second by second over all workers, as last reported."""
        by_worker = {LOCAL: self._performer.rows()} if self._performer else self._rows
        return merge_rows(rows[stage] for rows in by_worker.values() if stage in rows)

    # --- messages ----------------------------------------------------------------------------------------------------

    def _on_ready(self, msg: Any, **_: Any) -> None:
        self._ready.add(msg.node_id)

    def _on_done(self, msg: Any, **_: Any) -> None:
        done = Done(**msg.data)
        held = self._shares.get(done.index)
        # A worker that was thought lost may come back with a share that another one has by now.
        if held is not None and (held[1].number, held[1].worker) == (done.stage, done.worker):
            self._done.setdefault(done.stage, {})[done.index] = done
            self._news.set()

    def _on_records(self, msg: Any, **_: Any) -> None:
        if self._run is None or msg.data["run_id"] != self._run.run_id:
            logger.warning("records of run %s came too late and stay on their worker's disk", msg.data["run_id"])
            return
        path = self._run.load_path(msg.data["worker"])
        if path not in self._shipped:
            self._shipped[path] = RecordWriter(path, fsync=fsync_off_the_loop)
        for line in msg.data["lines"]:
            self._shipped[path].append(ClientRecord.model_validate_json(line))

    def _on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if REPORT_KEY in data:
            self._ready.add(client_id)
            self._rows[client_id] = {int(stage): rows for stage, rows in data[REPORT_KEY].items()}

    def _on_worker_connect(self, client_id: str, **_: Any) -> None:
        if self._shares and client_id not in {member for member, _ in self._shares.values()}:
            logger.info("worker %s joined: it stands by and takes part from the next stage on", client_id)

    # --- the work ----------------------------------------------------------------------------------------------------

    def _conduct(self, target: Target, run: RunDirectory) -> None:
        plan = target.plan
        try:
            # Locust clears its statistics when it starts its workers.
            while self._runner.state != STATE_RUNNING:
                gevent.sleep(0.05)
            for variant in plan.variants:
                self._warm_up(target, run, variant)
                if plan.table.shape == SEARCH:
                    self._search(target, run, variant)
                else:
                    self._play(self._open(target, run, variant, Part(plan.shape, plan.seed)))
        except UserError as error:
            self.failure = error
        finally:
            self._shares.clear()
        self.finished = True

    def _search(self, target: Target, run: RunDirectory, variant: Variant) -> None:
        """Offer one rate after another until the highest that keeps the goal is known; go on from the steps on disk."""
        plan = target.plan
        steps = search_steps(run, variant.key, plan.limit_ms)
        lead_in_s = FIRST_LEAD_IN_S
        while True:
            found, offer = look(steps, plan.search)
            logger.info("%s: %s", variant.display_name, rate_text(found))
            if offer is None:
                return
            rate_rps, calls = offer
            shape = Shape(SEARCH, (Segment(rate_rps, rate_rps, lead_in_s + calls / rate_rps),))
            part = Part(shape, plan.seed + len(steps), rate_rps, lead_in_s)
            report = self._open(target, run, variant, part)
            self._play(report)
            steps.append(search_step(run, report, plan.limit_ms))
            lead_in_s = LEAD_IN_LIMITS * plan.limit_ms / 1000

    def _warm_up(self, target: Target, run: RunDirectory, variant: Variant) -> None:
        """Call a variant before its load, one call after another; a failure of these is recorded and ends nothing."""
        plan = target.plan
        if not plan.table.warmups:
            return
        url = target.deployment.url(variant)
        pool = ConnectionPool(url, spare=1, timeout_s=plan.patience_s)
        sender: Sender | None = None
        with RecordWriter(run.load_path(WARMUPS), fsync=fsync_off_the_loop) as writer:
            try:
                for number in range(plan.table.warmups):
                    stage = Stage(
                        run_id=run.run_id,
                        variant=variant,
                        protocol=plan.shape.name,
                        url=url,
                        access=target.deployment.access(variant),
                        started_at=round(time.time(), 3),
                        max_in_flight=1,
                        time_scale=target.endpoint.time_scale,
                        warmup=True,
                    )
                    sender = Sender(stage, pool, lambda record, _: writer.append(record))
                    sender.run([(number, 0.0)])
            finally:
                # Abandoned in the middle of a call, its record is still due.
                if sender is not None:
                    sender.interrupt()
                pool.close()

    def _open(self, target: Target, run: RunDirectory, variant: Variant, played: Part) -> LoadStage:
        """Hand out the shares of a stage, and return its report. Raises CloudError where there is no worker."""
        plan, members = target.plan, self._members()
        if not members:
            raise CloudError("no worker is left", hint="Start workers, or run without --master.")
        self._stage += 1
        shape = played.shape
        # Whole milliseconds: the number is part of the call ids, from which a stage is found again.
        started_at = round(time.time() + (LOCAL_LEAD_S if members == [LOCAL] else LEAD_S), 3)
        report = LoadStage(
            stage=self._stage,
            variant=variant.key,
            name=variant.display_name,
            protocol=shape.name,
            spacing=plan.spacing,
            started_at=started_at,
            duration_s=shape.duration_s,
            offered=shape.number_of_arrivals(spacing=plan.spacing, seed=played.seed),
            workers=len(members),
            late_after_ms=plan.table.late_after_ms,
            rate_rps=played.rate_rps,
            lead_in_s=played.lead_in_s,
        )
        self.reports.append(report)
        logger.info(
            "%s: %d requests in %g s, at most %g requests/s, from %d worker(s)",
            report.name,
            report.offered,
            report.duration_s,
            shape.peak_rps,
            report.workers,
        )
        self._shares.clear()
        for index, member in enumerate(members):
            part = Share(
                number=self._stage,
                run_id=run.run_id,
                worker=self._number(member),
                variant=variant,
                url=target.deployment.url(variant),
                access=target.deployment.access(variant),
                protocol=shape.name,
                segments=tuple((s.start_rps, s.end_rps, s.duration_s) for s in shape.segments),
                spacing=plan.spacing,
                seed=played.seed,
                started_at=started_at,
                index=index,
                count=len(members),
                from_s=0.0,
                max_in_flight=max(1, plan.table.max_in_flight // len(members)),
                patience_s=plan.patience_s,
                late_after_ms=plan.table.late_after_ms,
                time_scale=target.endpoint.time_scale,
            )
            self._shares[index] = (member, part)
            self._runner.send_message(SHARE, asdict(part), member)
        return report

    def _play(self, report: LoadStage) -> None:
        """Wait for the end of a stage; watch for workers that leave and for a reason to end it early."""
        halted = False
        while len(self._done.get(report.stage, {})) < report.workers:
            self._news.wait(WATCH_EVERY_S)
            self._news.clear()
            done = self._done.get(report.stage, {}).values()
            because = next((d.stopped_because for d in done if d.stopped_because), "")
            if because and not halted:
                halted = True
                for member in self._present():
                    self._runner.send_message(HALT, {"stage": report.stage, "because": because}, member)
            self._hand_over_shares_of_the_lost(report, halted=halted)
        done = self._done[report.stage].values()
        because = next((d.stopped_because for d in done if d.stopped_because), "")
        no_connection = any(d.no_connection for d in done)
        self._close(report, INTERRUPTED if no_connection else because)
        if no_connection:
            raise CloudError(
                f"the endpoint does not answer: {because}",
                hint="Is the lab up, or the network? What was measured so far is kept.",
            )

    def _close(self, report: LoadStage, because: str) -> None:
        report.stopped_because = because
        report.finished_at = time.time()
        if because:
            logger.warning("%s ended early: %s", report.name, because)
        if self._run is not None:
            append_stage(self._run, report)

    # --- workers -----------------------------------------------------------------------------------------------------

    def _members(self) -> list[str]:
        """Who takes part in the stage that starts now: all that are connected, once they are ready."""
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and set(self._connected()) - self._ready:
            gevent.sleep(0.05)
        return self._present()

    def _present(self) -> list[str]:
        return sorted(set(self._connected()) & self._ready, key=self._number)

    def _connected(self) -> list[str]:
        if not isinstance(self._runner, MasterRunner):
            self._ready.add(LOCAL)
            return [LOCAL]
        return [client.id for client in self._runner.clients.all if client.state != STATE_MISSING]

    def _number(self, member: str) -> int:
        return self._runner.get_worker_index(member) if isinstance(self._runner, MasterRunner) else 0

    def _hand_over_shares_of_the_lost(self, report: LoadStage, *, halted: bool) -> None:
        present = self._present()
        for index, (member, part) in list(self._shares.items()):
            overdue = time.time() > part.started_at + report.duration_s + part.patience_s + OVERDUE_S
            if index in self._done.get(report.stage, {}) or (member in present and not overdue):
                continue
            if part.worker not in report.lost_workers:
                report.lost_workers.append(part.worker)
            if not present:
                raise CloudError("the last worker left", hint="What was measured so far is kept.")
            # It may only be slow to answer: what it has not sent is another's from now on.
            self._runner.send_message(HALT, {"stage": report.stage, "because": "its share was handed over"}, member)
            if halted or overdue:
                gone = Done(report.stage, part.worker, index, stopped_because="", no_connection=False)
                self._done.setdefault(report.stage, {})[index] = gone
                continue
            busy = [holder for holder, _ in self._shares.values()]
            heir = min(present, key=lambda candidate: (busy.count(candidate), self._number(candidate)))
            from_s = max(part.from_s, time.time() + TAKE_OVER_S - part.started_at)
            logger.warning(
                "worker %d left: worker %d sends its share from second %.1f on; what it left undone has no record",
                part.worker,
                self._number(heir),
                from_s,
            )
            inherited = replace(part, worker=self._number(heir), from_s=from_s)
            self._shares[index] = (heir, inherited)
            self._runner.send_message(SHARE, asdict(inherited), heir)
