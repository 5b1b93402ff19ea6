"""A command of the project, run inside the test's own process: starting Python costs more than most commands."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

import pytest

from core.errors import run_command
from core.paths import REPOSITORY
from lab.limits.scope import ENTERED


def run_here(
    program: str,
    main: Callable[[Sequence[str]], int],
    *arguments: str,
    cwd: Path = REPOSITORY,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Return the exit code and output of the command; `variables` replace the environment. Unexpected errors rise."""
    # A lab enters a systemd scope by replacing its process, which is the test's here.
    environment = {**(os.environ if variables is None else variables), ENTERED: "1"}
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch("sys.stdin", io.StringIO("password")),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.raises(SystemExit) as left,
    ):
        run_command(program, lambda: main(arguments))
    return subprocess.CompletedProcess(arguments, left.value.code, out.getvalue(), err.getvalue())
