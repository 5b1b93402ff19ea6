"""Children that end with their parent, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from core.paths import REPOSITORY

PARENT = """
import signal, subprocess, sys
from core.processes import ending_with_this_process
child = subprocess.Popen(
    [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
    start_new_session=True, preexec_fn=ending_with_this_process(signal.{number}),
)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked to end a child with its parent")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_child_ends_when_its_parent_is_killed(number: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(number=number)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"

    parent.send_signal(signal.SIGKILL)

    assert parent.stdout.read() == ""  # the child holds the pipe open as long as it lives
    parent.wait()
