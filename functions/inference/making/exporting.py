"""Write a model in the form that an engine runs, and say by which names it is called."""

from __future__ import annotations

import gc
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino
import tensorflow as tf
import tf2onnx
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, load_model, numpy_helper, save

from making.freezing import freeze
from making.record import BuildError

OPSET: Final = 17  # the newest that tf2onnx 1.17 writes for all operations of these networks


@dataclass(frozen=True)
class Signature:
    """How an engine addresses the model: tensor names, and the input's shape with its batch of 1."""

    input: str
    output: str
    input_shape: tuple[int, ...]


def export_network(network: Any, size: int, directory: Path) -> None:
    """Write a SavedModel whose signature takes `image`: float32, shape (1, size, size, 3), preprocessed.

    Not by the Keras model's own export(), which saves every weight twice (Keras 3.15: once as the model's variables,
    once as the archive's) and thereby doubles what a cold start has to read.
    """

    # TensorFlow has no types to check a subclass or a decorator against, here and below.
    class Deployable(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = [variable.value for variable in network.variables]

        @tf.function(input_signature=[tf.TensorSpec((1, size, size, 3), tf.float32, name="image")])  # type: ignore[untyped-decorator]
        def serve(self, image: Any) -> dict[str, Any]:
            return {"probabilities": network(image, training=False)}

    deployable = Deployable()
    tf.saved_model.save(deployable, str(directory), signatures=deployable.serve)


def export(source: Path, engine: str, directory: Path) -> Signature:
    """Write `source` into `directory` as `engine` runs it. Raises BuildError for a pair that has no converter."""
    kind = "saved_model" if source.is_dir() else source.suffix
    exporter = EXPORTERS.get((kind, engine))
    if exporter is None:
        engines = sorted(engine for form, engine in EXPORTERS if form == kind)
        if not engines:
            raise BuildError(f"{source.name} is not a SavedModel folder, .onnx or .tflite file")
        raise BuildError(f"{source.name} cannot be converted for {engine}; it runs in {' or '.join(engines)}")
    return exporter(source, directory)


def _saved_model_to_graph(source: Path, directory: Path) -> Signature:
    call, shape = single_call(source)
    # The build compares answers on its own machine, so these operations are for builds from x86 to x86.
    x86 = platform.machine() in {"x86_64", "AMD64"} and os.environ.get("TARGETPLATFORM", "") in {"", "linux/amd64"}
    return Signature(*freeze(call, shape, directory, onednn=x86), shape)


def _onnx_as_it_is(source: Path, directory: Path) -> Signature:
    shutil.copy2(source, directory / "model.onnx")
    graph = load_model(source, load_external_data=False).graph
    given = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in given]
    _check_ends(source.name, len(inputs), len(graph.output), inputs[0].type.tensor_type.elem_type == TensorProto.FLOAT)
    shape = [dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim]
    return Signature(inputs[0].name, graph.output[0].name, (1, *shape[1:]))


def _tflite_as_it_is(source: Path, directory: Path) -> Signature:
    shutil.copy2(source, directory / "model.tflite")
    interpreter = Interpreter(model_path=str(source))
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    _check_ends(source.name, len(inputs), len(outputs), inputs[0]["dtype"] == np.float32)
    return Signature(inputs[0]["name"], outputs[0]["name"], tuple(map(int, (1, *inputs[0]["shape"][1:]))))


def _check_ends(name: str, inputs: int, outputs: int, is_float32: bool) -> None:
    """Raise BuildError for a model that does not take one float32 picture and return one row of scores."""
    if (inputs, outputs) != (1, 1):
        raise BuildError(f"{name} has {inputs} inputs and {outputs} outputs, expected one each")
    if not is_float32:
        raise BuildError(f"{name} takes no float32 input; export it with one, for example without quantized inputs")


def _saved_model_to_onnx(source: Path, directory: Path) -> Signature:
    call, shape = single_call(source)
    function = tf.function(call, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    # tf2onnx copies the graph with its weights before each of its 24 passes, in cycles that only the collector frees.
    # Among TensorFlow's objects it hardly ever looks: ResNet50 took 6 to 8 GB of memory, now 4.
    gc.freeze()
    gc.set_threshold(700, 1, 1)
    model, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    _hold_constants(model.graph, function.get_concrete_function().graph.captures)
    save(model, directory / "model.onnx")
    return Signature(model.graph.input[0].name, model.graph.output[0].name, shape)


def _hold_constants(graph: Any, captures: Any) -> None:
    """Write constants into an ONNX graph that tf2onnx leaves as inputs, such as those of Keras's Normalization layer.

    `captures` are the pairs of TensorFlow's value and its name in the function; those of weights are resources.
    """
    values = {inner.name: outer for outer, inner in captures if outer.dtype != tf.resource}
    for constant in list(graph.input)[1:]:
        graph.initializer.append(numpy_helper.from_array(values[constant.name].numpy(), constant.name))
        graph.input.remove(constant)


def _saved_model_to_tflite(source: Path, directory: Path) -> Signature:
    content = tf.lite.TFLiteConverter.from_saved_model(str(source)).convert()
    (directory / "model.tflite").write_bytes(content)
    interpreter = Interpreter(model_content=content)
    picture, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    return Signature(picture["name"], scores["name"], tuple(map(int, picture["shape"])))


def _to_openvino(source: Path, directory: Path) -> Signature:
    model = openvino.convert_model(source)
    shape = model.input(0).partial_shape
    fixed = [1, *(shape[axis].get_length() for axis in range(1, len(shape)))]
    model.reshape(fixed)
    openvino.save_model(model, directory / "model.xml", compress_to_fp16=False)
    return Signature("", "", tuple(fixed))


Exporter = Callable[[Path, Path], Signature]
# What is made from what; a pair that is missing has no converter that keeps the numbers.
EXPORTERS: Final[dict[tuple[str, str], Exporter]] = {
    ("saved_model", "tensorflow"): _saved_model_to_graph,
    ("saved_model", "onnxruntime"): _saved_model_to_onnx,
    ("saved_model", "litert"): _saved_model_to_tflite,
    ("saved_model", "openvino"): _to_openvino,
    (".onnx", "onnxruntime"): _onnx_as_it_is,
    (".onnx", "openvino"): _to_openvino,
    (".tflite", "litert"): _tflite_as_it_is,
    (".tflite", "openvino"): _to_openvino,
}


def single_call(directory: Path) -> tuple[Callable[[Any], Any], tuple[int, ...]]:
    """The SavedModel's `serving_default` as a function of one picture, and the picture's shape with its batch of 1.

    Raises BuildError for a signature that does not take one float32 input and return one output.
    """
    loaded = tf.saved_model.load(str(directory))
    signature = loaded.signatures.get("serving_default")
    if signature is None:
        raise BuildError(f"{directory.name} has no signature serving_default")
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    first = next(iter(inputs.values()), None)
    _check_ends(directory.name, len(inputs), len(outputs), first is not None and first.dtype == tf.float32)
    ((key, specification),) = inputs.items()
    (result,) = outputs

    def call(picture: Any) -> Any:
        _ = loaded  # it owns the variables and has to live as long as its signature
        return signature(**{key: picture})[result]

    return call, (1, *specification.shape.as_list()[1:])
