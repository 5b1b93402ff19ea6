"""The README's pictures show today's report."""

from __future__ import annotations

import pytest

from core.paths import REPOSITORY
from tools.picture_report import HEIGHT, PICTURES, WIDTH, headings

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_pictures_in_the_readme_have_the_headings_of_todays_first_screen(open_page):
    page = open_page(width=WIDTH, height=HEIGHT)
    page.wait_for_selector("html[data-figures=drawn]")
    recorded = (PICTURES / "report.txt").read_text(encoding="utf-8").splitlines()
    shown = headings(page)
    # An answer of more lines moves what follows it below the edge.
    shorter = min(len(recorded), len(shown))
    assert shorter >= 3
    assert recorded[:shorter] == shown[:shorter], "run: make pictures RUN=results/<run>"


def test_the_readme_shows_both_pictures():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for scheme in ("light", "dark"):
        assert f"docs/pictures/report-{scheme}.png" in readme
        assert (PICTURES / f"report-{scheme}.png").stat().st_size < 300_000
