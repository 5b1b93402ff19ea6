"""Compile the packages that functions import, as `pip install` does when it builds an image.

The lab runs functions with PYTHONDONTWRITEBYTECODE, and uv does not compile what it installs. Without this step, every
cold start would compile TensorFlow's sources. All other packages are compiled when they are first imported.
"""

from __future__ import annotations

import compileall
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

from core.paths import REPOSITORY

RUNTIME_CLIENT = "awslambdaric"  # in every base image, so in no function's requirements


def required_names(text: str) -> list[str]:
    """Return the names of the packages in the text of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line).name for line in lines if line and not line.startswith("-")]


def sources(names: list[str]) -> set[str]:
    """Return the Python files of the named packages and of everything that they require.

    A package that is not installed is for another platform and is skipped.
    """
    found: set[str] = set()
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found |= {str(file.locate()) for file in package.files or [] if file.suffix == ".py"}
        wanted = map(Requirement, package.requires or [])
        names += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def compile_file(path: str) -> None:
    """Compile one file if its bytecode is missing or older. A file that is no valid Python is left alone."""
    compileall.compile_file(path, quiet=2)


if __name__ == "__main__":
    requirements = sorted(REPOSITORY.glob("functions/*/requirements*.txt"))
    names = [name for path in requirements for name in required_names(path.read_text(encoding="utf-8"))]
    with ProcessPoolExecutor() as pool:
        list(pool.map(compile_file, sorted(sources([*names, RUNTIME_CLIENT])), chunksize=50))
