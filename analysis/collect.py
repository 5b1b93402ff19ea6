"""Collect a run: fetch its logs and metrics, join them with the client records, estimate, and write the report.

Works as a script (`python analysis/collect.py`) and as a command (`inference-lab analysis collect`). Talks to AWS, or
to a lab where AWS_ENDPOINT_URL names one.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Run as a script Python puts this folder first on the path; the packages are one level up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import argparse
import re
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import polars as pl

from analysis.command_line import RUN_HELP, add_output_options
from analysis.ingest.client_records import client_ranges, each_call_once
from analysis.ingest.cloudwatch import CloudWatch, image_sizes, metric_queries, metric_window, metrics_may_have_grown
from analysis.ingest.gathering import is_large
from analysis.ingest.log_groups import read_group, shape_reader
from analysis.ingest.run_files import (
    Cursor,
    RawGroup,
    raw_group,
    read_metrics,
    write_image_sizes,
    write_metrics,
)
from analysis.pipeline import build, run_configuration
from analysis.progress import Progress
from analysis.report.terminal import print_results
from analysis.summary import Summary
from core.aws.cloud import Cloud
from core.configuration import Configuration, read_configuration
from core.errors import (
    EXIT_CHECK_FAILED,
    EXIT_OK,
    DeploymentError,
    RecordError,
    UserError,
    run_command,
)
from core.program.command_line import Parser, add_results_option, seconds
from core.program.interruption import raise_on_signals
from core.run.place import IDENTITY, check_same_place
from core.run.records import WITHOUT_LOG, Manifest
from core.run.run_directory import RunDirectory, find_run, new_run_id
from core.variants import Variant

MARGIN_S: Final = 60.0  # clocks differ, and an init may come before the call that waited for it
LATE_S: Final = 120.0  # a scheduled fire may start within the minute, and the function keeps running after a timeout
# FilterLogEvents allows 5 requests/s in the smallest regions, and a page takes about a second.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
GROUPS_AT_ONCE: Final = 4
AWS_DEADLINE_S: Final = 300.0
LAB_DEADLINE_S: Final = 20.0
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SPAN_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Window:
    start_s: float
    end_s: float

    def __str__(self) -> str:
        return " to ".join(
            datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ") for moment in (self.start_s, self.end_s)
        )


def parse_moment(text: str, now_s: float) -> float:
    """`2h`, `90m`, `3d` ago, or an ISO 8601 time (UTC where it names no zone), in seconds since the epoch."""
    span = _SPAN.fullmatch(text.strip())
    if span:
        return now_s - float(span[1]) * _SPAN_S[span[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UserError(
            f"{text!r} is not a valid time", hint="Give an age such as 2h or 90m, or a time such as 2026-11-24T10:00."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def run_window(run: RunDirectory, manifest: Manifest, configuration: Configuration) -> Window:
    """The time in which a run's calls can have been logged."""
    ends = [manifest.started_at, manifest.finished_at or 0.0]
    starts = [manifest.started_at]
    for part in client_ranges(run):
        times = part.read().select("intended_at", "sent_at", "answered_at")
        starts += [value for value in times.min().row(0) if value is not None]
        ends += [value for value in times.max().row(0) if value is not None]
    return Window(min(starts) - MARGIN_S, max(ends) + configuration.function.timeout_s + LATE_S)


def collect(
    run: RunDirectory,
    cloud: Cloud,
    *,
    window: Window | None = None,
    refresh: bool = False,
    deadline_s: float | None = None,
    free_tier: bool = False,
    with_report: bool = True,
    progress: Progress,
) -> Summary:
    """Fetch what is not there yet, then build everything. Raises UserError."""
    manifest = run.read_manifest()
    configuration = run_configuration(manifest)
    watch = CloudWatch(cloud)
    window = window or _stored_window(run, configuration) or run_window(run, manifest, configuration)
    if deadline_s is None:
        deadline_s = LAB_DEADLINE_S if cloud.endpoint_url else AWS_DEADLINE_S
    LogFetch(run, watch, configuration, window, progress).fetch(refresh=refresh, deadline_s=deadline_s)
    stored = read_metrics(run)
    # A lab's metrics are there at once.
    early = stored is not None and not cloud.endpoint_url and metrics_may_have_grown(stored, window.end_s)
    if refresh or stored is None or early:
        progress.say("fetching metrics")
        queries = metric_queries(configuration)
        write_image_sizes(run, image_sizes(cloud, configuration))
        now_s = time.time()
        answer = watch.metrics(queries, *metric_window(window.start_s, window.end_s, now_s))
        write_metrics(run, {**answer, "fetched_at_s": now_s})
    return build(run, free_tier=free_tier, with_report=with_report, say=progress.say)


def _stored_window(run: RunDirectory, configuration: Configuration) -> Window | None:
    """The window that an earlier collection of this run read, so that the same run gives the same data.

    None where it was not read yet, or where client records have grown beyond it.
    """
    cursors = [
        cursor
        for variant in configuration.variants
        if (cursor := raw_group(run, configuration.names.function(variant)).cursor) is not None
    ]
    if not cursors:
        return None
    window = Window(cursors[0].start_ms / 1000, cursors[0].end_ms / 1000)
    now = run_window(run, run.read_manifest(), configuration)
    return window if now.end_s <= window.end_s + 1 and now.start_s >= window.start_s - 1 else None


@dataclass(frozen=True)
class LogFetch:
    """Fetches the log groups of one run."""

    run: RunDirectory
    watch: CloudWatch
    configuration: Configuration
    window: Window
    progress: Progress

    def fetch(self, *, refresh: bool, deadline_s: float) -> None:
        """Read every log group, and read again those that lack invocations, until all are there or the deadline."""
        names, variants, progress = self.configuration.names, self.configuration.variants, self.progress
        pending: Sequence[Variant] = variants
        wait_s = 2.0
        again = refresh
        absent: list[Variant] = []
        stop_at: float | None = None
        while True:
            absent += self._read_groups(pending, again=again)
            if len(absent) == len(variants):
                raise DeploymentError(
                    f"no log group of this configuration exists, for example {names.log_group(variants[0])}",
                    hint="Deploy with `cdk deploy`, or name the right region or lab.",
                )
            missing = missing_invocations(self.run, self.configuration)
            pending = [variant for variant in variants if missing.get(variant.key) and variant not in absent]
            # The deadline is for what comes late: reading what is there takes as long as it takes.
            stop_at = stop_at or time.monotonic() + deadline_s
            if not pending or time.monotonic() + wait_s > stop_at:
                break
            count = sum(missing[v.key] for v in pending)
            progress.say(f"{count} invocations are not in the logs yet; looking again in {wait_s:g} s")
            time.sleep(wait_s)
            wait_s, again = min(wait_s * 2, 30.0), True
        for one in pending:
            progress.note(f"{one.display_name}: {missing[one.key]} invocations that were sent are not in the logs")
        for one in absent:
            progress.note(f"{one.display_name}: there is no log group {names.log_group(one)}")

    def _read_groups(self, variants: Sequence[Variant], *, again: bool) -> list[Variant]:
        """Read several groups at once, and return the variants whose group does not exist. Raises CloudError."""

        def read(place: int) -> bool:
            label = f"logs of {variants[place].display_name} ({place + 1} of {len(variants)})"
            return self._read_group(variants[place], label, again=again)

        with ThreadPoolExecutor(max_workers=GROUPS_AT_ONCE) as pool:
            try:
                present = list(pool.map(read, range(len(variants))))
            except BaseException:
                # An interruption does not wait for groups that no thread has started.
                pool.shutdown(cancel_futures=True)
                raise
        return [variant for variant, is_there in zip(variants, present, strict=True) if not is_there]

    def _read_group(self, variant: Variant, label: str, *, again: bool) -> bool:
        """Read one group; False where it does not exist. A complete one is read again only if asked to."""
        log_group = self.configuration.names.log_group(variant)
        wanted = Cursor(log_group, round(self.window.start_s * 1000), round(self.window.end_s * 1000))
        group: RawGroup = raw_group(self.run, self.configuration.names.function(variant))
        cursor = group.cursor
        complete = (
            cursor is not None and cursor.done and (cursor.start_ms, cursor.end_ms) == (wanted.start_ms, wanted.end_ms)
        )
        if complete and not again:
            return True
        if not self.watch.group_exists(log_group):
            return False
        # What is complete stays until its successor is: an interruption loses nothing.
        target = group.fresh if complete else group
        for events in self.watch.read_group(target, wanted):
            self.progress.say(f"{label}: {events:,} events")
        if complete:
            group.replace_by(target)
        return True


def missing_invocations(run: RunDirectory, configuration: Configuration) -> dict[str, int]:
    """Per variant, how many more invocations were sent than the logs hold reports of."""
    # Some columns alone: all of a long load's would fill memory.
    parts = [part.read().select("call_id", "variant", "outcome") for part in client_ranges(run)]
    if not parts:
        return {}
    clients = each_call_once(pl.concat(parts))
    reached = clients.filter(~clients["outcome"].is_in(WITHOUT_LOG))
    expected = dict(reached.group_by("variant").len().iter_rows())
    found = {}
    for variant in configuration.variants:
        wanted = int(expected.get(variant.key, 0))
        if wanted:
            group = raw_group(run, configuration.names.function(variant))
            logged = read_group(group, shape_reader() if is_large([group]) else None).invocations
            known = logged.height - logged["duration_ms"].null_count()
            if known < wanted:
                found[variant.key] = wanted - known
    return found


def start_run_from_logs(cloud: Cloud, configuration: Configuration, window: Window, results: Path) -> RunDirectory:
    """Make a run for a window that no client recorded; nothing is written where the logs hold nothing."""
    watch = CloudWatch(cloud)
    names = configuration.names
    endpoint = cloud.endpoint_facts()
    present = [variant for variant in configuration.variants if watch.group_exists(names.log_group(variant))]
    if not present:
        raise DeploymentError(
            f"no log group of this configuration exists, for example {names.log_group(configuration.variants[0])}",
            hint="Deploy with `cdk deploy`, or name the right region or lab.",
        )
    start_ms, end_ms = round(window.start_s * 1000), round(window.end_s * 1000)
    if not any(watch.has_events(names.log_group(variant), start_ms, end_ms) for variant in present):
        raise RecordError(
            f"the logs hold nothing from {window}",
            hint="Name another window with --since and --until, or measure first.",
        )
    run = RunDirectory(results / new_run_id())
    run.write_manifest(
        Manifest(
            run_id=run.run_id,
            started_at=window.start_s,
            finished_at=window.end_s,
            stopped_because="made from the logs alone",
            endpoint=endpoint,
            configuration=configuration.model_dump(mode="json"),
            profile=configuration.profile,
            experiments=("cold", "warm"),
            seed=configuration.experiments.seed,
            versions={},
            commit="",
        )
    )
    return run


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="inference-lab analysis collect" if __package__ else "python analysis/collect.py",
        description="Fetch a run's logs and metrics from CloudWatch (or the lab that AWS_ENDPOINT_URL names), join "
        "them with its client records, print one table, and write data, summary, figures, and report to results/RUN/.",
        epilog="You can run it again at any time: it fetches what is missing and gives the same result.",
    )
    parser.add_argument("--run", default="latest", help=RUN_HELP)
    add_results_option(parser)
    parser.add_argument(
        "--since", metavar="TIME", help="make a run from the logs alone, from this time on: 2h, 90m, or a date and time"
    )
    parser.add_argument("--until", metavar="TIME", help="end of the window that --since begins (default: now)")
    parser.add_argument(
        "--profile", help="profile of benchmark.toml for --since (default: BENCHMARK_PROFILE, else none)"
    )
    parser.add_argument("--refresh", action="store_true", help="fetch everything again")
    parser.add_argument(
        "--deadline", type=seconds, metavar="S", help="seconds to wait for missing logs (default: 300; lab: 20)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 2 if invocations that were sent have no logs")
    add_output_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = build_parser().parse_args(arguments)
    raise_on_signals()
    now = time.time()
    with Progress() as progress:
        cloud = Cloud()
        window = None
        if chosen.since:
            window = Window(parse_moment(chosen.since, now), parse_moment(chosen.until, now) if chosen.until else now)
            if window.end_s <= window.start_s:
                raise UserError(f"the window {window} is empty", hint="--until must lie after --since.")
            run = start_run_from_logs(cloud, read_configuration(profile=chosen.profile), window, chosen.results)
            progress.note(f"new run {run.run_id}; resume an interrupted collection with --run {run.run_id}")
        elif chosen.until:
            raise UserError("--until without --since", hint="Add --since, which names the start of the window.")
        else:
            run = find_run(chosen.run, chosen.results)
            check_same_place(
                run.read_manifest(),
                cloud.endpoint_facts(),
                names=IDENTITY,
                hint="Point AWS_ENDPOINT_URL, credentials, and region at where it was measured; "
                f"offline: inference-lab analysis report {run.run_id}",
            )
        try:
            summary = collect(
                run,
                cloud,
                window=window,
                refresh=chosen.refresh,
                deadline_s=chosen.deadline,
                free_tier=chosen.free_tier,
                with_report=not chosen.no_report,
                progress=progress,
            )
        except UserError:
            if chosen.since:
                shutil.rmtree(run.root, ignore_errors=True)  # made for this collection, which came to nothing
            raise
    print_results(summary)
    print(f"\n{run.summary_text_path if chosen.no_report else run.report_path}")
    missing = sum(coverage.missing for coverage in summary.coverage if coverage.experiment == "all")
    return EXIT_CHECK_FAILED if chosen.strict and missing else EXIT_OK


if __name__ == "__main__":
    run_command("collect", main)
