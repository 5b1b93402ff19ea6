"""Entering a delegated systemd scope, with a stand-in for systemd-run: the tests do not need a systemd user session."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from core.paths import REPOSITORY

PROGRAM = """
import os, pathlib, sys
os.geteuid = lambda: 1000
sys.path.insert(0, {repository!r})
from lab.limits import scope
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


GRANTS = 'case "$*" in *" true") exit 0 ;; *) echo "$$ $LAB_IN_SCOPE $*" ;; esac'


def test_the_lab_becomes_the_same_command_in_a_delegated_scope(enter):
    pid, output = enter(GRANTS)
    options = "--user --scope --quiet --collect --property=Delegate=yes --"
    assert output == f"{pid} 1 {options} {sys.executable} -m lab doctor --json\n"


def test_a_refused_scope_leaves_the_lab_as_it_is(enter):
    assert enter("exit 1")[1] == "stayed\n"


def test_a_lab_in_a_scope_enters_no_other(enter):
    assert enter(GRANTS, LAB_IN_SCOPE="1")[1] == "stayed\n"


def test_without_systemd_or_without_cgroup_v2_nothing_is_tried(enter):
    assert enter(None)[1] == "stayed\n"
    assert enter("touch tried; exit 0", unified="missing")[1] == "stayed\n"
