"""The records of one run: those of earlier attempts and those that are being written."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from core.configuration import Configuration
from core.run.records import ClientRecord, Experiment
from core.run.run_directory import RecordWriter, RunDirectory, append_line
from core.variants import Variant
from experiments.plan import GIVE_UP_AFTER, gave_up

FORCED_UPDATES_FILE: Final = "forced-updates.txt"  # keys of variants, one line per update
SENDING_FILE: Final = "sending-usd.txt"  # what the load's own machines and their traffic cost, one amount per line
_AMOUNT: Final = re.compile(r"\d+\.\d{9}")


class RunLog:
    """Client records of a run, kept on disk as they come. Not safe for several threads: Session guards it."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.records: dict[str, ClientRecord] = {}  # by call id; not those of a load, which nothing here asks for
        self._writers: dict[str, RecordWriter] = {}
        self._outcomes: dict[tuple[Experiment, str], list[str]] = defaultdict(list)

    def remember(self, record: ClientRecord) -> None:
        """Take note of a record that is on disk."""
        if record.experiment != "load":
            self.records[record.call_id] = record
        latest = self._outcomes[record.experiment, record.variant]
        latest.append(record.outcome)
        del latest[:-GIVE_UP_AFTER]

    def append(self, record: ClientRecord) -> None:
        """Write a record to disk and remember it."""
        writer = self._writers.get(record.experiment)
        if writer is None:
            path = self.run.client_directory / f"{record.experiment}.jsonl"
            writer = self._writers[record.experiment] = RecordWriter(path)
        writer.append(record)
        self.remember(record)

    def append_forced_update(self, variant: Variant) -> None:
        """Write down an update that has a price by itself, for a run that is resumed."""
        append_line(self.run.root / FORCED_UPDATES_FILE, variant.key)

    def forced_updates(self, configuration: Configuration) -> list[Variant]:
        """Return the variants of the updates written down; a line that a kill tore is skipped."""
        path = self.run.root / FORCED_UPDATES_FILE
        if not path.exists():
            return []
        known = {variant.key: variant for variant in configuration.variants}
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [known[key] for key in lines if key in known]

    def append_sending_usd(self, amount_usd: float) -> None:
        """Write down what sending a load has cost since the last line, for a run that is resumed."""
        append_line(self.run.root / SENDING_FILE, f"{amount_usd:.9f}")

    def sending_usd(self) -> float:
        """Return what sending has cost by the lines written down; one that a kill tore is skipped."""
        path = self.run.root / SENDING_FILE
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return sum(float(line) for line in lines if _AMOUNT.fullmatch(line))

    def is_done(self, call_id: str) -> bool:
        return call_id in self.records

    def recorded(self, protocol: str, variant: Variant) -> int:
        """Return how many calls of a protocol have a record."""
        return sum(one.protocol == protocol and one.variant == variant.key for one in self.records.values())

    def cannot_run(self, experiment: Experiment, variant: Variant) -> bool:
        """Whether this experiment's latest calls show that the variant cannot run here."""
        return gave_up(experiment, self._outcomes[experiment, variant.key])

    def latest_outcome(self, experiment: Experiment, variant: Variant) -> str:
        outcomes = self._outcomes[experiment, variant.key]
        return outcomes[-1] if outcomes else ""

    def why_it_cannot_run(self, experiment: Experiment, variant: Variant) -> str:
        """Return what the calls came to that `cannot_run` judges by."""
        return f"{self.latest_outcome(experiment, variant)} several times in a row; not retried"

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
