"""How every command reads its arguments."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from core.errors import EXIT_ERROR
from core.paths import RESULTS_DIRECTORY

PROFILE_HELP: Final = "profile of benchmark.toml (default: BENCHMARK_PROFILE, else none)"

_Number = TypeVar("_Number", int, float)


class Parser(argparse.ArgumentParser):
    """Leaves with 1 where a command is called wrongly: argparse's own 2 would tell a pipeline that a check failed."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message}\n")


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """Add `--results`, the folder of all runs."""
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIRECTORY",
        default=RESULTS_DIRECTORY,
        help="directory of the runs (default: results/)",
    )


def bounded(kind: type[_Number], what: str, low: float, high: float = math.inf) -> Callable[[str], _Number]:
    """A `type` of argparse: a finite number from `low` to `high`. It raises ArgumentTypeError, also for NaN."""

    def parse(text: str) -> _Number:
        with contextlib.suppress(ValueError):
            value = float(text)
            if math.isfinite(value) and low <= value <= high and kind(value) == value:
                return kind(value)
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return parse


number: Final = bounded(float, "a number", -math.inf)
seconds: Final = bounded(float, "a duration; give seconds from 0 on, such as 60", 0)
