"""Each mend of moto is still needed. A failure here after an upgrade of moto means: remove that mend."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from core.paths import REPOSITORY

PROGRAM = Path(__file__).with_name("moto_gaps.py")
NAMES = re.findall(r"^@gap\ndef (\w+)", PROGRAM.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def found() -> dict[str, bool]:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ended = subprocess.run(
        [sys.executable, str(PROGRAM)], env={**inherited, **keys}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    gaps: dict[str, bool] = json.loads(ended.stdout.splitlines()[-1])
    return gaps


@pytest.mark.slow  # only another moto can change it, and the test below tells of that
@pytest.mark.parametrize("name", NAMES)
def test_moto_still_lacks_what_the_lab_mends(found: dict[str, bool], name: str) -> None:
    assert found[name], f"moto {version('moto')} no longer needs the mend for: {name.replace('_', ' ')}"


def test_the_mends_were_written_for_the_moto_that_is_pinned() -> None:
    (pinned,) = re.findall(r"^moto\[server\]==(\S+)", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE)
    assert version("moto") == pinned
    mended = {
        text
        for path in (REPOSITORY / "lab" / "services").rglob("*.py")
        for text in re.findall(r"moto (\d+\.\d+\.\d+)", path.read_text())
    }
    assert mended == {pinned}
