"""The packed model: loaded once per execution environment, called once per request."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
from engines import Batch, Engine, EngineError, Forward, PackedModel, import_engine
from preprocessing import preprocess

METADATA: Final = "metadata.json"
REBUILD: Final = "build the image again and deploy it"
# From this memory size on, an engine is at least as quick with a thread per CPU as with one (docs/adr/0015). One vCPU
# is 1,769 MB: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
THREADS_FROM_MB: Final = {"tensorflow": 1024, "onnxruntime": 1769, "litert": 1769, "openvino": 1769}


class ModelError(Exception):
    """The packed model cannot be used."""


class ScoresError(Exception):
    """The model's answer is no answer: JSON has no NaN, and nothing can be ranked by it."""


@dataclass(frozen=True)
class Classifier:
    """A loaded model. `forward` runs the forward pass alone."""

    metadata: dict[str, Any]  # what the build step wrote about the model
    forward: Forward

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        return int(self.metadata["input_size"])

    def batch(self, pixels: npt.NDArray[np.uint8]) -> Batch:
        """The network's input for pixels of shape (1, size, size, 3): scaled, and in the model's order of axes."""
        values = preprocess(self.metadata["preprocessing"], pixels)
        if self.metadata["layout"] == "NCHW":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values)

    def top5(self, scores: npt.NDArray[np.float32]) -> list[dict[str, object]]:
        """The five most probable classes of one row of scores, most probable first. Raises ScoresError."""
        order = scores.argsort()  # NaN comes last; softmax keeps the order
        if not (math.isfinite(scores[order[0]]) and math.isfinite(scores[order[-1]])):
            raise ScoresError(f"the model gives {int((~np.isfinite(scores)).sum())} scores that are not finite")
        probabilities = softmax(scores) if self.metadata["output"] == "logits" else scores
        labels = self.metadata["labels"]
        return [
            {
                "class_index": int(index),
                "label": labels[index] if labels else f"class {index}",
                "probability": round(float(probabilities[index]), 6),
            }
            for index in order[:-6:-1]
        ]


def softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities of the classes from their logits."""
    powers = np.exp(scores - scores.max())
    result: npt.NDArray[np.float32] = powers / powers.sum()
    return result


def parse_json(text: str) -> Any:
    """Parse a document. Raises ValueError also for NaN and Infinity, which Python's parser takes."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def read_metadata(directory: Path) -> dict[str, Any]:
    """What the build step wrote about the model. Raises ModelError that says what is missing and what to do."""
    path = directory / METADATA
    try:
        metadata = parse_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path} is missing; {REBUILD}") from None
    except ValueError:
        raise ModelError(f"{path} is not JSON; {REBUILD}") from None
    missing = {"engine", "input_size", "preprocessing", "layout", "output", "labels", "signature"} - set(metadata)
    if missing:
        raise ModelError(f"{path} has no key {min(missing)!r}; {REBUILD}")
    return dict(metadata)


def engine_of(metadata: dict[str, Any]) -> Engine:
    """Import the engine that the model was built for. Raises ModelError."""
    try:
        return import_engine(metadata["engine"])
    except (EngineError, ImportError) as error:
        raise ModelError(f"the engine {metadata['engine']!r} cannot be used: {error}; {REBUILD}") from None


def load(engine: Engine, metadata: dict[str, Any], directory: Path, memory_mb: int = 0) -> Classifier:
    """Load the model into its engine, for a function of this size. Raises ModelError with the engine's reason."""
    signature = metadata["signature"]
    packed = PackedModel(directory, signature["input"], signature["output"], tuple(signature["input_shape"]))
    try:
        return Classifier(metadata, engine.load(packed, threads=threads(metadata["engine"], memory_mb)))
    except EngineError as error:
        raise ModelError(f"{directory} cannot be loaded ({error}); {REBUILD}") from None


def threads(engine: str, memory_mb: int) -> int:
    """Threads within an operation: INFERENCE_THREADS, else 1 in a small function, else one per CPU the guest shows.

    A memory size of 0 stands for no limit, as at build. Raises ModelError.
    """
    given = os.environ.get("INFERENCE_THREADS", "")
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise ModelError(f"INFERENCE_THREADS is {given!r}; expected a whole number from 1, or unset")
        return int(given)
    if 0 < memory_mb < THREADS_FROM_MB[engine]:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
