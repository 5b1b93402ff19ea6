"""Every command that the pages show is accepted by the parser that reads it."""

from __future__ import annotations

import contextlib
import io
import re
import shlex

import pytest

from analysis.collect import build_parser as collect_parser
from core.paths import REPOSITORY
from inference_lab.completion import complete_parser

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "lab/*.md", "bench/*.md") for path in REPOSITORY.glob(pattern)
)
# A command ends where its line of code does, or the shell's next word begins.
COMMAND = re.compile(
    r"(?:inference-lab|python -m (?=(?:lab|experiments|analysis|bench|demo|trial)\b))((?: +[^\s`&|#;)]+)*)"
)
COLLECT = re.compile(r"python analysis/collect\.py((?: +[^\s`&|#;)]+)*)")
SCRIPT = re.compile(r"python ([a-z]+/[a-z_]+\.py)")
LOCUSTFILE = re.compile(r"locust -f ([a-z]+/[a-z_]+\.py)")
TARGET = re.compile(r"(?:`|^ {4})make ([a-z]+)\b", re.MULTILINE)


def code(text):
    """What a page shows as code, a piece per line."""
    blocks = re.findall(r"^```\w*\n(.*?)^```|((?:^ {4}.*\n)+)", text, re.MULTILINE | re.DOTALL)
    joined = "\n".join("".join(block) for block in blocks).replace("\\\n", " ")
    return [*joined.splitlines(), *re.findall(r"`([^`\n]+)`", text)]


def mentions(pattern, pieces=code):
    """Each match in a page, with the page."""
    return {
        match.group(1): document.relative_to(REPOSITORY)
        for document in DOCUMENTS
        for piece in pieces(document.read_text(encoding="utf-8"))
        for match in pattern.finditer(piece)
    }


@pytest.fixture(scope="module")
def parsers():
    return {COMMAND: complete_parser(), COLLECT: collect_parser()}


@pytest.mark.parametrize("pattern", [COMMAND, COLLECT], ids=["inference-lab", "collect.py"])
def test_every_command_in_the_pages_is_accepted_by_its_parser(parsers, pattern):
    found = mentions(pattern)
    assert found
    for text, document in found.items():
        # [...] and ... stand for what a reader chooses.
        words = [word for word in shlex.split(text.replace('"', "")) if not re.fullmatch(r"\.\.\.|\[.*|.*\]", word)]
        if words[:2] == ["lab", "docker"]:
            del words[2:]  # docker's own
        said = refusal(parsers[pattern], words)
        # A command may be named without what it needs.
        assert not said or "arguments are required" in said, f"{document}: {text}: {said}"


def refusal(parser, words):
    """What a parser says against a command line, "" if it takes it; a request for help is taken."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
            parser.parse_args(words)
    except SystemExit:
        return err.getvalue()
    return ""


@pytest.mark.parametrize("pattern", [SCRIPT, LOCUSTFILE], ids=["script", "locustfile"])
def test_every_script_in_the_documents_exists(pattern):
    found = mentions(pattern)
    assert found
    for script, document in found.items():
        assert (REPOSITORY / script).is_file(), f"{document} names {script}"


def test_every_make_target_in_the_documents_exists():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for target, document in mentions(TARGET, lambda text: [text]).items():
        assert target in targets, f"{document} names make {target}"
