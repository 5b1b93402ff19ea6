"""Fixtures that every folder of tests may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab_support import Lab, running_lab


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
