"""Entering a delegated systemd scope: with a replacement for systemd-run, and with the real one where there is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.paths import REPOSITORY
from lab.limits.probe import mounted_hierarchies
from tests.lab.robustness.support import wait_until
from tests.lab_support import running_lab

PROGRAM = """
import os, pathlib, sys
os.geteuid = lambda: 1000
sys.path.insert(0, {repository!r})
from lab.limits import scope
scope._PATIENCE_S = 600.0
scope.enter(["doctor", "--json"], unified=pathlib.Path({unified!r}))
print("stayed")
"""


@pytest.fixture
def enter(tmp_path):
    """Run `enter` with a systemd-run that answers as told; returns its output and the pid it had."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory")

    def run(script, unified="cgroup.controllers", **variables):
        path = tmp_path / "systemd-run"
        if script is not None:
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        program = PROGRAM.format(repository=str(REPOSITORY), unified=str(tmp_path / unified))
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path), **variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        output, _ = process.communicate(timeout=600)
        return process.pid, output

    return run


SCOPE = ("--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--")
GRANTS = 'case "$*" in *" true") exit 0 ;; *) echo "$$ $LAB_IN_SCOPE $*" ;; esac'


def test_the_lab_becomes_the_same_command_in_a_delegated_scope(enter):
    pid, output = enter(GRANTS)
    assert output == f"{pid} 1 {' '.join(SCOPE)} {sys.executable} -m lab doctor --json\n"


def test_a_refused_scope_leaves_the_lab_as_it_is(enter):
    assert enter("exit 1")[1] == "stayed\n"


def test_a_lab_in_a_scope_enters_no_other(enter):
    assert enter(GRANTS, LAB_IN_SCOPE="1")[1] == "stayed\n"


def test_without_systemd_or_without_cgroup_v2_nothing_is_tried(enter):
    assert enter(None)[1] == "stayed\n"
    assert enter("touch tried; exit 0", unified="missing")[1] == "stayed\n"


def test_a_lab_in_a_real_scope_enforces_both_limits_and_leaves_no_scope(tmp_path):
    if os.geteuid() == 0 or shutil.which("systemd-run") is None:
        pytest.skip("systemd grants scopes to ordinary users")
    unified, _ = mounted_hierarchies(Path("/proc/mounts").read_text())
    shows = f'cat "{unified}$(sed -n s/^0:://p /proc/self/cgroup)/cgroup.controllers"'
    granted = subprocess.run(["systemd-run", *SCOPE, "sh", "-c", shows], capture_output=True, text=True, check=False)
    if not {"cpu", "memory"} <= set(granted.stdout.split()):
        pytest.skip(f"systemd grants no CPU and memory controllers: {granted.stdout}{granted.stderr}")
    with running_lab(state=tmp_path) as lab:
        limits = lab.status()["limits"]
        group = unified / Path(f"/proc/{lab.process.pid}/cgroup").read_text().strip().removeprefix("0::/")
        assert lab.stop(signal.SIGINT) == 0
    assert limits == {"driver": "process", "cpu": "cgroup-v2", "memory": "cgroup-v2", "freezer": "cgroup-v2"}
    assert (group.parent.suffix, group.name) == (".scope", "inference-lab")
    wait_until(lambda: not group.parent.exists(), "the end of the scope")
