"""`python -m inference_lab.reference`: write the reference of all commands, from the parsers that read them."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Final

from core.paths import COMMANDS_PAGE, REPOSITORY
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

## `make`
Set-up runs by itself before a target that needs it.

| target | what it does |
|---|---|
{targets}
"""
SHARED_BY: Final = 4  # an option that so many commands of a group take has one row for all of them


def page() -> str:
    """Return the page: one section per command that does something, and one for what a group's commands share."""
    named = {one: name for name, one in reversed([*all_commands(complete_parser())])}  # the first name of each
    commands = {name: one for one, name in reversed(named.items()) if name and not subcommands(one)}
    sections = [INTRODUCTION.format(targets="\n".join(_targets()))]
    described: set[str] = set()
    for name, one in commands.items():
        group = name.split()[0]
        members = {of: _rows(parser) for of, parser in commands.items() if of.split()[0] == group}
        shared = _shared(members.values())
        if shared and group not in described:
            sections.append(_shared_section(group, members, shared))
        described.add(group)
        sections.append(_section(name, one.description or "", [row for row in members[name] if row not in shared]))
    return "".join(sections)


def _targets() -> list[str]:
    """Return a row for each target of the Makefile that has a comment for people."""
    found = re.findall(r"^([a-z-]+):.*?## (.*)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return [f"| `make {target}` | {purpose.replace('$$', '$')} |" for target, purpose in found]


def _rows(parser: argparse.ArgumentParser) -> list[str]:
    return [
        f"{_argument(action)} | {_meaning(action)}"
        for action in parser._actions  # noqa: SLF001 - argparse has no other way to list what a parser takes
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]


def _shared(members: Iterable[list[str]]) -> list[str]:
    """Return the rows that several commands of a group have, in their order; none where only a single row is alike."""
    counts = Counter(row for rows in members for row in rows)
    found = [row for row, count in counts.items() if count >= SHARED_BY]
    return found if len(found) > 1 else []


def _shared_section(group: str, members: dict[str, list[str]], shared: list[str]) -> str:
    lines = [f"\n## `inference-lab {group}`: shared options", "| argument | meaning | commands |", "|---|---|---|"]
    for row in shared:
        takers = [name.removeprefix(f"{group} ") for name, rows in members.items() if row in rows]
        lines.append(f"| {row} | {'all' if len(takers) == len(members) else ', '.join(takers)} |")
    return "\n".join(lines) + "\n"


def _section(name: str, description: str, rows: list[str]) -> str:
    table = ["| argument | meaning |", "|---|---|", *(f"| {row} |" for row in rows)]
    body = "\n".join(table) if rows else "It has no options of its own."
    return f"\n## `inference-lab {name}`\n{_wrapped(description)}\n\n{body}\n"


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
