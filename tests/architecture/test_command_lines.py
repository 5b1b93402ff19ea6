"""A command that is called wrongly, or in a wrong environment, says so and leaves with 1; 2 is a check that failed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from core.paths import REPOSITORY


@pytest.mark.parametrize("package", ["experiments", "analysis", "bench", "demo"])
def test_an_unknown_option_is_an_error_and_no_failed_check(package, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [package, "--unheard-of"])
    with pytest.raises(SystemExit) as left:
        importlib.import_module(f"{package}.__main__").main()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert "usage: " in said
    assert "error: " in said


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "experiments", "preflight"],
        ["-m", "experiments", "warm", "--dry-run"],
        ["analysis/collect.py"],
        ["-m", "locust", "-f", "loadtests/locustfile.py", "--headless"],
    ],
    ids=["preflight", "dry-run", "collect", "locust"],
)
def test_an_aws_profile_that_is_not_there_is_named_with_what_to_do(words, tmp_path):
    cut = ("AWS_", "BENCHMARK_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(cut)}
    environment |= {"HOME": str(tmp_path), "AWS_PROFILE": "nobody"}
    done = subprocess.run(
        [sys.executable, *words],
        check=False,
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "The config profile (nobody) could not be found" in done.stderr
    assert "aws configure list-profiles" in done.stderr
    assert "Traceback" not in done.stderr
