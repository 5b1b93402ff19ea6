"""The replacement for AWS's base image without an engine: this Python and only the runtime client."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sysconfig
import venv
from pathlib import Path
from typing import Final

PACKAGES: Final = ".packages"  # below an image's root: what `pip install` put into the image's Python
RUNTIME_CLIENT: Final = "awslambdaric"


def make_base(directory: Path) -> Path:
    """Make a virtual environment with the runtime client, in place of an earlier one; returns its interpreter.

    The client comes from the project's own environment, so nothing is fetched.
    """
    venv.EnvBuilder(symlinks=True, clear=True).create(directory)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(directory), "platbase": str(directory)}))
    for name in _with_dependencies(RUNTIME_CLIENT):
        for file in importlib.metadata.files(name) or ():
            source = Path(str(file.locate()))
            if ".." in file.parts or not source.is_file():
                continue  # scripts are outside; bytecode may be missing
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(source, target)
    return directory / "bin" / "python"


def _with_dependencies(name: str) -> set[str]:
    found, waiting = set(), [name]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        found.add(package)
        needed = (text for text in importlib.metadata.requires(package) or () if "extra ==" not in text)
        waiting += [re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in needed]
    return found


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
