"""The stub that other tests deploy: it answers in the function's own shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from core.run.records import HandlerFacts
from lab.images.build_plan import BuildRequest
from lab.images.builder import build
from lab.images.image_store import DirectoryImageStore
from tests.functions.runtime_api import Environment
from tests.stubs.making import STUB, write_stub


def facts_of(body: dict[str, object]) -> HandlerFacts:
    return HandlerFacts.model_validate({key: body[key] for key in HandlerFacts.model_fields})


def test_the_stub_answers_and_logs_the_functions_facts(start: Callable[..., Environment]) -> None:
    environment = start(STUB, memory_mb=512, variables={"RECORD": '{"name": "resnet50"}', "ENGINE": "tensorflow"})
    event = {"httpMethod": "GET", "queryStringParameters": {"burn_ms": "5"}}
    body = json.loads(environment.invoke(event).payload["body"])
    assert (facts_of(body).model, facts_of(body).memory_mb, facts_of(body).cold) == ("resnet50", 512, True)
    assert facts_of(body).inference_ms >= 5
    assert environment.log_lines() == [{key: value for key, value in body.items() if key != "top5"}]
    refused = environment.invoke({"image": "none"})
    assert refused.payload["statusCode"] == 400


def test_the_stub_misbehaves_as_told(start: Callable[..., Environment]) -> None:
    environment = start(STUB)
    answer = environment.invoke({"error": "the kiln is cold"})
    assert answer.failed
    assert answer.payload["errorMessage"] == "the kiln is cold"
    assert len(json.dumps(environment.invoke({"response_bytes": 10_000}).payload)) > 10_000
    init = start(STUB, variables={"STUB_INIT_ERROR": "no fuel"}).wait_for_init()
    assert init is not None
    assert init["errorMessage"] == "no fuel"


def test_a_stub_with_defaults_of_its_own_takes_the_functions_build_arguments(tmp_path: Path) -> None:
    directory = write_stub(tmp_path / "stub", sleep_ms=7)
    request = BuildRequest(directory, directory / "Dockerfile", {"RECORD": '{"name": "resnet50"}', "WEIGHTS": "random"})
    record = build(request, DirectoryImageStore(tmp_path / "images"))
    assert record.environment["STUB_SLEEP_MS"] == "7"
    assert record.environment["RECORD"] == '{"name": "resnet50"}'
    assert record.command == ("handler.handler",)
