"""Imports run one way, and names do not collide."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from core.paths import REPOSITORY

# What each room may import of ours, as docs/explanation/design.md says; a room may always import itself.
ROOMS = {
    "core": set(),
    "stacks": {"core"},
    "lab": {"core"},
    "loadtests": {"core"},
    "experiments": {"core", "loadtests"},
    "simulation": {"core"},
    "analysis": {"core", "simulation"},
    "functions": set(),
    "demo": {"core", "lab"},
    "trial": {"core", "lab", "experiments", "analysis", "demo"},
    "inference_lab": {"core"},
    "tools": {"core"},
}


def python_files(room):
    """The files of a room; not what a bench has installed of its peers below `raw`."""
    paths = (REPOSITORY / room).rglob("*.py")
    return sorted(path for path in paths if not {"node_modules", "raw"} & set(path.parts))


def imported(path):
    """Top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room):
    files = python_files(room)
    assert files, f"{room}/ holds no Python file"
    allowed = ROOMS[room] | ({room} if room != "functions" else set())
    for path in files:
        wrong = (set(imported(path)) & set(ROOMS)) - allowed
        assert not wrong, f"{path.relative_to(REPOSITORY)} imports {', '.join(sorted(wrong))}"


def test_the_design_page_names_every_folder():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    folders = {line.partition("/")[0] for line in listed.splitlines() if "/" in line}
    page = (REPOSITORY / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    missing = {folder for folder in folders if f"`{folder}/" not in page}
    assert not missing


def test_a_function_imports_nothing_of_ours_since_it_stands_alone_in_its_image():
    ours = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {"functions"}
    for path in python_files("functions"):
        siblings = {sibling.stem for sibling in path.parent.glob("*.py")}
        wrong = (set(imported(path)) & ours) - siblings
        assert not wrong, f"{path.relative_to(REPOSITORY)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("room", ["analysis", "loadtests"])
def test_no_module_that_may_stand_first_on_the_path_bears_a_standard_librarys_name(room):
    # `python analysis/collect.py` puts analysis/ before the standard library, and Locust its file's folder.
    names = {path.stem if path.suffix == ".py" else path.name for path in (REPOSITORY / room).iterdir()}
    assert not names & set(sys.stdlib_module_names)


def test_every_package_imports_without_reaching_for_aws():
    # An import that makes a client, reads credentials or a run would break `--help` and every test.
    program = "import " + ", ".join(sorted(set(ROOMS) - {"functions", "stacks"}))
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, env={"PATH": "/usr/bin:/bin"})


def paths_named(path):
    """Folders and files of the repository that a file names in its code: parts of a path and whole paths."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield str(node.right.value).split("/")[0]
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\w+/[\w./-]+", node.value)
        ):
            yield node.value.split("/")[0]


@pytest.mark.parametrize("room", sorted(set(ROOMS) - {"functions"}))
def test_a_room_names_no_folder_or_file_of_another_room(room):
    """What two rooms need is named once, in core/paths.py; a path that is spelt twice breaks when a file moves."""
    for path in python_files(room):
        if path.relative_to(REPOSITORY).as_posix() == "core/paths.py":
            continue
        wrong = set(paths_named(path)) & (set(ROOMS) - {room})
        assert not wrong, f"{path.relative_to(REPOSITORY)} names {', '.join(sorted(wrong))}/: use core.paths"
