"""`python -m analysis`: everything that is done with a run after it was measured."""

from __future__ import annotations

import core.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import importlib
import sys
from collections.abc import Sequence
from typing import Final

from core.command_line import Parser
from core.errors import run_command

# Each has its module and its purpose; only the module of the command that was asked for is imported.
COMMANDS: Final = {
    "collect": ("analysis.collect", "fetch logs and metrics, then report"),
    "report": ("analysis.commands.report", "write data, summary, figures, and report again from what was collected"),
    "compare": (
        "analysis.commands.compare",
        "differences of two runs, as Markdown; exit code 0: no regression, 2: a regression, 1: an error",
    ),
    "openmetrics": ("analysis.commands.openmetrics", "print a run's summary as OpenMetrics text"),
    "power-tuning": (
        "analysis.commands.power_tuning",
        "aws-lambda-power-tuning: write its input, or compare its result with a run",
    ),
    "traffic": ("analysis.commands.traffic", "simulate a month of other traffic with the calls of a run"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (_, purpose) in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    chosen = parser.parse_args(words[:1])
    module, _ = COMMANDS[chosen.command]
    return int(importlib.import_module(module).main(words[1:]))


if __name__ == "__main__":
    run_command("analysis", main)
