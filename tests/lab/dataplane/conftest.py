"""Each test gets a data plane of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.dataplane import plane
from lab.drivers import process
from lab.limits import files
from lab.services.functions import invoke_api
from tests.lab.dataplane.harness import Lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    # What the lab gives up for after a while, it gets on a busy machine as well.
    for module, patience in (
        (plane, "_SETTLE_S"),
        (process, "_REMOVE_PATIENCE_S"),
        (files, "_REMOVAL_PATIENCE_S"),
        (invoke_api, "_DISCARD_S"),
    ):
        monkeypatch.setattr(module, patience, 600.0)
    return Lab(tmp_path)
