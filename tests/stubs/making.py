"""Make stub functions with defaults of their own, for tests that deploy one through the CDK app."""

from __future__ import annotations

import shutil
from pathlib import Path

STUB = Path(__file__).parent / "stub"


def write_stub(directory: Path, **settings: object) -> Path:
    """Copy the stub into `directory` with settings as its image's environment: `write_stub(path, sleep_ms=200)`.

    Returns the directory, for `[function] directory` of a benchmark.toml; the settings are listed in the
    stub's handler.py.
    """
    shutil.copytree(STUB, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    lines = "".join(f'ENV STUB_{name.upper()}="{value}"\n' for name, value in settings.items())
    dockerfile = directory / "Dockerfile"
    text = dockerfile.read_text(encoding="utf-8")
    dockerfile.write_text(text.replace("COPY handler.py", f"{lines}COPY handler.py"), encoding="utf-8")
    return directory
