"""`inference-lab analysis`: everything that is done with a run after it was measured."""

from __future__ import annotations

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

from core.errors import run_command
from core.program.command_line import Parser

# Each has its module and its purpose; only the module of the command that was asked for is imported.
COMMANDS: Final = {
    "collect": ("analysis.collect", "fetch logs and metrics of a run, then write its report"),
    "report": ("analysis.commands.report", "write data, summary, figures, and report again, offline"),
    "compare": (
        "analysis.commands.compare",
        "compare two runs; exit code 2 for a regression",
    ),
    "openmetrics": ("analysis.commands.openmetrics", "print a run's summary as OpenMetrics text"),
    "power-tuning": (
        "analysis.commands.power_tuning",
        "aws-lambda-power-tuning: write its input, or compare its result with a run",
    ),
    "traffic": ("analysis.commands.traffic", "simulate a month of other traffic with the calls of a run"),
}


def build_parser() -> Parser:
    """Return the parser with those of all commands, for the completion and the reference."""
    parser, commands = _overview()
    for name, (module, _) in COMMANDS.items():
        commands.choices[name] = importlib.import_module(module).build_parser()
    return parser


def _overview() -> tuple[Parser, Any]:
    parser = Parser(prog="inference-lab analysis", description="Everything you do with a run after it was measured.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (_, purpose) in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    return parser, commands


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, _ = _overview()
    module, _ = COMMANDS[parser.parse_args(words[:1]).command]
    return int(importlib.import_module(module).main(words[1:]))


if __name__ == "__main__":
    run_command("analysis", main)
