"""How every command reads its arguments."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from core.errors import EXIT_ERROR


class Parser(argparse.ArgumentParser):
    """Leaves with 1 where a command is called wrongly: argparse's own 2 would tell a pipeline that a check failed."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message}\n")
