"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import HealthCheck
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.lab_support import Lab, running_lab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# What takes longest runs first, so that all workers end at about the same time; all else follows in its own order.
LONGEST_FIRST = (
    "experiments/test_against_lab.py",
    "functions",
    "experiments/test_load_on_fargate.py",
    "e2e",
    "analysis/decide",
    "analysis/ingest",
    "loadtests",
    "stacks",
    "lab/services/cloudformation",
    "analysis/report",
    "lab/dataplane",
    "lab/limits",
    "lab/robustness",
    "analysis",
    "bench",
)
# The tests of one file stay on one worker: they share a lab or a browser that takes seconds to start. So do those of
# these folders. They share the construct library's process and templates, the compiled simulation, the compiled reader
# of lines (in a new checkout, each worker that needs one would compile it), synthetic runs, or a deployed lab.
TOGETHER = (
    ("tests/stacks/",),
    ("tests/analysis/decide/", "tests/analysis/estimate/", "tests/analysis/commands/", "tests/simulation/"),
    ("tests/analysis/ingest/",),
    ("tests/analysis/report/",),
    ("tests/lab/robustness/",),
)


# Tests stop programs by SIGINT, and a shell starts background jobs with SIGINT ignored, which children inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing of the code on a machine that does other work as well: no deadline.
# Examples may share a test's lab and its folders.
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
hypothesis.settings.register_profile("all", max_examples=100, **UNHURRIED)
hypothesis.settings.register_profile("fast", max_examples=30, **UNHURRIED)

# Workers deploy and destroy the same images at the same time: each has a store of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER:
    os.environ.setdefault("LAB_IMAGES", str(Path(__file__).parent.parent / ".lab" / f"images-of-tests-{WORKER}"))


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples in the fast tier; `make test-all` draws all."""
    hypothesis.settings.load_profile("fast" if config.option.markexpr == "not slow" else "all")


class ByFileOrFolder(LoadFileScheduling):
    """Give each worker whole files, or whole folders of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folders[0] for folders in TOGETHER if file.startswith(folders)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFileOrFolder:
    """Distribute the tests so that what is expensive is made by as few workers as possible."""
    return ByFileOrFolder(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""
    tests = Path(__file__).parent

    @cache
    def place(file: Path) -> int:
        path = file.relative_to(tests)
        return next(
            (place for place, part in enumerate(LONGEST_FIRST) if path.is_relative_to(part)), len(LONGEST_FIRST)
        )

    items.sort(key=lambda item: place(item.path))


CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of this test's own."""
    with running_lab(state=tmp_path / "lab-state") as running:
        yield running


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for tests of many modules, which use names of their own and count nothing that others make."""
    with running_lab(state=tmp_path_factory.mktemp("lab-state")) as running:
        yield running


@pytest.fixture(scope="module")
def module_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests of a module; they must not get into each other's way."""
    with running_lab(state=tmp_path_factory.mktemp("lab-state")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium under Playwright; absent, the tests are skipped, but in CI they fail."""
    path = shutil.which("chromium")
    if path is None:
        reason = "needs Debian's chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


def pytest_addoption(parser):
    parser.addoption("--rewrite-prose", action="store_true", help="write the snapshot of the report's prose again")
