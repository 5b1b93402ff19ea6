"""Command-line options that the analysis commands share."""

from __future__ import annotations

import argparse
import math
from typing import Final

from core.program.command_line import Parser, add_results_option

RUN_HELP: Final = "name or directory of the run (default: latest)"


def command_parser(name: str, description: str, *, takes_run: bool = False) -> argparse.ArgumentParser:
    """Return the parser of a subcommand with `--results`; and the run it works on, if it takes one."""
    parser = Parser(prog=f"inference-lab analysis {name}", description=description)
    if takes_run:
        parser.add_argument("run", nargs="?", default="latest", help=RUN_HELP)
    add_results_option(parser)
    return parser


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the commands that write a run's summary and report."""
    parser.add_argument("--free-tier", action="store_true", help="count Lambda's free tier in the monthly cost")
    parser.add_argument("--no-report", action="store_true", help="write data and summary only")


def percent(text: str) -> float:
    """`3%` or `3` as 0.03. Raises ArgumentTypeError for what is not a valid percentage from 0 on."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid percentage; give a number from 0 on, such as 3%")
    return share
