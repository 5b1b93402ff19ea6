"""What `make test` and `make test-all` leave out, they say: with the reason, and counted in their last line."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from core.paths import REPOSITORY

SKIPPING = """
import pytest

@pytest.mark.skipif(True, reason="this host has no wings")
def test_flight(): pass

@pytest.mark.slow
def test_of_the_slow_tier(): pytest.skip("no runway")

def test_walk(): pass
"""


@pytest.mark.parametrize(
    ("tier", "reasons", "last"),
    [
        ("test", ["this host has no wings"], "1 passed, 1 skipped, 1 deselected in "),
        ("test-all", ["this host has no wings", "no runway"], "1 passed, 2 skipped in "),
    ],
)
def test_a_tier_tells_each_reason_and_counts_skips_in_its_last_line(
    tier: str, reasons: list[str], last: str, tmp_path: Path
) -> None:
    file = tmp_path / "test_skipping.py"
    file.write_text(SKIPPING)
    # `make test` runs this, too, and a make below another one says so in its last line.
    alone = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    asked = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", tier],
        cwd=REPOSITORY,
        env=alone,
        capture_output=True,
        text=True,
        check=True,
    )
    command = [*shlex.split(asked.stdout.splitlines()[-1]), "-n", "0", f"--config-file={REPOSITORY}/pyproject.toml"]
    done = subprocess.run([*command, str(file)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith(last)
    assert all(reason in done.stdout for reason in reasons)


def test_every_skip_has_a_reason() -> None:
    without = [
        f"{path.relative_to(REPOSITORY)}:{call.lineno}"
        for path in (REPOSITORY / "tests").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        if (name := ast.unparse(call.func)).endswith((".skip", ".skipif"))
        if not (any(keyword.arg == "reason" for keyword in call.keywords) or (name.endswith(".skip") and call.args))
    ]
    assert without == []
