"""What a load test's records on disk add up to: a summary per stage, and `load-seconds.csv`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from core.run.run_directory import RunDirectory
from core.run.stages import LoadStage, number_of, stage_of
from loadtests.account import Second, StageSummary, StageTotals

SECONDS_FILE: Final = "load-seconds.csv"


def sum_up(run: RunDirectory, stages: Sequence[LoadStage]) -> list[tuple[LoadStage, StageSummary]]:
    """Summarize stages from the records on disk, and append them second by second to `load-seconds.csv`.

    A record is let go as soon as it is read: a load beyond one machine has more than fit into memory.
    """
    totals = {
        stage.key: StageTotals(
            started_at=stage.started_at, duration_s=stage.duration_s, late_after_ms=stage.late_after_ms
        )
        for stage in stages
    }
    for record in run.client_records():
        if record.experiment == "load" and (found := totals.get(stage_of(record.call_id))) is not None:
            found.add(record, number_of(record.call_id))
    with (run.root / SECONDS_FILE).open("a", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["variant", "started_at", *asdict(Second(0))])
        if file.tell() == 0:
            table.writeheader()
        for stage in stages:
            for row in totals[stage.key].rows():
                table.writerow({"variant": stage.variant, "started_at": stage.started_at, **row})
    return [(stage, totals[stage.key].summary(offered=stage.offered)) for stage in stages]
