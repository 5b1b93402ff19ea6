"""The folders and files of this repository that more than one room reads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
RESULTS_DIRECTORY: Final = Path("results")  # of the current folder; holds every run
BENCHMARK_TOML: Final = REPOSITORY / "benchmark.toml"
PRICES_TOML: Final = REPOSITORY / "core" / "prices.toml"
COLLECT: Final = REPOSITORY / "analysis" / "collect.py"
LOCUSTFILE: Final = REPOSITORY / "loadtests" / "locustfile.py"
LOAD_DOCKERFILE: Final = REPOSITORY / "loadtests" / "Dockerfile"  # its build context is the repository
SETUP: Final = REPOSITORY / "tools" / "setup"
NODE_COMMANDS: Final = REPOSITORY / "node_modules" / ".bin"  # the CDK command line, among others
COMMANDS_PAGE: Final = REPOSITORY / "docs" / "reference" / "commands.md"
