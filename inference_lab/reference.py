"""`python -m inference_lab.reference`: write the reference of all commands, from the parsers that read them."""

from __future__ import annotations

import argparse
import textwrap
from typing import Final

from core.paths import COMMANDS_PAGE
from inference_lab.completion import all_commands, complete_parser, subcommands

INTRODUCTION: Final = """\
# Commands

<!-- written by `make reference` -->
Every command starts with `inference-lab`, which `make setup` puts into `.venv/bin`. Activate the
virtual environment (`source .venv/bin/activate`), or call `.venv/bin/inference-lab`. It works in
any folder. `python -m lab`, `python -m experiments`, and so on run the same programs, in the
repository's folder.

**Completion.** `inference-lab completion bash` prints a script that completes commands and options:

| shell | write it to |
|---|---|
| bash | `~/.local/share/bash-completion/completions/inference-lab` |
| zsh | `_inference-lab` in a folder of `$fpath` |
| fish | `~/.config/fish/completions/inference-lab.fish` |

**Output.** Results go to standard output, everything else to standard error. A command that prints
figures or findings takes `--json`; `run` and the single experiments take it with `--dry-run`.
`analysis openmetrics` prints text for Prometheus, and `report` and `collect` write
`results/RUN/summary.json`.

| exit code | meaning |
|---:|---|
| 0 | done |
| 1 | an error: a wrong command line, a wrong configuration, a call that AWS refused |
| 2 | a check failed, a comparison found a regression, or the spend limit stopped a run |
| 130 | interrupted with Ctrl-C |
"""


def page() -> str:
    """Return the page: one section per command that does something."""
    commands = {one: name for name, one in reversed([*all_commands(complete_parser())])}  # the first name of each
    return INTRODUCTION + "".join(
        _section(name, one) for one, name in reversed(commands.items()) if name and not subcommands(one)
    )


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    rows = [
        f"| {_argument(action)} | {_meaning(action)} |"
        for action in parser._actions  # noqa: SLF001 - argparse has no other way to list what a parser takes
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]
    table = "\n".join(["| argument | meaning |", "|---|---|", *rows]) if rows else "It takes no arguments of its own."
    return f"\n## `inference-lab {name}`\n{_wrapped(parser.description or '')}\n\n{table}\n"


def _argument(action: argparse.Action) -> str:
    value = str(action.metavar or "")
    if action.choices and not value:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    elif not value:
        value = action.dest.upper()
    if action.nargs == 0:
        value = ""
    elif action.nargs in ("+", "*"):
        value += " ..."
    text = f"{action.option_strings[-1]} {value}".strip() if action.option_strings else value
    return f"`{text}`"


def _meaning(action: argparse.Action) -> str:
    return ((action.help or "") % vars(action)).replace("|", "\\|")


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 100) for part in text.split("\n\n"))


if __name__ == "__main__":
    COMMANDS_PAGE.write_text(page(), encoding="utf-8")
