"""JSON is read and written strictly in every room: no NaN and no Infinity comes in or goes out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from core.paths import REPOSITORY
from tests.architecture.test_imports import ROOMS, python_files

SEAM = "core/strict_json.py"
# The lab takes what callers send through the seam. What these files parse is not a caller's JSON:
LAB_READS = {
    "lab/drivers/launcher.py": "messages of the lab to its launcher",
    "lab/drivers/process.py": "messages of the launcher to its lab",
    "lab/images/image_store.py": "the store's own files",
}
# A function's image holds no other room, so each of its calls says that it is strict.
STRICT_KEYWORDS = {"loads": "parse_constant", "dumps": "allow_nan"}


def parsed(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    """Name and tree of each file that has to do with JSON."""
    for path in (path for room in rooms for path in python_files(room)):
        text = path.read_text(encoding="utf-8")
        if "json" in text or "ConfigDict" in text:
            yield path.relative_to(REPOSITORY).as_posix(), ast.parse(text)


def names_of_json(tree: ast.AST) -> set[str]:
    """What a file uses of the standard library's `json`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "json":
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == "json":
            found.update(alias.name for alias in node.names)
    return found


def calls(tree: ast.AST, *names: str) -> Iterator[tuple[str, set[str | None]]]:
    """Name and keywords of each call of one of these functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in names:
                yield name, {keyword.arg for keyword in node.keywords}


def test_only_one_file_uses_the_standard_librarys_json() -> None:
    rooms = sorted(set(ROOMS) - {"lab", "functions"})
    users = {name for name, tree in parsed(*rooms, "bench", "tools") if names_of_json(tree)}
    if names_of_json(ast.parse((REPOSITORY / "app.py").read_text(encoding="utf-8"))):
        users.add("app.py")
    assert users == {SEAM}, "use core.strict_json"


def test_the_lab_parses_only_its_own_files_and_messages_without_it() -> None:
    readers = {name for name, tree in parsed("lab") if names_of_json(tree) & {"load", "loads", "JSONDecoder"}}
    assert readers == set(LAB_READS), "use core.strict_json"


def test_a_function_says_at_each_call_that_its_json_is_strict() -> None:
    for name, tree in parsed("functions"):
        assert names_of_json(tree) <= set(STRICT_KEYWORDS), name
        for called, keywords in calls(tree, *STRICT_KEYWORDS):
            assert STRICT_KEYWORDS[called] in keywords, name


def test_every_other_parser_of_json_is_strict() -> None:
    """pydantic's takes NaN by default; a model without a configuration of its own inherits one."""
    lax = {
        f"{name}: {called}"
        for name, tree in parsed(*ROOMS)
        for called, keywords in calls(tree, "from_json", "ConfigDict")
        if "allow_inf_nan" not in keywords
    }
    assert not lax
