"""Facts counted in a SavedModel: weights, their checksum, multiply-adds."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from making.exporting import single_call
from making.record import BuildError


def count(directory: Path) -> dict[str, Any]:
    """Weights (moving statistics of batch normalization too), multiply-adds of a picture's forward pass, checksum.

    The checksum covers the weights in the order of their names. Raises BuildError for an operation that is not counted.
    """
    call, shape = single_call(directory)
    # With a batch of 1, as an exported model often leaves the batch open.
    function = tf.function(call, input_signature=[tf.TensorSpec(shape, tf.float32)])
    signature = function.get_concrete_function()
    checksum = hashlib.sha256()
    variables = sorted(signature.variables, key=lambda variable: variable.name)
    for variable in variables:
        checksum.update(variable.name.encode())
        checksum.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return {
        "parameters": sum(math.prod(variable.shape) for variable in variables),
        "multiply_adds": count_multiply_adds(signature),
        "weights_sha256": checksum.hexdigest(),
    }


def count_multiply_adds(signature: Any) -> int:
    """Multiply-adds of convolutions and matrix products for one picture; the rest is below one percent.

    A convolution does kernel height x kernel width x input channels of them per output value, a depthwise one kernel
    height x kernel width. The signature's graph is walked, so shapes are what TensorFlow infers, not what a layer
    claims.
    """
    total = 0
    for operation in convert_variables_to_constants_v2(signature).graph.get_operations():
        if operation.type in {"Conv2D", "DepthwiseConv2dNative"}:
            height, width, channels, last = operation.inputs[1].shape
            per_output = height * width * (channels if operation.type == "Conv2D" else 1)
            outputs = math.prod(operation.outputs[0].shape)
            if operation.type == "DepthwiseConv2dNative" and operation.outputs[0].shape[-1] != channels * last:
                raise BuildError(f"{operation.name}: a depthwise convolution of unknown layout")
            total += outputs * per_output
        elif operation.type == "MatMul":
            inner = operation.inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
            total += math.prod(operation.outputs[0].shape) * inner
        elif "Conv" in operation.type or "MatMul" in operation.type or operation.type == "Einsum":
            raise BuildError(f"{operation.name}: multiply-adds of a {operation.type} are not counted yet")
    return int(total)
