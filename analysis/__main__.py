"""`python -m analysis`: everything that is done with a run after it was measured."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import EXIT_OK, run_command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("collect", help="fetch logs and metrics, then report (see collect --help)", add_help=False)
    report = commands.add_parser("report", help="make data, summary, figures and report anew from what was collected")
    report.add_argument("run", nargs="?", default="latest", help="a run's name or directory (default: latest)")
    report.add_argument("--results", type=Path, default=Path("results"), help="where runs are kept (default: results/)")
    report.add_argument(
        "--current-goal", action="store_true", help="take [goal], [traffic] and [prices] from today's benchmark.toml"
    )
    report.add_argument("--free-tier", action="store_true", help="count Lambda's free tier in the monthly cost")
    report.add_argument("--no-report", action="store_true", help="data and summary only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["collect"]:
        from analysis.collect import main as collect_main  # noqa: PLC0415 - boto3 is slow to import

        return collect_main(words[1:])
    chosen = build_parser().parse_args(words)
    return _report(chosen)


def _report(chosen: argparse.Namespace) -> int:
    from analysis.collect import print_table  # noqa: PLC0415 - see above
    from analysis.pipeline import build  # noqa: PLC0415
    from analysis.progress import Progress  # noqa: PLC0415
    from benchmark.configuration import read_configuration  # noqa: PLC0415
    from benchmark.store import find_run  # noqa: PLC0415

    run = find_run(chosen.run, chosen.results)
    with Progress() as progress:
        summary = build(
            run,
            goal_of=read_configuration() if chosen.current_goal else None,
            free_tier=chosen.free_tier,
            with_report=not chosen.no_report,
            say=progress.say,
        )
    print_table(summary)
    print(f"\n{run.root / 'summary.md' if chosen.no_report else run.report_path}")
    return EXIT_OK


if __name__ == "__main__":
    run_command("analysis", main)
