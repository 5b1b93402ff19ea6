"""Shell completion, made from the parsers that read the command line."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

import shtab

from inference_lab.__main__ import PROGRAMS, overview


def complete_parser() -> argparse.ArgumentParser:
    """Return the parser of `inference-lab` with every subcommand and option."""
    parser, commands = overview()
    for name in PROGRAMS:
        commands.choices[name] = importlib.import_module(f"{name}.__main__").build_parser()
    subcommands(commands.choices["lab"])["try"] = commands.choices["trial"]
    return parser


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the next words, by word; none where the command takes no subcommand."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list what a parser takes
        if action.nargs == argparse.PARSER and isinstance(action.choices, dict):
            return action.choices
    return {}


def all_commands(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command with its parser, "" being the whole, in the order of the help."""
    yield " ".join(words), parser
    for name, one in subcommands(parser).items():
        yield from all_commands(one, *words, name)


def script(shell: str) -> str:
    """Return the completion script for bash, zsh, or fish."""
    parser = complete_parser()
    for _, command in all_commands(parser):
        for action in command._actions:  # noqa: SLF001 - as above
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it
    return shtab.complete(parser, shell)
