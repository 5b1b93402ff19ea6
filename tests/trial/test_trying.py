"""`inference-lab lab try` with a folder that knows nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from core.errors import UserError
from core.paths import REPOSITORY
from trial import __main__ as trial

HANDLER = """
def handler(event, context):
    return {"greeting": "hello " + event["name"]}
"""
DOCKERFILE = """
FROM public.ecr.aws/lambda/python:3.12
COPY main.py ${LAMBDA_TASK_ROOT}/
CMD ["main.handler"]
"""


def trying(*words):
    return subprocess.run(
        [sys.executable, "-m", "lab", "try", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path):
    directory = tmp_path / "greeter"
    directory.mkdir()
    (directory / "main.py").write_text(HANDLER)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


@pytest.mark.slow
def test_a_tiny_function_is_tried_without_editing_a_file(folder, tmp_path):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"name": "Ada"}))
    done = trying(str(folder), "--event", str(event), "--memory-mb", "256", "1024")
    assert done.returncode == 0, done.stderr
    assert "Smallest size that runs: 256 MB" in done.stdout
    assert "not a cloud figure" in done.stdout
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[2:]] == ["256", "1,024"]
    for row in rows[2:]:
        assert row[2].strip() == "6", "cold starts"
        assert " to " in row[3], "an interval"
        assert "$" in row[-1]


@pytest.mark.slow
def test_a_function_that_refuses_the_event_says_why_and_exits_with_2(folder):
    done = trying(str(folder), "--memory-mb", "512")
    assert done.returncode == 2, done.stderr
    assert "KeyError" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_dockerfile_is_refused_with_what_to_do(tmp_path):
    done = trying(str(tmp_path))
    assert done.returncode == 1
    assert "has no Dockerfile" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", ["{", '{"limit": NaN}', '{"limit": 1e999}', "-Infinity"])
def test_an_event_that_is_not_json_is_refused(folder, tmp_path, content):
    event = tmp_path / "event.json"
    event.write_text(content)
    with pytest.raises(UserError, match="is not an event"):
        trial.main([str(folder), "--event", str(event)])
