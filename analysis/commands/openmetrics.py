"""`python -m analysis openmetrics`: a run's summary for anything that scrapes."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.command_line import command_parser
from analysis.pipeline import read_summary
from analysis.report.open_metrics import open_metrics
from core.errors import EXIT_OK
from core.run_directory import find_run


def main(arguments: Sequence[str]) -> int:
    """Print OpenMetrics text."""
    chosen = command_parser("openmetrics", takes_run=True).parse_args(arguments)
    print(open_metrics(read_summary(find_run(chosen.run, chosen.results))), end="")
    return EXIT_OK
