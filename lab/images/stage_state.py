"""What the steps of one stage have made so far, and where that is on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lab.images.build_plan import BASE_ENVIRONMENT
from lab.images.dockerfile import ENGINE_HINT, DockerfileError
from lab.images.image_store import TASK_ROOT


@dataclass
class StageState:
    """What instructions have made so far."""

    root: Path  # represents LAMBDA_TASK_ROOT
    key: str
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: dict(BASE_ENVIRONMENT))
    labels: dict[str, str] = field(default_factory=dict)
    working_directory: PurePosixPath = field(default_factory=lambda: PurePosixPath(TASK_ROOT))
    command: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        return {**self.arguments, **self.environment}

    def host_path(self, path: str | PurePosixPath) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / os.path.relpath(os.path.normpath(path), TASK_ROOT)


def check_inside(path: str, line: int) -> None:
    """Raise DockerfileError unless this path of the image is below LAMBDA_TASK_ROOT."""
    normal = os.path.normpath(path)
    if normal != TASK_ROOT and not normal.startswith(f"{TASK_ROOT}/"):
        raise DockerfileError(
            f"line {line}: {path} lies outside of LAMBDA_TASK_ROOT ({TASK_ROOT}), which is all of an image that the "
            "lab keeps",
            hint=f"Copy below ${{LAMBDA_TASK_ROOT}}. {ENGINE_HINT}",
        )
