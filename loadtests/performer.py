"""A worker's side of the load: send the shares of arrivals that the conductor hands out, and record every call."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import gevent
import gevent.pool
from locust.env import Environment
from locust.runners import WorkerRunner

from core.run.records import ClientRecord
from core.run.run_directory import RecordWriter, RunDirectory
from core.variants import Variant
from loadtests.account import Account
from loadtests.connections import ConnectionPool
from loadtests.messages import DONE, HALT, READY, RECORDS, REPORT_KEY, SHARE, Done, Share
from loadtests.sender import Sender

logger = logging.getLogger("loadtests")

# Spare connections cover the arrivals of this long, about a slow TLS handshake.
SPARE_S: Final = 0.25
MIN_SPARE: Final = 4
SHIP_EVERY_S: Final = 0.5
SHIP_AT_MOST: Final = 500


class NotOkError(Exception):
    """What Locust counts as a failure: an answer that is not ok, or an arrival that was dropped."""


class Performer:
    """Plays one worker's part of every stage."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._senders: dict[Share, Sender] = {}
        self._players = gevent.pool.Group()
        self._accounts: dict[int, Account] = {}
        self._files: dict[Path, RecordFile] = {}
        self._pools: dict[str, ConnectionPool] = {}
        environment.runner.register_message(SHARE, self._on_share)
        environment.runner.register_message(HALT, self._on_halt)
        environment.events.report_to_master.add_listener(self._on_report)
        # Locust connects a worker before it lets us listen: a share sent in between would be lost. If nobody hears
        # this, the next report says it too.
        if isinstance(environment.runner, WorkerRunner):
            environment.runner.send_message(READY, {})

    def rows(self) -> dict[int, list[dict[str, Any]]]:
        """Second by second, what this worker did in each stage."""
        return {stage: account.rows() for stage, account in self._accounts.items()}

    def finish(self) -> None:
        """Give up what is under way, and bring every record to where it belongs."""
        for sender in list(self._senders.values()):
            sender.interrupt()
        self._players.join()
        for file in self._files.values():
            file.close()
        self._files.clear()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    # --- messages ----------------------------------------------------------------------------------------------------

    def _on_share(self, msg: Any, **_: Any) -> None:
        self._players.spawn(self._play, Share.from_message(msg.data))

    def _on_halt(self, msg: Any, **_: Any) -> None:
        for part, sender in list(self._senders.items()):
            if part.number == msg.data["stage"]:
                sender.stop(msg.data["because"])

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        data[REPORT_KEY] = self.rows()

    # --- one share ---------------------------------------------------------------------------------------------------

    def _play(self, part: Share) -> None:
        sender = self._sender(part)
        self._senders[part] = sender
        try:
            mine = part.shape.arrivals(spacing=part.spacing, seed=part.seed, index=part.index, count=part.count)
            sender.run((number, at_s) for number, at_s in mine if at_s >= part.from_s)
        finally:
            del self._senders[part]
            for file in self._files.values():
                file.ship()
        done = Done(
            stage=part.number,
            worker=part.worker,
            index=part.index,
            stopped_because=sender.stopped_because,
            no_connection=sender.no_connection,
        )
        self._environment.runner.send_message(DONE, asdict(done))

    def _sender(self, part: Share) -> Sender:
        account = self._accounts.setdefault(
            part.number, Account(started_at=part.started_at, late_after_ms=part.late_after_ms)
        )
        file = self._file(part)

        def keep(record: ClientRecord, length: int) -> None:
            file.append(record)
            account.add(record)
            self._tell_locust(part.variant, record, length)

        return Sender(part, self._pool(part), keep)

    def _pool(self, part: Share) -> ConnectionPool:
        """One pool a host: connections are kept from one variant to the next."""
        if part.host not in self._pools:
            peak_rps = part.shape.peak_rps / part.count
            spare = max(MIN_SPARE, math.ceil(peak_rps * SPARE_S))
            self._pools[part.host] = ConnectionPool(part.host, spare=spare, timeout_s=part.patience_s)
        pool = self._pools[part.host]
        try:
            pool.prepare()
        except OSError as error:
            # Each call records what it meets; 20 of them in a row end the load.
            logger.warning("no connection to %s could be opened ahead: %s", part.host, error)
        return pool

    def _file(self, part: Share) -> RecordFile:
        run = RunDirectory(Path(self._environment.parsed_options.results) / part.run_id)
        path = run.load_path(part.worker)
        if path not in self._files:
            self._files[path] = RecordFile(self._environment, path, worker=part.worker, run_id=part.run_id)
        return self._files[path]

    def _tell_locust(self, variant: Variant, record: ClientRecord, length: int) -> None:
        """Count the call in Locust's statistics, with the latency from the intended time."""
        failure = None
        if record.outcome != "ok":
            # Without the text of the error: Locust would list each request id apart.
            status = f" (HTTP {record.http_status})" if record.http_status else ""
            failure = NotOkError(f"{record.outcome}{status}")
        self._environment.events.request.fire(
            request_type="GET",
            name=variant.display_name,
            response_time=record.latency_from_intended_ms,
            response_length=length,
            exception=failure,
            context={},
        )


class RecordFile:
    """A worker's record file. On a host that does not see the conductor's run, the lines are shipped to it as well."""

    def __init__(self, environment: Environment, path: Path, *, worker: int, run_id: str) -> None:
        self._environment = environment
        self._worker = worker
        self._run_id = run_id
        self._remote = not path.parent.is_dir()
        self._unshipped: list[str] = []
        # The disk's time is not the event loop's: it would make every send of that moment late.
        self._writer = RecordWriter(path, fsync=fsync_off_the_loop)
        self._shipper = gevent.spawn(self._ship_loop) if self._remote else None

    def append(self, record: ClientRecord) -> None:
        self._writer.append(record)
        if self._remote:
            self._unshipped.append(record.model_dump_json())

    def ship(self) -> None:
        """Send what was not yet sent to the conductor."""
        while self._unshipped:
            lines, self._unshipped = self._unshipped[:SHIP_AT_MOST], self._unshipped[SHIP_AT_MOST:]
            self._environment.runner.send_message(
                RECORDS, {"run_id": self._run_id, "worker": self._worker, "lines": lines}
            )

    def close(self) -> None:
        if self._shipper is not None:
            self._shipper.kill()
        self.ship()
        self._writer.close()

    def _ship_loop(self) -> None:
        while True:
            gevent.sleep(SHIP_EVERY_S)
            self.ship()


def fsync_off_the_loop(descriptor: int) -> None:
    """Bring a file to disk in a thread of its own, while the event loop goes on."""
    gevent.get_hub().threadpool.apply(os.fsync, (descriptor,))
