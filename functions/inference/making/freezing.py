"""Prepare a SavedModel at build so that a start only maps its weights: frozen, folded, and fused (docs/adr/0019).

Batch normalization becomes part of the convolution before it, and padding part of the one after it. The numbers stay
those of the source up to rounding, which the build checks for every packed picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from engines.tensorflow import ALIGNMENT, GRAPH, WEIGHTS, WEIGHTS_INDEX
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.meta_graph_pb2 import CollectionDef
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.framework.tensor_util import MakeNdarray
from tensorflow.python.grappler.tf_optimizer import OptimizeGraph

from making.record import BuildError

CONVOLUTIONS: Final = ("Conv2D", "DepthwiseConv2dNative")
COMMON_ATTRIBUTES: Final = ("T", "strides", "padding", "explicit_paddings", "data_format", "dilations")
ACTIVATIONS: Final = ("Relu", "Relu6")
# TensorFlow's own passes that leave the operations of a plain graph; they fold Keras's arithmetic of batch
# normalization into one product and one sum. (tensorflow/core/grappler/optimizers/meta_optimizer.cc has the names.)
PASSES: Final = ("function", "constfold", "arithmetic", "dependency", "pruning")
STATE: Final = ("ReadVariableOp", "VarHandleOp")  # and every operation of a table
LEAST_WEIGHT_BYTES: Final = 1024  # smaller constants stay in the graph


def freeze(call: Callable[[Any], Any], shape: tuple[int, ...], directory: Path, *, onednn: bool) -> tuple[str, str]:
    """Write graph and weights of a function of one picture; returns the names of its input and output.

    With `onednn`, convolutions are TensorFlow's oneDNN operations, told that their weights never change. These exist
    on x86 only. Raises BuildError for a model that holds more than weights, such as a table.
    """
    function = tf.function(call, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    picture, scores = frozen.inputs[0].name, frozen.outputs[0].name
    graph = Graph(_optimized(frozen.graph.as_graph_def(), picture, scores), scores)
    state = {node.op for node in graph.nodes.values() if node.op in STATE or "Table" in node.op}
    if state:
        raise BuildError(
            f"the SavedModel holds a lookup table or other state besides its weights ({', '.join(sorted(state))}); "
            "this engine runs models of weights alone: export the model without it, or use another engine"
        )
    graph.fold_products()
    graph.fold_paddings()
    graph.make_biases()
    graph.fuse(onednn=onednn)
    _write(graph.definition(), directory)
    return picture, scores


def _optimized(definition: Any, *kept: str) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph)
    collection = CollectionDef()
    collection.node_list.value.extend(kept)
    meta_graph.collection_def["train_op"].CopyFrom(collection)
    configuration = ConfigProto()
    options = configuration.graph_options.rewrite_options
    options.optimizers.extend(PASSES)
    options.meta_optimizer_iterations = RewriterConfig.TWO
    options.fail_on_optimizer_errors = True
    return OptimizeGraph(configuration, meta_graph)


class Graph:
    """A GraphDef that is changed in place."""

    def __init__(self, definition: Any, output: str) -> None:
        self.output = output.partition(":")[0]
        self.nodes = {node.name: node for node in definition.node}
        self.versions, self.library = definition.versions, definition.library
        self.shapes = self._shapes()  # no change below gives an operation that stays another shape

    def definition(self) -> Any:
        """The GraphDef of what the output needs."""
        found = tf.compat.v1.GraphDef(node=self.nodes.values(), versions=self.versions, library=self.library)
        for node in found.node:
            node.attr.pop("_output_shapes", None)
        return tf.compat.v1.graph_util.extract_sub_graph(found, [self.output])

    def fold_products(self) -> None:
        """Multiply the weights of a convolution by the constant that multiplies its output."""
        for node in self._of("Mul"):
            convolution, factor = self._operands(node)
            weights = self._constant(convolution.input[1]) if convolution is not None else None
            if convolution is None or weights is None or len(self._users(weights.name)) != 1:
                continue
            kernel = MakeNdarray(weights.attr["value"].tensor)
            factors = factor.reshape(kernel.shape[2:]) if convolution.op != "Conv2D" else factor
            weights.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(kernel * factors))
            self._replace(node, convolution.name)

    def fold_paddings(self) -> None:
        """Let a convolution pad its input itself."""
        for node in self._of("Pad"):
            users, pads = self._users(node.name), self._constant(node.input[1])
            before = self.shapes.get(node.input[0])
            if (
                pads is None
                or before is None
                or not all(one.op in CONVOLUTIONS and self._pads(one, before, pads) for one in users)
            ):
                continue
            for one in users:
                one.MergeFrom(self._pads(one, before, pads))
            self._replace(node, node.input[0])

    def make_biases(self) -> None:
        """Write the addition of a constant per channel as BiasAdd, which TensorFlow can fuse."""
        for node in self._of("AddV2"):
            convolution, _ = self._operands(node)
            if convolution is None:
                continue
            if node.input[0] != convolution.name:
                node.input[:] = node.input[::-1]
            bias = self.nodes[node.input[1]]
            value = MakeNdarray(bias.attr["value"].tensor).reshape(-1)
            bias.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            node.op = "BiasAdd"
            node.attr["data_format"].s = b"NHWC"

    def fuse(self, *, onednn: bool) -> None:
        """Make one operation of a convolution, its bias, and its activation."""
        for node in self._of("BiasAdd"):
            convolution = self.nodes.get(node.input[0])
            if convolution is None or not self._fits(convolution) or len(self._users(convolution.name)) != 1:
                continue
            if convolution.op != "Conv2D" and not onednn:
                continue  # TensorFlow's own kernels have no fused one
            users = self._users(node.name)
            activation = users[0] if len(users) == 1 and users[0].op in ACTIVATIONS else None
            last = node if activation is None else activation
            fused = [b"BiasAdd"] if activation is None else [b"BiasAdd", activation.op.encode()]
            merged = tf.compat.v1.NodeDef(name=last.name, input=[*convolution.input[:2], node.input[1]])
            merged.op = f"{'_MklNativeFused' if onednn else '_Fused'}{convolution.op}"
            for name in COMMON_ATTRIBUTES:
                if name in convolution.attr and (name != "explicit_paddings" or convolution.op == "Conv2D"):
                    merged.attr[name].CopyFrom(convolution.attr[name])
            merged.attr["num_args"].i = 1
            merged.attr["fused_ops"].list.s.extend(fused)
            if convolution.op == "Conv2D":
                merged.attr["TArgs"].list.type.append(tf.float32.as_datatype_enum)
            if onednn:
                merged.attr["is_filter_const"].b = True
                merged.attr["_kernel"].s = b"MklNameChangeOp"  # as TensorFlow's own pass marks it: mkl_graph_util.h
            last.CopyFrom(merged)

    def _of(self, operation: str) -> list[Any]:
        return [node for node in self.nodes.values() if node.op == operation]

    def _users(self, name: str) -> list[Any]:
        return [node for node in self.nodes.values() if name in node.input or f"^{name}" in node.input]

    def _constant(self, name: str) -> Any | None:
        node = self.nodes.get(name)
        return node if node is not None and node.op == "Const" else None

    def _operands(self, node: Any) -> tuple[Any | None, npt.NDArray[np.float32]]:
        """The convolution that a node uses alone, and the constant per channel that it combines it with; else None."""
        for one, other in (node.input, node.input[::-1]):
            convolution, constant = self.nodes.get(one), self._constant(other)
            if convolution is None or constant is None or not self._fits(convolution):
                continue
            value = MakeNdarray(constant.attr["value"].tensor)
            channels = self._kernel_shape(convolution)[2 if convolution.op != "Conv2D" else 3]
            if value.size == channels and value.shape[-1] == channels and len(self._users(convolution.name)) == 1:
                return convolution, value.reshape(-1)
        return None, np.empty(0, np.float32)

    def _fits(self, node: Any) -> bool:
        """Whether a node is a convolution of the plain kind: float32, channels last, one group, no dilation."""
        if node.op not in CONVOLUTIONS or node.attr["T"].type != tf.float32.as_datatype_enum:
            return False
        if node.attr["data_format"].s != b"NHWC" or set(node.attr["dilations"].list.i) - {1}:
            return False
        shape = self._kernel_shape(node)
        if not shape:
            return False
        if node.op == "DepthwiseConv2dNative":
            return bool(shape[3] == 1)
        inputs = self.shapes.get(node.input[0])
        return inputs is not None and bool(inputs[3] == shape[2])

    def _kernel_shape(self, convolution: Any) -> tuple[int, ...]:
        weights = self._constant(convolution.input[1])
        return () if weights is None else MakeNdarray(weights.attr["value"].tensor).shape

    def _shapes(self) -> dict[str, list[int]]:
        """Name of every node to the shape of its first output, as TensorFlow infers it."""
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(self.definition(), name="")
        outputs = {one.name: one.outputs[0].shape for one in graph.get_operations() if one.outputs}
        return {name: shape.as_list() for name, shape in outputs.items() if shape.rank is not None}

    def _pads(self, convolution: Any, before: list[int], pads: Any) -> Any | None:
        """The attributes by which a convolution does the padding itself; None if it cannot."""
        around = MakeNdarray(pads.attr["value"].tensor)
        kernel, strides = self._kernel_shape(convolution), convolution.attr["strides"].list.i
        if (
            convolution.attr["padding"].s != b"VALID"
            or not kernel
            or None in before[1:3]
            or around[0].any()
            or around[3].any()
        ):
            return None
        changed = tf.compat.v1.NodeDef()
        if all(tuple(around[axis]) == _same(before[axis], kernel[axis - 1], strides[axis]) for axis in (1, 2)):
            changed.attr["padding"].s = b"SAME"
        elif convolution.op == "Conv2D":
            changed.attr["padding"].s = b"EXPLICIT"
            changed.attr["explicit_paddings"].list.i.extend(map(int, around.reshape(-1)))
        else:
            return None
        return changed

    def _replace(self, node: Any, other: str) -> None:
        for user in self._users(node.name):
            user.input[:] = [other if name == node.name else name for name in user.input]
        del self.nodes[node.name]


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The padding before and after that TensorFlow's SAME means: https://www.tensorflow.org/api_docs/python/tf/nn."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _write(definition: Any, directory: Path) -> None:
    """Write the graph, with its large constants as placeholders, and their values in one file to map."""
    index = []
    with (directory / WEIGHTS).open("wb") as weights:
        for node in definition.node:
            if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
                continue
            value = np.ascontiguousarray(MakeNdarray(node.attr["value"].tensor))
            if value.nbytes < LEAST_WEIGHT_BYTES:
                continue
            weights.write(bytes(-weights.tell() % ALIGNMENT))
            index.append(" ".join(map(str, (node.name, weights.tell(), *value.shape))))
            weights.write(value.tobytes())
            placeholder = tf.compat.v1.NodeDef(name=node.name, op="Placeholder")
            placeholder.attr["dtype"].type = node.attr["dtype"].type
            placeholder.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            node.CopyFrom(placeholder)
    (directory / GRAPH).write_bytes(definition.SerializeToString())
    (directory / WEIGHTS_INDEX).write_text("\n".join(index), encoding="utf-8")
