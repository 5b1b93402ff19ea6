"""`inference-lab`: one command for everything the project does."""

from __future__ import annotations

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

from core.errors import EXIT_OK, run_command
from core.program.command_line import Parser

# Each is a program of its own, which `python -m NAME` runs as well; only the one that was asked for is imported.
PROGRAMS: Final = {
    "demo": "run the whole job on this machine: deploy, measure, collect, report",
    "lab": "a Lambda on this machine: serve, env, urls, doctor, try",
    "experiments": "measure a deployment, on AWS or in a lab: plan, run, resume, clean up",
    "analysis": "report on a run, compare runs, simulate other traffic",
    "trial": "find what a function of your own needs and costs; the same as `lab try`",
    "bench": "run the benches of this project next to their peers",
    "simulation": "only compile the traffic simulation; `analysis traffic` simulates",
}
SHELLS: Final = ("bash", "zsh", "fish")


def overview() -> tuple[Parser, Any]:
    """Return the parser, and its subcommands without their options."""
    parser = Parser(
        prog="inference-lab",
        description="Find out which deep-learning model, on which engine, at which memory size, to run on AWS Lambda.",
        epilog="`inference-lab COMMAND --help` shows the options of a command.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, purpose in PROGRAMS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    completion = commands.add_parser(
        "completion",
        help="print a script that completes commands and options in your shell",
        description="Print a script that completes commands, options, and values. docs/reference/commands.md says "
        "where your shell looks for it.",
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    return parser, commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program that the first word names, as `python -m` does."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:2] == ["lab", "try"]:
        words = ["trial", *words[2:]]
    parser, _ = overview()
    # The words that follow belong to the program.
    chosen = parser.parse_args(words[:1] if words[:1] != ["completion"] else words)
    if chosen.command == "completion":
        from inference_lab.completion import script  # noqa: PLC0415 - no other command imports every parser

        print(script(chosen.shell))
        return EXIT_OK
    sys.argv = [chosen.command, *words[1:]]
    return int(importlib.import_module(f"{chosen.command}.__main__").main() or EXIT_OK)


if __name__ == "__main__":
    run_command("inference-lab", main)
