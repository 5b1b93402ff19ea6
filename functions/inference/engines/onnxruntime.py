"""ONNX Runtime: runs `model.onnx`."""

from __future__ import annotations

from typing import Final

import onnxruntime

from engines import Batch, EngineError, Forward, PackedModel

FILE: Final = "model.onnx"
ERRORS_ONLY: Final = 3  # ORT_LOGGING_LEVEL_ERROR


def load(model: PackedModel, *, threads: int) -> Forward:
    """Load the model. Raises EngineError in ONNX Runtime's words."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # A thread that spins while it waits spends the function's CPU quota, and with it the time of those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(model.directory / FILE), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - its exceptions, one per status code, share no base class
        raise EngineError(str(error).splitlines()[0]) from None

    def forward(batch: Batch) -> Batch:
        scores: Batch = session.run([model.output_name], {model.input_name: batch})[0]
        return scores

    return forward
