"""`inference-lab analysis openmetrics`: a run's summary for anything that scrapes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.command_line import command_parser
from analysis.pipeline import read_summary
from analysis.report.open_metrics import open_metrics
from core.errors import EXIT_OK
from core.run.run_directory import find_run


def build_parser() -> argparse.ArgumentParser:
    return command_parser("openmetrics", "Print a run's summary as OpenMetrics text, for Prometheus.", takes_run=True)


def main(arguments: Sequence[str]) -> int:
    """Print OpenMetrics text."""
    chosen = build_parser().parse_args(arguments)
    print(open_metrics(read_summary(find_run(chosen.run, chosen.results))), end="")
    return EXIT_OK
