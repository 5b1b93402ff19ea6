"""Every command that the documents name is there."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import pytest

from core.paths import REPOSITORY

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "lab/*.md", "bench/*.md") for path in REPOSITORY.glob(pattern)
)
MODULE = re.compile(
    r"(?:inference-lab|python -m) (experiments|lab|analysis|demo|bench)((?: +[a-z][a-z-]*)?)((?: +--[a-z][a-z-]*)*)"
)
SCRIPT = re.compile(r"python ([a-z]+/[a-z_]+\.py)")
LOCUSTFILE = re.compile(r"locust -f ([a-z]+/[a-z_]+\.py)")
TARGET = re.compile(r"(?:`|^ {4})make ([a-z]+)\b", re.MULTILINE)


def mentions(pattern):
    found = {}
    for document in DOCUMENTS:
        for match in pattern.finditer(document.read_text(encoding="utf-8")):
            found.setdefault(tuple(group or "" for group in match.groups()), document.relative_to(REPOSITORY))
    return found


@functools.cache
def help_text(*words):
    done = subprocess.run(
        [sys.executable, "-m", *words, "--help"],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"python -m {' '.join(words)} --help: {done.stderr}"
    return done.stdout


def test_every_module_command_in_the_documents_exists_with_its_options():
    subcommands, options = {}, {}
    for (package, subcommand, flags), document in mentions(MODULE).items():
        subcommands.setdefault((package, subcommand.strip()), document)
        for flag in flags.split():
            options.setdefault((package, subcommand.strip(), flag), document)
    assert ("experiments", "run") in subcommands
    helps = {}
    for package, subcommand in subcommands:
        overview = helps.setdefault((package, ""), help_text(package))
        # A word after a package that takes no subcommands is the sentence going on, not a command.
        if subcommand and re.search(rf"^\s+{subcommand}\b|[{{,]{subcommand}[,}}]", overview, re.MULTILINE):
            helps[package, subcommand] = help_text(package, subcommand)
    for (package, subcommand, flag), document in options.items():
        text = helps.get((package, subcommand), helps[package, ""])
        assert re.search(rf"{flag}\b", text), f"{document}: python -m {package} {subcommand} has no option {flag}"


@pytest.mark.parametrize("pattern", [SCRIPT, LOCUSTFILE], ids=["script", "locustfile"])
def test_every_script_in_the_documents_exists(pattern):
    found = mentions(pattern)
    assert found
    for (script,), document in found.items():
        assert (REPOSITORY / script).is_file(), f"{document} names {script}"


def test_every_make_target_in_the_documents_exists():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for (target,), document in mentions(TARGET).items():
        assert target in targets, f"{document} names make {target}"
