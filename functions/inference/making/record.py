"""What the build is told about a model: one record of benchmark.toml, as JSON in the build argument RECORD."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from classifier import parse_json
from preprocessing import PREPROCESSINGS


class BuildError(Exception):
    """The model cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Record:
    """A model: a Keras application, or a file or SavedModel folder of the build context."""

    name: str
    input_size: int  # side of the square input in pixels
    preprocessing: str
    application: str = ""  # of keras.applications
    file: str = ""  # .onnx, .tflite or a SavedModel folder
    output: Literal["probabilities", "logits"] = "probabilities"
    labels: str = ""  # a file with one class name per line, in the order of the classes

    def __post_init__(self) -> None:
        if bool(self.application) == bool(self.file):
            raise BuildError(f"model {self.name!r}: name either an application of Keras or a file")
        if self.preprocessing not in PREPROCESSINGS:
            raise BuildError(
                f"model {self.name!r}: preprocessing is {self.preprocessing!r}; allowed: {', '.join(PREPROCESSINGS)}"
            )


def parse_record(text: str) -> Record:
    """The record in JSON, keys that only others need left out. Raises BuildError."""
    try:
        values = parse_json(text)
        known = {field.name for field in fields(Record)}
        return Record(**{key: value for key, value in values.items() if key in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise BuildError(f"the build argument RECORD is not the record of a model: {error}") from None
