"""LiteRT (TensorFlow Lite) with its XNNPACK kernels: runs `model.tflite`."""

from __future__ import annotations

from typing import Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from engines import Batch, EngineError, Forward, PackedModel

FILE: Final = "model.tflite"


def load(model: PackedModel, *, threads: int) -> Forward:
    """Load the model. Raises EngineError in LiteRT's words."""
    try:
        interpreter = Interpreter(model_path=str(model.directory / FILE), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EngineError(str(error).splitlines()[0]) from None
    picture = interpreter.get_input_details()[0]["index"]
    scores = interpreter.get_output_details()[0]["index"]

    def forward(batch: Batch) -> Batch:
        interpreter.set_tensor(picture, np.ascontiguousarray(batch))
        interpreter.invoke()
        result: Batch = interpreter.get_tensor(scores)
        return result

    return forward
