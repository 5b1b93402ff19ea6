"""The handler in a real awslambdaric process with the real TensorFlow models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.run.records import HandlerFacts
from lab.images.base import PACKAGES
from tests.functions.conftest import IMAGES, Built, metadata_of
from tests.functions.runtime_api import Environment

pytestmark = pytest.mark.slow

SCHEDULED_EVENT = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.scheduler",
    "detail": "{}",
}


def api_event(**query: object) -> dict[str, object]:
    return {
        "resource": "/mobilenet/1024",
        "path": "/mobilenet/1024",
        "httpMethod": "GET",
        "queryStringParameters": query or None,
        "requestContext": {"stage": "v1"},
        "body": None,
        "isBase64Encoded": False,
    }


def facts_of(answer: dict[str, object]) -> HandlerFacts:
    return HandlerFacts.model_validate({key: value for key, value in answer.items() if key not in {"top5", "event"}})


@pytest.mark.parametrize(("model", "engine"), IMAGES)
def test_each_image_answers_api_direct_and_scheduled_calls(
    model: str, engine: str, built: Built, start: Callable[..., Environment]
) -> None:
    environment = start(built(model, engine), memory_mb=2048)
    answers = [
        environment.invoke(api_event()),
        environment.invoke({"image": "generated-3.jpg"}),
        environment.invoke(SCHEDULED_EVENT),
    ]
    assert not any(answer.failed for answer in answers), environment.log
    assert answers[0].payload["statusCode"] == 200
    assert answers[0].payload["headers"]["Content-Type"] == "application/json"
    bodies = [json.loads(answers[0].payload["body"]), answers[1].payload, answers[2].payload]
    facts = [facts_of(body) for body in bodies]

    first, second, third = facts
    metadata = metadata_of(built(model, engine))
    weights = metadata.pop("weights")
    assert (first.model, first.engine, first.weights, first.memory_mb) == (model, engine, weights, 2048)
    assert [fact.call_number for fact in facts] == [1, 2, 3]
    assert [fact.cold for fact in facts] == [True, False, False]
    assert len({fact.environment_id for fact in facts}) == 1
    assert [fact.request_id for fact in facts] == [answer.request_id for answer in answers]
    assert first.phases.import_ms
    assert first.phases.load_ms
    assert first.phases.first_inference_ms, "made in init"
    assert first.init_to_call_ms is not None
    assert first.init_to_call_ms >= 0
    assert second.init_to_call_ms is None
    assert second.phases == third.phases
    assert second.phases.import_ms is second.phases.load_ms is second.phases.first_inference_ms is None
    assert second.image == "generated-3.jpg"
    assert all(fact.inference_ms + fact.decode_ms <= fact.handler_ms for fact in facts)
    for body in bodies:
        probabilities = [row["probability"] for row in body["top5"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 <= probability <= 1 for probability in probabilities)
        assert all(0 <= row["class_index"] < 1000 and row["label"] for row in body["top5"])
    described, *logged = environment.log_lines()
    del metadata["labels"]
    assert described == {**metadata, "weights": weights, "event": "model"}
    assert logged == [{key: value for key, value in body.items() if key != "top5"} for body in bodies]


def test_the_same_picture_gives_the_same_answer(mobilenet: Environment) -> None:
    first, second = (mobilenet.invoke({"image": "generated-0.jpg"}).payload["top5"] for _ in range(2))
    assert first == second
    assert mobilenet.invoke({"image": "generated-1.jpg"}).payload["top5"] != first


def test_an_unknown_picture_is_a_400_that_names_the_pictures_there_are(mobilenet: Environment) -> None:
    answer = mobilenet.invoke(api_event(image="cat.jpg"))
    assert not answer.failed
    assert answer.payload["statusCode"] == 400
    body = json.loads(answer.payload["body"])
    assert "cat.jpg" in body["error"]
    assert body["allowed"] == [f"generated-{number}.jpg" for number in range(8)]

    direct = mobilenet.invoke({"image": "../model/metadata.json"})
    assert not direct.failed
    assert direct.payload["statusCode"] == 400
    assert direct.payload["allowed"] == body["allowed"]
    assert mobilenet.log_lines()[-1]["event"] == "refused"


def test_a_picture_that_cannot_be_decoded_is_a_422_with_the_reason_and_spares_the_environment(
    copied: Path, start: Callable[..., Environment]
) -> None:
    whole = (copied / "images" / "generated-0.jpg").read_bytes()
    (copied / "images" / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    environment = start(copied)
    through_api = environment.invoke(api_event(image="torn.jpg"))
    assert through_api.payload["statusCode"] == 422
    assert "torn.jpg is damaged or incomplete" in json.loads(through_api.payload["body"])["error"]
    direct = environment.invoke({"image": "torn.jpg"})
    assert not direct.failed
    assert direct.payload["statusCode"] == 422
    facts = facts_of(environment.invoke({"image": "generated-0.jpg"}).payload)
    assert (facts.image, facts.call_number, facts.cold) == ("generated-0.jpg", 3, False)


def test_a_missing_part_of_the_image_fails_init_and_says_what_to_do(
    copied: Path, start: Callable[..., Environment]
) -> None:
    (copied / "model" / "metadata.json").unlink()
    error = start(copied).wait_for_init()
    assert error is not None
    assert error["errorType"] == "ModelError"
    assert "metadata.json is missing" in error["errorMessage"]
    assert "build" in error["errorMessage"]


# One process of TensorFlow for all that can be missing or wrong; each in turn, and mended before the next.
SPOILED = """
import json, os, pathlib, sys
sys.path.insert(0, os.getcwd())
import classifier, pictures
root = pathlib.Path(os.getcwd())
messages = {}

def attempt(name, load):
    try:
        load()
        messages[name] = "nothing happened"
    except (classifier.ModelError, pictures.PictureError) as error:
        messages[name] = str(error)

def load_model():
    metadata = classifier.read_metadata(root / "model")
    return classifier.load(classifier.engine_of(metadata), metadata, root / "model")

def spoiled(name, path, content=None):
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    if content is not None:
        path.write_text(content)
    attempt(name, load_model)
    if content is not None:
        path.unlink()
    kept.rename(path)

model = root / "model"
metadata = json.loads((model / "metadata.json").read_text())
spoiled("graph", model / "graph.pb")
spoiled("half a graph", model / "graph.pb", "no protocol buffer")
spoiled("weights", model / "weights.bin")
spoiled("half of the weights", model / "weights.bin", "x" * 5000)
spoiled("index", model / "weights.txt", "no offset")
spoiled("no json", model / "metadata.json", "{")
spoiled("engine", model / "metadata.json", json.dumps({**metadata, "engine": "abacus"}))
spoiled("key", model / "metadata.json", json.dumps({"engine": "tensorflow"}))
attempt("pictures", lambda: pictures.find_pictures(model))
os.environ["INFERENCE_THREADS"] = "two"
attempt("threads", lambda: classifier.threads("tensorflow", 512))
del os.environ["INFERENCE_THREADS"]
load_model()
print(json.dumps(messages))
"""


def test_every_broken_part_of_an_image_is_named_with_what_to_do(copied: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", SPOILED],
        cwd=copied,
        env={**os.environ, "PYTHONPATH": str(copied / PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout.splitlines()[-1])
    for part, words in {
        "graph": ["cannot be loaded", "build"],
        "half a graph": ["cannot be loaded", "build"],
        "weights": ["cannot be loaded", "weights.bin", "build"],
        "half of the weights": ["cannot be loaded", "5000 bytes", "build"],
        "index": ["cannot be loaded", "build"],
        "no json": ["metadata.json is not JSON", "build"],
        "engine": ["abacus", "tensorflow"],
        "key": ["has no key", "build"],
        "pictures": ["no picture", "build"],
        "threads": ["INFERENCE_THREADS", "two"],
    }.items():
        assert all(word in messages[part] for word in words), (part, messages[part])
