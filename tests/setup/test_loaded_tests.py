"""`tools/loaded-tests` with a stand-in for make."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from core.paths import REPOSITORY
from tests.processes import is_alive

# It passes in its first run, fails in its second, and notes the busy loops beside it.
MAKE = """#!/bin/sh
ps -o pid= --ppid "$PPID" > "$NOTES/beside"
echo run >> "$NOTES/runs"
[ "$(wc -l < "$NOTES/runs")" -eq "$FAILS" ] || { echo "3 passed in 1.00s"; exit 0; }
echo "FAILED tests/test_wings.py::test_flight - AssertionError"
echo "1 failed, 2 passed in 1.00s"
exit 2
"""


def started(folder: Path, runs: int, *, fails: int = 0, make: str = MAKE) -> subprocess.Popen[str]:
    (folder / "make").write_text(make)
    (folder / "make").chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "NOTES": str(folder), "TMPDIR": str(folder)}
    command = [REPOSITORY / "tools" / "loaded-tests", str(runs)]
    return subprocess.Popen(
        command,
        env={**os.environ, **variables, "FAILS": str(fails)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def loops(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "beside").read_text().split()]


@pytest.mark.parametrize(("fails", "code", "results"), [(0, 0, ["passed", "passed"]), (2, 2, ["passed", "FAILED"])])
def test_each_run_is_one_line_and_a_failed_one_names_its_tests(
    tmp_path: Path, fails: int, code: int, results: list[str]
) -> None:
    process = started(tmp_path, 2, fails=fails)
    lines = process.communicate()[0].splitlines()
    assert process.returncode == code
    assert [line.split()[4] for line in lines if line.startswith("run ")] == results
    assert ("  FAILED tests/test_wings.py::test_flight - AssertionError" in lines) == bool(fails)
    assert len(loops(tmp_path)) >= 2 * len(os.sched_getaffinity(0))
    assert not any(is_alive(pid) for pid in loops(tmp_path))


def test_ctrl_c_ends_the_loops(tmp_path: Path) -> None:
    waiting = '#!/bin/sh\nps -o pid= --ppid "$PPID" > "$NOTES/beside"\nkill -INT "-$PPID"\nsleep 600\n'
    process = started(tmp_path, 2, make=waiting)
    process.communicate()
    assert process.returncode == 130
    assert len(loops(tmp_path)) >= 2 * len(os.sched_getaffinity(0))
    assert not any(is_alive(pid) for pid in loops(tmp_path))


def test_a_number_of_runs_that_is_none_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [REPOSITORY / "tools" / "loaded-tests", "many"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "RUNS is many" in done.stderr
