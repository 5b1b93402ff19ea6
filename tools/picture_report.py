"""Picture the report of a run for the README: its first screen, light and dark, and the words that it shows.

    python -m tools.picture_report results/<run>

Writes `docs/pictures/report-light.png`, `report-dark.png`, and `report.txt`, which a test compares with today's report.
Needs Chromium and the packages of requirements-dev.txt.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, sync_playwright

from core.paths import REPOSITORY
from core.run.run_directory import RunDirectory

PICTURES = REPOSITORY / "docs" / "pictures"
WIDTH, HEIGHT = 1280, 800
# Headings and labels tell whether the picture is of today's page; figures and verdicts belong to the run.
HEADINGS: Final = """[...document.querySelectorAll('h2, h3, th, .tile dt')]
    .filter((element) => element.getBoundingClientRect().bottom < innerHeight && element.checkVisibility())
    .filter((element) => element.id !== "answer-title")
    .map((element) => element.innerText.trim().replace(/ p\\d\\d$/, " a high percentile"))"""


def headings(page: Page) -> list[str]:
    """Return the headings of the first screen, from the top, without what differs from run to run."""
    found: list[str] = page.evaluate(HEADINGS)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a run whose report has been written")
    report = RunDirectory(parser.parse_args().run.resolve()).report_path
    chromium = shutil.which("chromium")
    if not report.exists() or chromium is None:
        missing = f"{report} does not exist" if chromium else "Chromium is not on PATH"
        print(f"picture_report: {missing}", file=sys.stderr)
        return 1
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(report.as_uri())
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.wait_for_selector(f"html[data-scheme={scheme}][data-figures=drawn]", timeout=180_000)
            page.screenshot(path=PICTURES / f"report-{scheme}.png")
        (PICTURES / "report.txt").write_text("\n".join(headings(page)) + "\n", encoding="utf-8")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
