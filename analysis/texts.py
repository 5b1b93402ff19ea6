"""Reads the long texts of a module, which lie in a TOML file beside it."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def texts(path: Path) -> dict[str, dict[str, Any]]:
    """Return the texts of a file, by key; who uses one fills in its placeholders in braces."""
    return tomllib.loads(path.read_text(encoding="utf-8"))
