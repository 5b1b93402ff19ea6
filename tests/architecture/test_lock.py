"""The lock file matches the requirements and works with any registry."""

from __future__ import annotations

import re
import subprocess

import pytest

from core.paths import REPOSITORY


def test_requirements_lock_matches_the_requirements():
    done = subprocess.run([REPOSITORY / "tools/setup", "check-lock"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["requirements.lock", "package-lock.json"])
def test_a_lock_file_names_no_registry(name):
    assert "://" not in (REPOSITORY / name).read_text(encoding="utf-8")


def test_every_locked_package_has_a_hash():
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    packages = [number for number, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
    assert packages
    for number in packages:
        assert "--hash=sha256:" in lines[number + 1], lines[number]
