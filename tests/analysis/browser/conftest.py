"""A report for Chromium to open, and pages that several tests share, since drawing one takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from analysis.report.page import write_report
from core.run.run_directory import RunDirectory
from tests.analysis.report.builders import make_run

PATIENCE_MS = 180_000  # a bound for a loaded machine; the page says when it is done


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run of two models at three sizes, one of them too small for one of the models."""
    _, invocations, summary = make_run(
        models=["mobilenet", "resnet50"],
        memory_sizes_mb=[512, 1769, 3008],
        load_s=8.0,
        warm_samples=20,
        with_what_if=True,
    )
    run = RunDirectory(tmp_path_factory.mktemp("results") / summary.run_id)
    return write_report(run, invocations, summary), summary


@dataclass
class Seen:
    """What a page said in its console and asked of the network."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def seen():
    return Seen()


@pytest.fixture(autouse=True)
def nothing_wrong(seen):
    """No test may leave an error or a warning in the console, or a request that leaves the machine's files."""
    yield
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def open_page(chromium, report, seen):
    contexts = []

    def open_it(*, width=1280, height=900, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on(
            "console", lambda said: seen.complaints.append(said.text) if said.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(report[0].as_uri())
        if options.get("java_script_enabled", True):
            wait_until_drawn(page)
            page.evaluate("document.querySelectorAll('details.more-figures').forEach((more) => { more.open = true; })")
            wait_until_settled(page)
        return page

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def desktop_page(open_page):
    page = open_page(color_scheme="light", accept_downloads=True)
    wait_until_drawn(page)
    return page


@pytest.fixture(scope="module")
def phone_page(open_page):
    page = open_page(width=390, height=844, color_scheme="light", reduced_motion="reduce")
    wait_until_drawn(page)
    return page


@pytest.fixture
def desktop(desktop_page):
    """The shared page at a desk, as it was opened: whole, light, on screen, scrolled to the top."""
    desktop_page.emulate_media(media="screen", color_scheme="light")
    desktop_page.evaluate("document.getElementById('filters').reset()")
    desktop_page.evaluate("document.getElementById('what-if-form')?.reset()")
    desktop_page.evaluate("window.scrollTo(0, 0)")
    desktop_page.wait_for_selector("html[data-scheme=light]")
    wait_until_settled(desktop_page)
    return desktop_page


def wait_until_drawn(page):
    page.wait_for_selector("html[data-figures=drawn]")


def wait_until_settled(page):
    """Until what a click or a reset set in motion is drawn; both start it in a task of their own."""
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 20))")
    wait_until_drawn(page)
