"""Classify one packed picture per call: the only file that knows Lambda.

Init imports the engine, loads the model and makes a first call, each timed. The answer goes out in the form that the
event's sender expects; the same facts without the prediction are one line of JSON in the log.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

SCHEMA_VERSION: Final = 1

start_phases: Final[dict[str, float | None]] = {}
memory_mb: Final = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0"))
initialization: Final = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE")
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
    import numpy as np
    import pictures
    from events import RequestError, requested_picture, response
    from snapshot_restore_py import register_after_restore

    root = Path(os.environ.get("LAMBDA_TASK_ROOT") or Path(__file__).parent)
    metadata = classifier.read_metadata(root / "model")
    engine = classifier.engine_of(metadata)

with timed("load_ms"):
    model = classifier.load(engine, metadata, root / "model", memory_mb)
    packed = pictures.find_pictures(root / "images")

# Init runs with more CPU than a small function's share, so the engine's first, slow call is made here.
with timed("first_inference_ms"):
    model.forward(model.batch(np.zeros((1, model.input_size, model.input_size, 3), np.uint8)))

# Once per environment, so that the logs alone say what was deployed: size, parameters, multiply-adds, checksum.
described = {key: value for key, value in metadata.items() if key != "labels"} | {"event": "model"}
print(json.dumps(described, allow_nan=False), flush=True)


class Environment:
    """The execution environment: its id, its calls so far, and when its init ended.

    The id is made with the first call: init may be shared by every environment that is restored from a snapshot.
    """

    def __init__(self) -> None:
        self.id = ""
        self.calls = 0
        self.ready_at = time.perf_counter()

    def enter_call(self) -> None:
        self.id = self.id or str(uuid.uuid4())
        self.calls += 1


environment: Final = Environment()


@register_after_restore  # type: ignore[untyped-decorator]  # the package has no types
def restored() -> None:
    """Count from here: the phases so far ran before the snapshot, and no caller of this environment waited for them."""
    environment.ready_at = time.perf_counter()
    start_phases.update(dict.fromkeys(start_phases))


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Lambda's entry point.

    A caller's mistake is status 400 with what is allowed. A packed picture that cannot be decoded, or that the model
    has no finite scores for, is 422 with the reason.
    """
    entered = time.perf_counter()
    environment.enter_call()
    try:
        answer = infer(picture_name(event), context.aws_request_id, entered)
    except RequestError as error:
        log_refusal(context, str(error))
        return response(event, HTTPStatus.BAD_REQUEST, {"error": str(error), "allowed": list(packed)})
    except (pictures.PictureError, classifier.ScoresError) as error:
        log_refusal(context, str(error))
        return response(event, HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
    return response(event, HTTPStatus.OK, answer)


def picture_name(event: Any) -> str:
    """The picture asked for, or a random one where the event names none. Raises RequestError."""
    name = requested_picture(event)
    if name is None:
        return secrets.choice(list(packed))
    if name not in packed:
        raise RequestError(f"no image {name[:200]!r} is packed")
    return name


def infer(name: str, request_id: str, entered: float) -> dict[str, Any]:
    """Decode, preprocess, run the forward pass; log and return the facts, with the prediction."""
    begun = time.perf_counter()
    batch = model.batch(pictures.decode(packed[name], model.input_size))
    decode_ms = milliseconds_since(begun)

    begun = time.perf_counter()
    scores = model.forward(batch)
    inference_ms = milliseconds_since(begun)

    top5 = model.top5(scores[0])
    first = environment.calls == 1
    facts = {
        "schema_version": SCHEMA_VERSION,
        "event": "inference",
        "model": metadata["model"],
        "engine": metadata["engine"],
        "architecture": architecture,
        "weights": metadata["weights"],
        "memory_mb": memory_mb,
        "request_id": request_id,
        "environment_id": environment.id,
        "call_number": environment.calls,
        "cold": first,
        "image": name,
        "inference_ms": inference_ms,
        "decode_ms": decode_ms,
        "handler_ms": milliseconds_since(entered),
        "init_to_call_ms": round((entered - environment.ready_at) * 1000, 3) if first else None,
        "initialization": initialization,
        "phases": {
            phase: start_phases[phase] if first else None for phase in ("import_ms", "load_ms", "first_inference_ms")
        },
    }
    print(json.dumps(facts, allow_nan=False), flush=True)
    return {**facts, "top5": top5}


def log_refusal(context: Any, message: str) -> None:
    line = {
        "event": "refused",
        "request_id": context.aws_request_id,
        "environment_id": environment.id,
        "call_number": environment.calls,
        "error": message,
    }
    print(json.dumps(line, allow_nan=False), flush=True)
