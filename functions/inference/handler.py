"""Classify one packed picture per call: the only file that knows Lambda.

Loaded by the runtime at init: engine imported, model loaded, both timed. The first forward pass is the first call's.
Answers through API Gateway (a REST proxy event), to a direct invoke and to a schedule, and logs the same facts, less
the prediction, as one line of JSON.
"""

from __future__ import annotations

import json
import os
import platform
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

SCHEMA_VERSION: Final = 1

# An execution environment is this module's life: its name, its calls so far, what its start cost.
environment_id: Final = str(uuid.uuid4())
call_number = 0
inferences = 0
start_phases: Final[dict[str, float]] = {}

memory_mb: Final = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0"))
architecture: Final = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


@contextmanager
def timed(phase: str) -> Iterator[None]:
    """Record how long a phase of the start takes, in ms."""
    begun = time.perf_counter()
    yield
    start_phases[phase] = milliseconds_since(begun)


def milliseconds_since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 3)


with timed("import_ms"):
    import classifier
    import pictures
    import preprocessing

with timed("load_ms"):
    root = Path(os.environ.get("LAMBDA_TASK_ROOT") or Path(__file__).parent)
    classifier.set_threads()
    model = classifier.load(root / "model")
    packed = pictures.find_pictures(root / "images")

# Once per environment, so that the logs alone say what was deployed: size, parameters, multiply-adds, checksum.
print(json.dumps({**model.description, "event": "model"}), flush=True)


class RequestError(Exception):
    """The caller asked for something that cannot be had."""

    def __init__(self, message: str, allowed: list[str]) -> None:
        super().__init__(message)
        self.allowed = allowed


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Lambda's entry point.

    A caller's mistake is status 400 with what is allowed. A packed picture that cannot be decoded is 500 through API
    Gateway and raises pictures.PictureError otherwise, so that it counts as a function error.
    """
    global call_number
    entered = time.perf_counter()
    call_number += 1
    through_api = isinstance(event, dict) and "httpMethod" in event
    try:
        answer = infer(picture_name(event, through_api=through_api), context.aws_request_id, entered)
    except RequestError as error:
        log_refusal(context, str(error))
        refusal = {"error": str(error), "allowed": error.allowed}
        return proxy_response(400, refusal) if through_api else {"statusCode": 400, **refusal}
    except pictures.PictureError as error:
        log_refusal(context, str(error))
        if not through_api:
            raise
        return proxy_response(500, {"error": str(error)})
    return proxy_response(200, answer) if through_api else answer


def picture_name(event: Any, *, through_api: bool) -> str:
    """The picture asked for, or one at random. Raises RequestError."""
    if event is None:
        event = {}
    if not isinstance(event, dict):
        raise RequestError(
            f'the event is {type(event).__name__}, expected an object such as {{}} or {{"image": ...}}', list(packed)
        )
    parameters = event.get("queryStringParameters") if through_api else event
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise RequestError(
            f"queryStringParameters is {type(parameters).__name__}, expected an object or null", list(packed)
        )
    name = parameters.get("image")
    if name is None:
        return random.choice(list(packed))  # noqa: S311 - which picture is no secret
    if not isinstance(name, str):
        raise RequestError(f"image is {type(name).__name__}, expected a name", list(packed))
    if name not in packed:
        raise RequestError(f"no image {name[:200]!r} is packed", list(packed))
    return name


def infer(name: str, request_id: str, entered: float) -> dict[str, Any]:
    """Decode, preprocess, run the forward pass; log and return the facts, with the prediction."""
    global inferences
    begun = time.perf_counter()
    pixels = pictures.decode(packed[name], model.input_size)
    batch = preprocessing.preprocess(model.model, pixels)
    decode_ms = milliseconds_since(begun)

    begun = time.perf_counter()
    probabilities = model.probabilities(batch)
    inference_ms = milliseconds_since(begun)
    inferences += 1

    top5 = model.top5(probabilities[0])
    facts = {
        "schema_version": SCHEMA_VERSION,
        "event": "inference",
        "model": model.model,
        "engine": model.engine,
        "architecture": architecture,
        "weights": model.weights,
        "memory_mb": memory_mb,
        "request_id": request_id,
        "environment_id": environment_id,
        "call_number": call_number,
        "cold": call_number == 1,
        "image": name,
        "inference_ms": inference_ms,
        "decode_ms": decode_ms,
        "handler_ms": milliseconds_since(entered),
        "phases": {
            "import_ms": start_phases["import_ms"] if call_number == 1 else None,
            "load_ms": start_phases["load_ms"] if call_number == 1 else None,
            "first_inference_ms": inference_ms if inferences == 1 else None,
        },
    }
    print(json.dumps(facts), flush=True)
    return {**facts, "top5": top5}


def log_refusal(context: Any, message: str) -> None:
    line = {
        "event": "refused",
        "request_id": context.aws_request_id,
        "environment_id": environment_id,
        "call_number": call_number,
        "error": message,
    }
    print(json.dumps(line), flush=True)


def proxy_response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}
