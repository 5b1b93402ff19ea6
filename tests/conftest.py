"""Fixtures that every folder of tests may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab_support import Lab, running_lab

# Folders in the order they run: the quickest first, then the longest, so that two workers end at about the same time.
# The tests of one folder stay on one worker, for they share a lab or a browser that takes seconds to start.
FOLDERS = (
    "unit",
    "architecture",
    "experiments",
    "loadtests",
    "analysis",
    "e2e",
    "control",
    "images",
    "infrastructure",
    "dataplane",
    "robustness",
    "function",
    "report",
    "browser",
    "gateway",
    "schedules",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the folders, and keep each on one worker; a folder that is not named above comes last."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(tests).parts[0]
        return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)

    items.sort(key=place)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.relative_to(tests).parts[0]))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of this test's own."""
    with running_lab(state=tmp_path / "lab-state") as running:
        yield running


@pytest.fixture(scope="module")
def module_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests of a module; they must not get into each other's way."""
    with running_lab(state=tmp_path_factory.mktemp("lab-state")) as running:
        yield running
