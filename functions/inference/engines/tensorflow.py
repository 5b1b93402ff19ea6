"""TensorFlow through its C API: runs a frozen graph without TensorFlow's Python package (docs/adr/0016).

The signatures are those of TensorFlow 2.21's headers, which its wheel contains: tensorflow/c/c_api.h (graphs,
sessions), tensorflow/c/tf_tensor.h, tensorflow/c/tf_status.h, tensorflow/c/tf_datatype.h.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import mmap
import os
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final

# TensorFlow reads it when its library opens: warnings would fill the function's log.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The build step has chosen the oneDNN operations. TensorFlow's own choice would reorder the weights in each call.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
import numpy.typing as npt

from engines import Batch, EngineError, Forward, PackedModel

TF_OK: Final = 0  # TF_Code, tensorflow/c/tf_status.h
TF_FLOAT: Final = 1  # TF_DataType, tensorflow/c/tf_datatype.h
GRAPH: Final = "graph.pb"  # a GraphDef whose weights are placeholders
WEIGHTS: Final = "weights.bin"  # their values, one after the other
WEIGHTS_INDEX: Final = "weights.txt"  # a line for each: name, offset in bytes, dimensions
ALIGNMENT: Final = 64  # bytes; TF_NewTensor copies what is not aligned so, tensorflow/c/tf_tensor.h
# Tags of protocol buffer fields: ConfigProto's intra_op_parallelism_threads (2) and inter_op_parallelism_threads (5),
# both varints, tensorflow/core/protobuf/config.proto.
INTRA_OP_TAG: Final = 2 << 3
INTER_OP_TAG: Final = 5 << 3
MAX_THREADS: Final = 127  # the largest number that a varint holds in one byte
# graph_options (10) { rewrite_options (10) { disable_meta_optimizer (19): true } } of ConfigProto, config.proto and
# rewriter_config.proto: the build step has optimized the graph.
NO_OPTIMIZER: Final = bytes((10 << 3 | 2, 5, 10 << 3 | 2, 3, 0x98, 0x01, 1))


class Output(Structure):
    """TF_Output: one output of an operation."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


Deallocator: Final = CFUNCTYPE(None, c_void_p, c_size_t, c_void_p)


# Leaves the values where they are: the file stays mapped for the life of the environment.
_keep: Final = Deallocator(lambda _values, _size_bytes, _argument: None)


# Every function that is called: what it returns and takes.
SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "TF_NewStatus": (c_void_p, ()),
    "TF_GetCode": (c_int, (c_void_p,)),
    "TF_Message": (c_char_p, (c_void_p,)),
    "TF_NewGraph": (c_void_p, ()),
    "TF_GraphOperationByName": (c_void_p, (c_void_p, c_char_p)),
    "TF_NewSessionOptions": (c_void_p, ()),
    "TF_SetConfig": (None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "TF_DeleteSessionOptions": (None, (c_void_p,)),
    "TF_NewBufferFromString": (c_void_p, (c_char_p, c_size_t)),
    "TF_DeleteBuffer": (None, (c_void_p,)),
    "TF_NewImportGraphDefOptions": (c_void_p, ()),
    "TF_DeleteImportGraphDefOptions": (None, (c_void_p,)),
    "TF_GraphImportGraphDef": (None, (c_void_p, c_void_p, c_void_p, c_void_p)),  # graph, buffer, options, status
    "TF_NewSession": (c_void_p, (c_void_p, c_void_p, c_void_p)),  # graph, options, status
    "TF_SessionRun": (
        None,
        (
            *(c_void_p, c_void_p),  # session, run options
            *(POINTER(Output), POINTER(c_void_p), c_int),  # inputs, their tensors, how many
            *(POINTER(Output), POINTER(c_void_p), c_int),  # outputs, their tensors, how many
            *(c_void_p, c_int, c_void_p, c_void_p),  # target operations, how many, run metadata, status
        ),
    ),
    # type, dimensions, how many, values, size in bytes, deallocator, its argument
    "TF_NewTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_void_p, c_size_t, Deallocator, c_void_p)),
    "TF_AllocateTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_size_t)),
    "TF_DeleteTensor": (None, (c_void_p,)),
    "TF_TensorData": (c_void_p, (c_void_p,)),
    "TF_NumDims": (c_int, (c_void_p,)),
    "TF_Dim": (c_int64, (c_void_p, c_int)),
}


def _open() -> ctypes.CDLL:
    """Open the wheel's library without importing the package. Raises EngineError where it is not installed."""
    found = importlib.util.find_spec("tensorflow")
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise EngineError("the package tensorflow is not installed")
    # The symbols stay local to it (RTLD_LOCAL, the default): numpy brings its own libraries.
    library = ctypes.CDLL(str(Path(folders[0]) / "libtensorflow_cc.so.2"))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_tf: Final = _open()
_mapped: Final[list[npt.NDArray[np.uint8]]] = []  # files that tensors point into


class _Status:
    """TF_Status: how the last call went, in TensorFlow's words."""

    def __init__(self) -> None:
        self.handle = _tf.TF_NewStatus()

    def check(self) -> None:
        """Raise EngineError unless the last call succeeded."""
        if _tf.TF_GetCode(self.handle) != TF_OK:
            raise EngineError(_tf.TF_Message(self.handle).decode("utf-8", "replace").splitlines()[0])


def load(model: PackedModel, *, threads: int) -> Forward:
    """Map the weights and load the graph. Raises EngineError in TensorFlow's words."""
    status = _Status()
    graph = _tf.TF_NewGraph()
    session = _open_session(model.directory, graph, threads, status)
    weights = _map_weights(model.directory)
    # One input tensor for the life of the environment: the session reads it and never writes it, as this holds it too.
    dimensions = (c_int64 * len(model.input_shape))(*model.input_shape)
    size_bytes = int(np.prod(model.input_shape)) * 4
    picture = _tf.TF_AllocateTensor(TF_FLOAT, dimensions, len(dimensions), size_bytes)
    pixels = _tf.TF_TensorData(picture)
    # Weights are fed with each call, which copies nothing: constants would be copied into every form of the graph.
    count = 1 + len(weights)
    fed = (Output * count)(*(_output(graph, name) for name in (model.input_name, *weights)))
    values = (c_void_p * count)(picture, *weights.values())
    fetched = (Output * 1)(_output(graph, model.output_name))

    def forward(batch: Batch) -> Batch:
        if batch.shape != model.input_shape or batch.dtype != np.float32:
            raise EngineError(f"the input is {batch.dtype} {batch.shape}, expected float32 {model.input_shape}")
        ctypes.memmove(pixels, np.ascontiguousarray(batch).ctypes.data, size_bytes)
        scores = (c_void_p * 1)()
        _tf.TF_SessionRun(session, None, fed, values, count, fetched, scores, 1, None, 0, None, status.handle)
        status.check()
        try:
            return _copy(scores[0] or 0)
        finally:
            _tf.TF_DeleteTensor(scores[0])

    return forward


def _open_session(directory: Path, graph: int, threads: int, status: _Status) -> Any:
    try:
        content = (directory / GRAPH).read_bytes()
    except OSError as error:
        raise EngineError(f"{GRAPH} cannot be read: {error.strerror}") from None
    buffer, importing = _tf.TF_NewBufferFromString(content, len(content)), _tf.TF_NewImportGraphDefOptions()
    options = _tf.TF_NewSessionOptions()
    try:
        _tf.TF_GraphImportGraphDef(graph, buffer, importing, status.handle)
        status.check()
        # Across operations one thread: the graphs are nearly chains (docs/adr/0011).
        config = bytes((INTRA_OP_TAG, min(threads, MAX_THREADS), INTER_OP_TAG, 1)) + NO_OPTIMIZER
        _tf.TF_SetConfig(options, config, len(config), status.handle)
        status.check()
        session = _tf.TF_NewSession(graph, options, status.handle)
        status.check()
    finally:
        _tf.TF_DeleteBuffer(buffer)
        _tf.TF_DeleteImportGraphDefOptions(importing)
        _tf.TF_DeleteSessionOptions(options)
    return session


def _map_weights(directory: Path) -> dict[str, int]:
    """Name of every weight to a tensor whose values are the file's own pages. Raises EngineError."""
    try:
        lines = (directory / WEIGHTS_INDEX).read_text(encoding="utf-8").splitlines()
        index = [(words[0], [int(word) for word in words[1:]]) for words in map(str.split, lines)]
        if not index:
            return {}
        with (directory / WEIGHTS).open("rb") as file:
            mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError) as error:
        raise EngineError(f"{WEIGHTS} cannot be mapped: {error}") from None
    _mapped.append(mapped)
    weights = {}
    for name, (offset, *shape) in index:
        dimensions = (c_int64 * len(shape))(*shape)
        size_bytes = math.prod(shape) * 4
        if offset + size_bytes > mapped.size:
            raise EngineError(f"{WEIGHTS} has {mapped.size} bytes, which ends before {name}")
        start = mapped.ctypes.data + offset
        weights[name] = _tf.TF_NewTensor(TF_FLOAT, dimensions, len(shape), start, size_bytes, _keep, None)
    return weights


def _output(graph: int, tensor_name: str) -> Output:
    """The output `operation:index` of the graph, as a SavedModel's signature names tensors. Raises EngineError."""
    name, _, index = tensor_name.partition(":")
    operation = _tf.TF_GraphOperationByName(graph, name.encode())
    if not operation:
        raise EngineError(f"the graph has no operation {name!r}")
    return Output(operation, int(index or 0))


def _copy(tensor: int) -> Batch:
    """The values of a float32 tensor, in memory of numpy's own."""
    shape = tuple(_tf.TF_Dim(tensor, axis) for axis in range(_tf.TF_NumDims(tensor)))
    values = np.empty(shape, np.float32)
    ctypes.memmove(values.ctypes.data, _tf.TF_TensorData(tensor), values.nbytes)
    return values
