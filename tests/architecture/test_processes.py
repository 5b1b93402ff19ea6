"""No program that a command starts outlives the command, however it ends."""

from __future__ import annotations

import ast
import itertools

from core.paths import REPOSITORY
from tests.architecture.test_imports import ROOMS, python_files

SEAM = "core/program/processes.py"
# What else starts a program without the kernel's request, and why it ends all the same:
OTHERS = {
    "lab/drivers/process.py": "the launcher ends at the end of its socket",
    "lab/storage/database.py": "the writer ends at the end of its socket, when it has written what is in it",
    "bench/bench_lab.py": "a program that does nothing, timed against the start of an environment",
}


def test_every_program_ends_with_the_command_that_started_it():
    found = set()
    for path in (path for room in (*ROOMS, "bench") for path in python_files(room)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("subprocess.Popen"):
                found.add(path.relative_to(REPOSITORY).as_posix())
    assert found == {SEAM, *OTHERS}


def test_nothing_calls_pip_which_the_virtual_environment_does_not_have():
    for path in (path for room in (*ROOMS, "bench") for path in python_files(room)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List | ast.Tuple):
                words = [word.value for word in node.elts if isinstance(word, ast.Constant)]
                assert ("-m", "pip") not in itertools.pairwise(words), path
