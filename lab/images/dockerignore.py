"""Which files of a build context a `.dockerignore` leaves out. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable


def matcher(text: str) -> Callable[[str], bool]:
    """A predicate over paths relative to the context, with `/`: True where the file is left out.

    Rules of https://docs.docker.com/build/concepts/context/#dockerignore-files: the last matching pattern decides, `!`
    takes back, `**` matches any number of folders, and a pattern that matches a folder holds for all in it.
    """
    rules: list[tuple[bool, re.Pattern[str]]] = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        back = line.startswith("!")
        pattern = posixpath.normpath(line.removeprefix("!").strip()).strip("/")
        rules.append((not back, _compile(pattern)))

    def ignored(path: str) -> bool:
        out = False
        for leaves_out, pattern in rules:
            if pattern.match(path):
                out = leaves_out
        return out

    return ignored


def _compile(pattern: str) -> re.Pattern[str]:
    expression = ""
    position = 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**/"):
            expression, position = expression + "(?:.*/)?", position + 3
        elif rest.startswith("**"):
            expression, position = expression + ".*", position + 2
        elif rest[0] == "*":
            expression, position = expression + "[^/]*", position + 1
        elif rest[0] == "?":
            expression, position = expression + "[^/]", position + 1
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2)
            inside = rest[1:end].replace("\\", "\\\\")
            inside = "^" + inside[1:] if inside[0] in "!^" else inside
            expression, position = expression + f"[{inside}]", position + end + 1
        else:
            expression, position = expression + re.escape(rest[0]), position + 1
    return re.compile(f"{expression}(?:/.*)?\\Z", re.DOTALL)
