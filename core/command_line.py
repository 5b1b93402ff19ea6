"""How every command reads its arguments."""

from __future__ import annotations

import argparse
import math
import sys
from typing import NoReturn

from core.errors import EXIT_ERROR


class Parser(argparse.ArgumentParser):
    """Leaves with 1 where a command is called wrongly: argparse's own 2 would tell a pipeline that a check failed."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message}\n")


def number(text: str) -> float:
    """Parse a finite number, as a `type` of argparse. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def seconds(text: str) -> float:
    """Parse a duration, as a `type` of argparse. Raises ArgumentTypeError, also for NaN, which ends no wait."""
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = math.nan
    if not 0 <= duration_s < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; give seconds from 0 on, such as 60")
    return duration_s
