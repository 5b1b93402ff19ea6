"""The handler in a real awslambdaric process with the real TensorFlow models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.records import HandlerFacts
from tests.functions.conftest import Built, metadata_of
from tests.functions.runtime_api import Environment

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


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mobilenet", "resnet50", "inceptionv3"])
def test_each_model_answers_api_direct_and_scheduled_calls(
    model: str, built: Built, start: Callable[..., Environment]
) -> None:
    environment = start(built(model), memory_mb=2048)
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
    metadata = metadata_of(built(model))
    weights = metadata.pop("weights")
    assert (first.model, first.engine, first.weights, first.memory_mb) == (model, "tensorflow", weights, 2048)
    assert [fact.call_number for fact in facts] == [1, 2, 3]
    assert [fact.cold for fact in facts] == [True, False, False]
    assert len({fact.environment_id for fact in facts}) == 1
    assert [fact.request_id for fact in facts] == [answer.request_id for answer in answers]
    assert first.phases.import_ms
    assert first.phases.load_ms
    assert first.phases.first_inference_ms == first.inference_ms
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


@pytest.mark.parametrize(
    ("event", "word"),
    [
        ([], "list"),
        ("MobileNet", "str"),
        (17, "int"),
        (True, "bool"),
        ({"image": 5}, "int"),
        ({"image": ["generated-0.jpg"]}, "list"),
    ],
)
def test_a_malformed_direct_event_is_a_400_that_says_what_was_found(
    event: object, word: str, mobilenet: Environment
) -> None:
    answer = mobilenet.invoke(event)
    assert not answer.failed
    assert answer.payload["statusCode"] == 400
    assert word in answer.payload["error"]


@pytest.mark.parametrize("parameters", [["image"], "image=x", {"image": {"a": 1}}])
def test_a_malformed_api_event_is_a_400(parameters: object, mobilenet: Environment) -> None:
    event = api_event()
    event["queryStringParameters"] = parameters
    answer = mobilenet.invoke(event)
    assert not answer.failed
    assert answer.payload["statusCode"] == 400
    assert json.loads(answer.payload["body"])["error"]


@pytest.mark.parametrize("event", [None, {}, {"anything": "else"}, {"image": None}])
def test_any_other_event_classifies_a_picture_at_random(event: object, mobilenet: Environment) -> None:
    answer = mobilenet.invoke(event)
    assert not answer.failed
    assert facts_of(answer.payload).image.startswith("generated-")


def test_a_corrupt_picture_is_a_clear_error_and_spares_the_environment(
    copied: Path, start: Callable[..., Environment]
) -> None:
    whole = (copied / "images" / "generated-0.jpg").read_bytes()
    (copied / "images" / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (copied / "images" / "noise.jpg").write_bytes(b"\xff\xd8" + b"no picture at all" * 40)
    (copied / "images" / "other.jpeg").write_bytes(b"\x89PNG\r\n\x1a\n")
    (copied / "images" / "empty.jpg").write_bytes(b"")
    environment = start(copied)
    environment.invoke({"image": "none.jpg"})
    for name, reason in (("torn.jpg", "corrupt"), ("noise.jpg", "corrupt"), ("other.jpeg", "not a JPEG")):
        through_api = environment.invoke(api_event(image=name))
        assert through_api.payload["statusCode"] == 500
        message = json.loads(through_api.payload["body"])["error"]
        assert name in message
        assert reason in message
    direct = environment.invoke({"image": "empty.jpg"})
    assert direct.failed
    assert direct.payload["errorType"] == "PictureError"
    assert "empty.jpg" in direct.payload["errorMessage"]
    # The environment lives on, and what was refused does not pass for the first inference.
    facts = facts_of(environment.invoke({"image": "generated-0.jpg"}).payload)
    assert (facts.image, facts.call_number, facts.cold) == ("generated-0.jpg", 6, False)
    assert facts.phases.import_ms is None
    assert facts.phases.first_inference_ms == facts.inference_ms


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

def spoiled(name, path, content=None):
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    if content is not None:
        path.write_text(content)
    attempt(name, lambda: classifier.load(root / "model"))
    if content is not None:
        path.unlink()
    kept.rename(path)

model = root / "model"
metadata = json.loads((model / "metadata.json").read_text())
spoiled("graph", model / "saved_model" / "saved_model.pb")
spoiled("half a graph", model / "saved_model" / "saved_model.pb", "no protocol buffer")
spoiled("variables", model / "saved_model" / "variables")
spoiled("no json", model / "metadata.json", "{")
spoiled("engine", model / "metadata.json", json.dumps({**metadata, "engine": "abacus"}))
spoiled("key", model / "metadata.json", json.dumps({"engine": "tensorflow"}))
attempt("pictures", lambda: pictures.find_pictures(model))
os.environ["INFERENCE_THREADS"] = "two"
attempt("threads", classifier.set_threads)
del os.environ["INFERENCE_THREADS"]
classifier.load(model)
print(json.dumps(messages))
"""


def test_every_broken_part_of_an_image_is_named_with_what_to_do(copied: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPOILED], cwd=copied, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    messages = json.loads(done.stdout.splitlines()[-1])
    for part, words in {
        "graph": ["saved_model.pb is missing", "build"],
        "half a graph": ["cannot be loaded", "build"],
        "variables": ["cannot be loaded", "build"],
        "no json": ["metadata.json is not JSON", "build"],
        "engine": ["abacus", "tensorflow"],
        "key": ["has no key", "build"],
        "pictures": ["no JPEG", "build"],
        "threads": ["INFERENCE_THREADS", "two"],
    }.items():
        assert all(word in messages[part] for word in words), (part, messages[part])
