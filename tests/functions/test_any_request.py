"""The whole handler against any event, any file that passes for a picture, and any scores of a model."""

from __future__ import annotations

import copy
import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from snapshot_restore_py import get_after_restore

from core.paths import REPOSITORY
from tests.functions.test_events import JSON, SHAPED

CLASSES = 7
MODULES = ("handler", "classifier", "events", "pictures", "preprocessing", "engines", "engines.litert")
CONTEXT = SimpleNamespace(aws_request_id="5f6c1b9e-0000-4000-8000-000000000000")


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 30, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


WHOLE = jpeg()
NAMES = st.sampled_from(["a.jpg", "b.jpg", "c.jpg"])
ASKED = st.builds(lambda name: {"httpMethod": "GET", "queryStringParameters": {"image": name}}, NAMES)
FILES = st.one_of(
    st.just(WHOLE),
    st.binary(max_size=40),
    st.integers(0, len(WHOLE)).map(lambda length: WHOLE[:length]),
    st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4)).map(
        lambda change: WHOLE[: change[0]] + change[1] + WHOLE[change[0] + len(change[1]) :]
    ),
)
SCORES = st.lists(st.floats(width=32), min_size=CLASSES, max_size=CLASSES)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The handler in this process, with an engine that gives the scores it is told."""
    root = tmp_path_factory.mktemp("task")
    (root / "model").mkdir()
    (root / "images").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (root / "images" / name).write_bytes(WHOLE)
    metadata = {"model": "tiny", "engine": "litert", "weights": "own", "input_size": 4, "preprocessing": "tf"}
    metadata |= {"layout": "NHWC", "output": "logits", "labels": []}
    metadata |= {"signature": {"input": "i", "output": "o", "input_shape": [1, 4, 4, 3]}}
    (root / "model" / "metadata.json").write_text(json.dumps(metadata))
    engine = ModuleType("engines.litert")
    told: list[Any] = [np.zeros((1, CLASSES), np.float32)]
    vars(engine)["load"] = lambda _model, *, threads: lambda _batch: told[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "functions" / "inference"))
        patch.setenv("LAMBDA_TASK_ROOT", str(root))
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        patch.setitem(sys.modules, "engines.litert", engine)
        module = importlib.import_module("handler")
        vars(module).update(told=told, images=root / "images")
        yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def strict(text: str) -> Any:
    """Parse JSON as the standard has it, which knows no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


@settings(max_examples=40)
@given(event=st.one_of(ASKED, st.builds(dict, image=NAMES), JSON, SHAPED), content=FILES, scores=SCORES)
def test_any_request_is_a_200_or_a_4xx_with_a_reason(
    function: ModuleType, capsys: pytest.CaptureFixture[str], event: object, content: bytes, scores: list[float]
) -> None:
    Path(function.images / "b.jpg").write_bytes(content)
    function.told.append(np.asarray([scores], np.float32))
    answer = strict(json.dumps(function.handler(event, CONTEXT)))
    status = answer.get("statusCode", 200)
    body = strict(answer["body"]) if "body" in answer else answer
    assert status in {200, 400, 422}
    if status == 200:
        probabilities = [row["probability"] for row in body["top5"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 <= probability <= 1 for probability in probabilities)
    else:
        assert body["error"]
    for line in capsys.readouterr().out.splitlines():
        assert strict(line)["event"] == ("inference" if status == 200 else "refused")


@pytest.mark.parametrize("scores", [[float("nan")] * CLASSES, [float("inf"), *[0.0] * (CLASSES - 1)]])
def test_scores_that_are_not_finite_are_a_422(function: ModuleType, scores: list[float]) -> None:
    function.told.append(np.asarray([scores], np.float32))
    answer = function.handler({"image": "a.jpg"}, CONTEXT)
    assert answer["statusCode"] == 422
    assert "not finite" in answer["error"]


def test_environments_restored_from_one_snapshot_have_ids_and_times_of_their_own(
    function: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert function.restored in {hook for hook, *_ in get_after_restore()}
    function.told.append(np.zeros((1, CLASSES), np.float32))
    monkeypatch.setattr(function, "start_phases", dict(function.start_phases))
    snapshot, answers = function.Environment(), []
    snapshot.ready_at -= 3600  # it was taken an hour before
    for _ in range(2):
        monkeypatch.setattr(function, "environment", copy.copy(snapshot))
        function.restored()
        answers.append(function.handler({"image": "a.jpg"}, CONTEXT))
    assert len({answer["environment_id"] for answer in answers}) == 2
    for answer in answers:
        assert (answer["call_number"], answer["cold"]) == (1, True)
        assert set(answer["phases"].values()) == {None}, "no caller waited for them"
        assert 0 <= answer["init_to_call_ms"] < 3_600_000


@pytest.mark.parametrize(
    ("engine", "memory_mb", "given", "expected"),
    [
        *(("tensorflow", memory_mb, "", expected) for memory_mb, expected in ((128, 1), (1023, 1), (1024, 3))),
        *(("litert", memory_mb, "", expected) for memory_mb, expected in ((1768, 1), (1769, 3), (10_240, 3))),
        ("openvino", 0, "", 3),
        ("onnxruntime", 512, "2", 2),
        ("onnxruntime", 3008, "1", 1),
    ],
)
def test_a_small_function_has_one_thread_unless_told(
    function: ModuleType, monkeypatch: pytest.MonkeyPatch, engine: str, memory_mb: int, given: str, expected: int
) -> None:
    monkeypatch.setenv("INFERENCE_THREADS", given)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1, 2}, raising=False)
    assert function.classifier.threads(engine, memory_mb) == expected


def test_every_engine_says_from_which_size_threads_help(function: ModuleType) -> None:
    assert set(function.classifier.THREADS_FROM_MB) == set(importlib.import_module("engines").ENGINES)
