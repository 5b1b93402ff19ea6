"""The engines that can run a packed model, one module each, behind one function: `load`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt

ENGINES: Final = ("tensorflow", "onnxruntime", "litert", "openvino")

Batch = npt.NDArray[np.float32]
Forward = Callable[[Batch], Batch]
"""Run one forward pass: the preprocessed picture, shape (1, ...), to one row of scores, shape (1, classes)."""


class EngineError(Exception):
    """The engine cannot load or run the model; the message is the engine's own."""


@dataclass(frozen=True)
class PackedModel:
    """What the build step wrote for an engine: its directory, and the names and shape the model goes by."""

    directory: Path
    input_name: str
    output_name: str
    input_shape: tuple[int, ...]  # with its batch of 1


class Engine(Protocol):
    """One module of this package. Importing it imports or opens the engine's library."""

    def load(self, model: PackedModel, *, threads: int) -> Forward:
        """Load the model; `threads` work within an operation. Raises EngineError."""
        ...


def import_engine(name: str) -> Engine:
    """Import the module of an engine, and with it the engine. Raises EngineError for an unknown name."""
    if name not in ENGINES:
        raise EngineError(f"engine {name!r} is unknown; allowed: {', '.join(ENGINES)}")
    return cast("Engine", importlib.import_module(f"engines.{name}"))
