"""The one table of models: what is built, what is published about it, and what a call is expected to need. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Engine = Literal["tensorflow", "onnxruntime", "litert", "openvino"]
Preprocessing = Literal["caffe", "tf", "torch", "none"]
"""The modes of keras.applications.imagenet_utils.preprocess_input, and "none" for pixels of 0 to 255."""

KERAS_ACCURACY: Final = "Keras Applications, ImageNet validation set: https://keras.io/api/applications/"
ENGINE_NAMES: Final[dict[str, str]] = {
    "tensorflow": "TensorFlow",
    "onnxruntime": "ONNX Runtime",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
}
CAPPED_ENGINES: Final = ("tensorflow", "openvino")
"""Engines whose instruction sets can be capped (docs/reference/function.md); the others use what the host has."""
# What runs a file of each kind with the same numbers; functions/inference/making/exporting.py has the converters.
_ENGINES_OF_FILES: Final[dict[str, tuple[str, ...]]] = {
    ".onnx": ("onnxruntime", "openvino"),
    ".tflite": ("litert", "openvino"),
}

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Model(BaseModel):
    """A model: a Keras application, or a file of the function's build context."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    application: str = ""  # of keras.applications
    file: str = ""  # .onnx, .tflite or a SavedModel folder, relative to the function's directory
    display_name: str = ""
    input_size: int = Field(ge=1, le=4096)  # side of the square input in pixels
    preprocessing: Preprocessing
    output: Literal["probabilities", "logits"] = "probabilities"
    labels: str = ""  # a file with one class name per line, relative to the function's directory
    top1_accuracy: Share | None = None
    top5_accuracy: Share | None = None
    accuracy_source: str = ""
    size_mb: Positive | None = None  # as published
    multiply_adds: Positive | None = None  # of one picture, as published
    # Milliseconds of one vCPU that a call needs with TensorFlow: for the expected cost and duration of a plan alone.
    warm_cpu_ms: Positive = 65
    first_cpu_ms: Positive = 630

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.application) == bool(self.file):
            raise ValueError("name either `application` or `file`")
        return self

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that can run it."""
        suffix = self.file[self.file.rfind(".") :] if "." in self.file else ""
        return _ENGINES_OF_FILES.get(suffix, tuple(ENGINE_NAMES))

    def build_record(self, name: str) -> str:
        """Return the record that the image's build gets, as JSON."""
        return self.model_dump_json(
            include={"application", "file", "input_size", "preprocessing", "output", "labels"}, exclude_defaults=True
        ).replace("{", f'{{"name":"{name}",', 1)


def by_multiply_adds(models: Mapping[str, Model]) -> list[str]:
    """Return the names of models, that with the fewest multiply-adds first; those that state none come last."""
    return sorted(models, key=lambda name: models[name].multiply_adds or math.inf)


# The paper's three, with its Table 1: sizes and accuracies are those of Keras' published weights.
PAPER_MODELS: Final[dict[str, Model]] = {
    "resnet50": Model(
        application="ResNet50",
        display_name="ResNet50",
        input_size=224,
        preprocessing="caffe",
        top1_accuracy=0.749,
        top5_accuracy=0.921,
        accuracy_source=KERAS_ACCURACY,
        size_mb=98,
        multiply_adds=4e9,
        warm_cpu_ms=50,
        first_cpu_ms=460,
    ),
    "inceptionv3": Model(
        application="InceptionV3",
        display_name="InceptionV3",
        input_size=299,
        preprocessing="tf",
        top1_accuracy=0.779,
        top5_accuracy=0.937,
        accuracy_source=KERAS_ACCURACY,
        size_mb=92,
        multiply_adds=6e9,
        warm_cpu_ms=65,
        first_cpu_ms=630,
    ),
    "mobilenet": Model(
        application="MobileNet",
        display_name="MobileNet",
        input_size=224,
        preprocessing="tf",
        top1_accuracy=0.704,
        top5_accuracy=0.895,
        accuracy_source=KERAS_ACCURACY,
        size_mb=16,
        multiply_adds=579e6,
        warm_cpu_ms=15,
        first_cpu_ms=160,
    ),
}
