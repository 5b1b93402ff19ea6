"""OpenVINO's CPU plugin: runs `model.xml` and `model.bin`."""

from __future__ import annotations

from typing import Final

import openvino

from engines import Batch, EngineError, Forward, PackedModel

FILE: Final = "model.xml"
# By default OpenVINO computes in bf16 where the CPU has instructions for it. Lambda's x86 hosts have none, so a figure
# from such a machine would promise too much.
PRECISION: Final = "f32"


def load(model: PackedModel, *, threads: int) -> Forward:
    """Load the model. Raises EngineError in OpenVINO's words."""
    try:
        compiled = openvino.Core().compile_model(
            model.directory / FILE,
            "CPU",
            {"INFERENCE_PRECISION_HINT": PRECISION, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads},
        )
    except RuntimeError as error:
        raise EngineError(str(error).splitlines()[0]) from None
    request = compiled.create_infer_request()
    scores = request.get_output_tensor()

    def forward(batch: Batch) -> Batch:
        request.infer([batch], share_inputs=True)
        result: Batch = scores.data.copy()
        return result

    return forward
