"""How the analysis' commands read their arguments."""

from __future__ import annotations

import argparse
import math
import sys
from typing import NoReturn

from benchmark.errors import EXIT_ERROR


class Parser(argparse.ArgumentParser):
    """Leaves with 1 where a command is called wrongly: argparse's own 2 would tell a pipeline that a check failed."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message}\n")


def percent(text: str) -> float:
    """`3%` or `3` as 0.03. Raises ArgumentTypeError for what is no percentage from 0 on."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage; give a number from 0 on, such as 3%")
    return share
