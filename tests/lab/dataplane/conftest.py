"""Each test gets a data plane of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.dataplane.harness import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
