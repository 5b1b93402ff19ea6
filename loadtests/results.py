"""What a load test's records on disk add up to: a summary per stage, and `load-seconds.csv`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from core.records import ClientRecord
from core.run_directory import RunDirectory
from core.stages import LoadStage, stage_of
from loadtests.account import Account, Second, StageSummary, summarise

SECONDS_FILE: Final = "load-seconds.csv"


def sum_up(run: RunDirectory, stages: Sequence[LoadStage]) -> list[tuple[LoadStage, StageSummary]]:
    """Summarize stages from the records on disk, and append them second by second to `load-seconds.csv`."""
    by_stage = _records_by_stage(run)
    found = []
    with (run.root / SECONDS_FILE).open("a", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["variant", "started_at", *asdict(Second(0))])
        if file.tell() == 0:
            table.writeheader()
        for stage in stages:
            records = by_stage.get(stage.key, {}).values()
            account = Account(started_at=stage.started_at, late_after_ms=stage.late_after_ms)
            for record in records:
                account.add(record)
            for row in account.rows():
                table.writerow({"variant": stage.variant, "started_at": stage.started_at, **row})
            summary = summarise(
                records,
                offered=stage.offered,
                started_at=stage.started_at,
                duration_s=stage.duration_s,
                late_after_ms=stage.late_after_ms,
            )
            found.append((stage, summary))
    return found


def _records_by_stage(run: RunDirectory) -> dict[str, dict[str, ClientRecord]]:
    by_stage: dict[str, dict[str, ClientRecord]] = {}
    for record in run.client_records():
        if record.experiment == "load":
            # Two of one call there are where a worker thought lost sent it as well as its heir.
            by_stage.setdefault(stage_of(record.call_id), {}).setdefault(record.call_id, record)
    return by_stage
