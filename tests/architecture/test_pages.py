"""The pages: links and paths lead somewhere, no line is too long, and every page can be found."""

from __future__ import annotations

import functools
import re
import subprocess

import pytest

from core.paths import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [*DOCS.glob("**/*.md"), *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "lab/README.md"))]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)|(?:src|srcset)=\"([^\"]+)\"")
PATH_IN_TEXT = re.compile(r"(?<![\w/.])docs/[\w/-]+(?:\.\w+|/\d{4})(?![\w-])")


def anchors(page):
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def tracked_texts():
    listed = subprocess.run(
        ["git", "grep", "-lI", "docs/", "--", ":!docs/pictures", ":!tests/lab"],
        check=True,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    return [REPOSITORY / name for name in listed.stdout.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_of_a_page_leads_somewhere(page):
    for target, anchor, picture in LINK.findall(page.read_text(encoding="utf-8")):
        path = target or picture
        if "://" in path:
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page}: {path}"
        if anchor:
            assert anchor in anchors(file), f"{page}: {path}#{anchor}"


def test_every_path_into_docs_that_a_text_names_exists():
    for file in tracked_texts():
        for path in PATH_IN_TEXT.findall(file.read_text(encoding="utf-8")):
            named = REPOSITORY / path
            # A decision may be named by its number alone.
            assert named.exists() or list(named.parent.glob(f"{named.name}-*.md")), f"{file}: {path}"


def test_no_line_of_the_pages_is_longer_than_100_characters():
    for page in DOCS.glob("**/*.md"):
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            # A row of a table is one line by its syntax.
            assert len(line) <= 100 or line.lstrip().startswith("|"), f"{page}:{number}: {line}"


def test_the_index_of_decisions_lists_each_with_its_title():
    index = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("adr/[0-9]*.md"):
        number, _, title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        row = f"| [{number}]({page.name}) | {title} |"
        assert row in index, f"docs/adr/README.md needs the row: {row}"


def test_the_index_of_the_documentation_names_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for folder in ("tutorial", "how-to", "reference", "explanation"):
        for page in DOCS.glob(f"{folder}/*.md"):
            assert f"]({folder}/{page.name})" in index, page


def test_pages_and_report_have_one_spelling():
    british = (
        "modelled|labelled|initialised|recognised|organised|optimised|serialised|summarised|synthesised|colours?|"
        "coloured|grey|behaviour|neighbours?|favour|licence|centre|judgement"
    )
    files = ("*.md", "*.toml", "*.yml", "*.j2", "tests/analysis/report/prose.txt")
    command = ["git", "grep", "-nwiE", british, "--", *files]
    found = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert found.stdout == ""
