"""Children that end with their parent, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from core.paths import REPOSITORY

PARENT = """
import signal, sys
from core.program.processes import start_child
child = start_child(
    [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
    start_new_session=True, ends_with=signal.{number},
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


INTERRUPTED = """
import os, signal, sys
from core.program.processes import start_child
os.register_at_fork({hook}=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    start_child([sys.executable, "-c", "import time; time.sleep(600)"])
except KeyboardInterrupt:
    print("interrupted")
else:
    print("lost")
"""


@pytest.mark.parametrize("hook", ["before", "after_in_parent"])
def test_ctrl_c_while_a_child_starts_is_not_lost_and_ends_the_child(hook: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(hook=hook)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


# Sends Ctrl-C while the named command imports what it needs.
STARTING = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "core.program.command_line":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = [{name!r}, "--help"]
{run}
"""
COMMANDS = {
    name: f"runpy.run_module({name!r}, run_name='__main__')"
    for name in ("experiments", "lab", "analysis", "demo", "bench", "trial")
}
COMMANDS["collect"] = "runpy.run_path('analysis/collect.py', run_name='__main__')"


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_while_a_command_starts_ends_it_without_a_traceback(name: str) -> None:
    program = STARTING.format(name=name, run=COMMANDS[name])
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
