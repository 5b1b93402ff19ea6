"""`inference-lab analysis report`: make data, summary, figures and report again, offline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.command_line import add_output_options, command_parser
from analysis.pipeline import build
from analysis.progress import Progress
from analysis.report.terminal import print_results
from core.configuration import read_configuration
from core.errors import EXIT_OK
from core.run.run_directory import find_run


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "report",
        "Write data, summary, figures, and report again from what was collected. Needs no network.",
        takes_run=True,
    )
    parser.add_argument(
        "--current-goal", action="store_true", help="take [goal], [traffic], and [prices] from today's benchmark.toml"
    )
    add_output_options(parser)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print the results and where the report is."""
    chosen = build_parser().parse_args(arguments)
    run = find_run(chosen.run, chosen.results)
    with Progress() as progress:
        summary = build(
            run,
            goal_of=read_configuration() if chosen.current_goal else None,
            free_tier=chosen.free_tier,
            with_report=not chosen.no_report,
            say=progress.say,
        )
    print_results(summary)
    print(f"\n{run.summary_text_path if chosen.no_report else run.report_path}")
    return EXIT_OK
