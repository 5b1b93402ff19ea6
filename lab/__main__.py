"""`inference-lab lab`: serve, env, urls, doctor, docker, try."""

from __future__ import annotations

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
from core.errors import run_command
from lab.cli import build_parser, main

__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    run_command("lab", main)
