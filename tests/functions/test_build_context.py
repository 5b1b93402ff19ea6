"""The build context as the CDK stages it: without what .dockerignore leaves out, and with all that COPY takes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from core.paths import REPOSITORY
from lab.images.base import make_base
from lab.images.build_plan import BuildRequest, Plan
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
    plan = Plan(BuildRequest(tmp_path, tmp_path / "Dockerfile", {"ENGINE": "litert"}))
    assert len(plan.final.keys) == len(plan.final.instructions)


def test_lambdas_user_can_read_every_file_whatever_the_hosts_umask() -> None:
    copies = re.findall(r"^COPY (.*)$", (FUNCTION / "Dockerfile").read_text(), flags=re.MULTILINE)
    from_context = [line for line in copies if "--from=" not in line]
    assert len(from_context) > 5
    assert all(line.startswith("--chmod=755 ") for line in from_context)


@pytest.mark.parametrize(
    ("name", "staged"),
    [
        *((name, False) for name in (".env", "notes.txt", "handler.py.orig", "model/graph.pb", "results/run/a.json")),
        *((name, False) for name in ("engines/key.pem", "engines/__pycache__/litert.pyc", "requirements/common.in")),
        *((name, True) for name in ("handler.py", "engines/litert.py", "requirements/litert.txt", "making/model.py")),
        *((name, True) for name in ("images/cat.jpg", "models/own.onnx", "models/own/variables/variables.index")),
    ],
)
def test_only_what_the_dockerfile_copies_is_in_the_context_and_its_hash(name: str, staged: bool) -> None:
    assert matcher((FUNCTION / ".dockerignore").read_text())(name) != staged


def test_a_base_is_made_again_where_an_earlier_lab_left_one(tmp_path: Path) -> None:
    assert make_base(tmp_path / "base") == make_base(tmp_path / "base")
