"""The manifest that a run writes before its first call."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from core.configuration import Configuration
from core.paths import REPOSITORY
from core.run.records import EndpointFacts, Experiment, Manifest

# What may change a figure: the clients that measure, and what the lab runs the functions with.
PACKAGES: Final = ("aws-cdk-lib", "boto3", "locust", "gevent", "moto", "awslambdaric", "uv")


def new_manifest(
    run_id: str,
    configuration: Configuration,
    endpoint: EndpointFacts,
    experiments: Sequence[Experiment],
    *,
    prices_date: str = "",
) -> Manifest:
    """The manifest of a run that starts now."""
    return Manifest(
        run_id=run_id,
        started_at=time.time(),
        endpoint=endpoint,
        configuration=configuration.model_dump(mode="json"),
        profile=configuration.profile,
        experiments=tuple(experiments),
        seed=configuration.experiments.seed,
        versions=versions(),
        commit=commit(),
        prices_date=prices_date,
    )


def versions() -> dict[str, str]:
    """Versions of Python, of this project and of the packages that may change a figure."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(directory: Path = REPOSITORY) -> str:
    """The commit checked out, with "-dirty" where files differ from it; "" where there is no git to ask."""
    try:
        head = _git(directory, "rev-parse", "--short=12", "HEAD")
        dirty = _git(directory, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}-dirty" if dirty else head


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
