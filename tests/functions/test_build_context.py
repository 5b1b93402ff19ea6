"""The build context as the CDK stages it: without what .dockerignore leaves out, and with all that COPY takes."""

from __future__ import annotations

import shutil
from pathlib import Path

from core.paths import REPOSITORY
from lab.images.base import make_base
from lab.images.build_plan import BuildRequest, read_plan
from lab.images.dockerignore import matcher

FUNCTION = REPOSITORY / "functions" / "inference"


def test_the_staged_context_of_a_fresh_checkout_has_all_that_the_dockerfile_copies(tmp_path: Path) -> None:
    ignored = matcher((FUNCTION / ".dockerignore").read_text())
    for path in FUNCTION.rglob("*"):
        relative = path.relative_to(FUNCTION)
        # A checkout has no empty folders, and neither has what the CDK stages.
        if path.is_file() and (not ignored(relative.as_posix()) or relative.name in {"Dockerfile", ".dockerignore"}):
            (tmp_path / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, tmp_path / relative)
    plan = read_plan(BuildRequest(tmp_path, tmp_path / "Dockerfile", {"ENGINE": "litert"}))
    assert len(plan.final.keys) == len(plan.final.instructions)


def test_a_base_is_made_again_where_an_earlier_lab_left_one(tmp_path: Path) -> None:
    assert make_base(tmp_path / "base") == make_base(tmp_path / "base")
