"""The deployed model: loaded once per execution environment, called once per request."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Read by TensorFlow as it is imported. No GPU, and no chatter in the function's log.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import numpy.typing as npt
import tensorflow as tf

METADATA: Final = "metadata.json"
REBUILD: Final = "the image was built without its build step, or only in part: build and deploy it again"


class ModelError(Exception):
    """The packed model cannot be used."""


@dataclass(frozen=True)
class Classifier:
    """A loaded model. `probabilities` runs the forward pass alone."""

    model: str
    engine: str
    weights: str
    input_size: int
    labels: list[str] | None
    description: dict[str, Any]  # what build_model.py wrote of it, less the labels
    _forward: Callable[[npt.NDArray[np.float32]], Any]

    def probabilities(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Class probabilities, shape (n, classes), of a preprocessed batch of shape (n, size, size, 3).

        Not by Keras's predict(): that builds a data pipeline per call, which costs more than MobileNet itself.
        """
        result: npt.NDArray[np.float32] = self._forward(batch)
        return result

    def top5(self, probabilities: npt.NDArray[np.float32]) -> list[dict[str, object]]:
        """The five likeliest classes of one row, likeliest first."""
        order = np.argsort(probabilities)[::-1][:5]
        return [
            {
                "class_index": int(index),
                "label": self.labels[index] if self.labels else f"class {index}",
                "probability": round(float(probabilities[index]), 6),
            }
            for index in order
        ]


def set_threads() -> None:
    """Size TensorFlow's thread pools; only before its first operation.

    Within an operation: one thread for each CPU the guest shows, though the function may own a fraction of one. The
    share is a quota per 20 ms, and two threads spend the same quota in half the time: a forward pass that fits into it
    ends sooner, a longer one no later, and init runs with more CPU than the share. docs/adr/0011 has the figures;
    INFERENCE_THREADS sets another number. Across operations one: the graphs are nearly chains.
    """
    threads = os.environ.get("INFERENCE_THREADS", "")
    if threads:
        if not threads.isdecimal() or int(threads) < 1:
            raise ModelError(f"INFERENCE_THREADS is {threads!r}; expected a whole number from 1, or unset")
        tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    tf.config.threading.set_inter_op_parallelism_threads(1)


def load(directory: Path) -> Classifier:
    """Load what build_model.py wrote. Raises ModelError that says what is missing and what to do."""
    path = directory / METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{path} is missing; {REBUILD}") from None
    except ValueError:
        raise ModelError(f"{path} is not JSON; {REBUILD}") from None
    try:
        engine = metadata["engine"]
        if engine != "tensorflow":
            raise ModelError(f"{path} names the engine {engine!r}; this handler runs 'tensorflow'")
        return Classifier(
            model=metadata["model"],
            engine=engine,
            weights=metadata["weights"],
            input_size=metadata["input_size"],
            labels=metadata["labels"],
            description={key: value for key, value in metadata.items() if key != "labels"},
            _forward=_load_saved_model(directory / "saved_model"),
        )
    except KeyError as error:
        raise ModelError(f"{path} has no key {error}; {REBUILD}") from None


def _load_saved_model(directory: Path) -> Callable[[npt.NDArray[np.float32]], Any]:
    if not (directory / "saved_model.pb").exists():
        raise ModelError(f"{directory / 'saved_model.pb'} is missing; {REBUILD}")
    try:
        loaded = tf.saved_model.load(str(directory))
    except (OSError, tf.errors.OpError) as error:
        raise ModelError(f"{directory} cannot be loaded ({str(error).splitlines()[0]}); {REBUILD}") from None
    signature = loaded.signatures["serving_default"]

    def forward(batch: npt.NDArray[np.float32]) -> Any:
        # `loaded` is named so that it lives as long as its signature: variables belong to it.
        _ = loaded
        return signature(image=tf.constant(batch))["probabilities"].numpy()

    return forward
