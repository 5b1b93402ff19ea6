"""The texts of warnings against the code that completes them; a warning may be too rare for a run of a test."""

import ast
import string
import tomllib
from pathlib import Path

from analysis.estimate import warnings

TEXTS = tomllib.loads(warnings.TEXTS.read_text(encoding="utf-8"))


def given():
    """By code, the names that every warning of the module gives its texts; `count` where there is one."""
    found = {}
    for call in ast.walk(ast.parse(Path(warnings.__file__).read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call) or not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if function in ("_warning", "about"):
            names = {keyword.arg for keyword in call.keywords}
            counted = {"count"} if function == "about" or len(call.args) > 2 else set()
            found.setdefault(call.args[0].value, []).append(names | counted)
    return found


def placeholders(text):
    return {name.partition(".")[0] for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_placeholder_of_a_warning_is_filled_in_wherever_it_is_given():
    for code, uses in given().items():
        for names in uses:
            assert placeholders(TEXTS[code]["message"]) <= names, code
            assert placeholders(TEXTS[code]["advice"]) <= names - {"count"}, code


def test_every_text_belongs_to_a_warning():
    by_outcome = {"out_of_memory", "init_timeout", "timeout"}
    assert set(TEXTS) == set(given()) | by_outcome
    assert all(placeholders(TEXTS[code]["message"]) <= {"count"} for code in by_outcome)
