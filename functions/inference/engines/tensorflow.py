"""TensorFlow through its C API: runs a SavedModel without TensorFlow's Python package (docs/adr/0016).

The signatures are those of TensorFlow 2.21's headers, which its wheel contains: tensorflow/c/c_api.h (graphs,
sessions), tensorflow/c/tf_tensor.h, tensorflow/c/tf_status.h, tensorflow/c/tf_datatype.h.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final

# TensorFlow reads it when its library opens: warnings would fill the function's log.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from engines import Batch, EngineError, Forward, PackedModel

TF_OK: Final = 0  # TF_Code, tensorflow/c/tf_status.h
TF_FLOAT: Final = 1  # TF_DataType, tensorflow/c/tf_datatype.h
FILE: Final = "saved_model"  # a folder
SERVE: Final = b"serve"  # tag of the graph that a SavedModel is served from, tensorflow/cc/saved_model/tag_constants.h
# Tags of protocol buffer fields: ConfigProto's intra_op_parallelism_threads (2) and inter_op_parallelism_threads (5),
# both varints, tensorflow/core/protobuf/config.proto.
INTRA_OP_TAG: Final = 2 << 3
INTER_OP_TAG: Final = 5 << 3
MAX_THREADS: Final = 127  # the largest number that a varint holds in one byte


class Output(Structure):
    """TF_Output: one output of an operation."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


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
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        (c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, c_void_p, c_void_p),
    ),
    "TF_SessionRun": (
        None,
        (
            *(c_void_p, c_void_p),  # session, run options
            *(POINTER(Output), POINTER(c_void_p), c_int),  # inputs, their tensors, how many
            *(POINTER(Output), POINTER(c_void_p), c_int),  # outputs, their tensors, how many
            *(c_void_p, c_int, c_void_p, c_void_p),  # target operations, how many, run metadata, status
        ),
    ),
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
    # The symbols stay local to it (RTLD_LOCAL, the default): numpy brings libraries of its own.
    library = ctypes.CDLL(str(Path(folders[0]) / "libtensorflow_cc.so.2"))
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_tf: Final = _open()


class _Status:
    """TF_Status: how the last call went, in TensorFlow's words."""

    def __init__(self) -> None:
        self.handle = _tf.TF_NewStatus()

    def check(self) -> None:
        """Raise EngineError unless the last call succeeded."""
        if _tf.TF_GetCode(self.handle) != TF_OK:
            raise EngineError(_tf.TF_Message(self.handle).decode("utf-8", "replace").splitlines()[0])


def load(model: PackedModel, *, threads: int) -> Forward:
    """Load the SavedModel. Raises EngineError in TensorFlow's words."""
    status = _Status()
    graph = _tf.TF_NewGraph()
    session = _load_session(model.directory / FILE, graph, threads, status)
    fed = (Output * 1)(_output(graph, model.input_name))
    fetched = (Output * 1)(_output(graph, model.output_name))
    # One input tensor for the life of the environment: the session reads it and never writes it, as this holds it too.
    dimensions = (c_int64 * len(model.input_shape))(*model.input_shape)
    size_bytes = int(np.prod(model.input_shape)) * 4
    picture = _tf.TF_AllocateTensor(TF_FLOAT, dimensions, len(dimensions), size_bytes)
    pictures = (c_void_p * 1)(picture)
    pixels = _tf.TF_TensorData(picture)

    def forward(batch: Batch) -> Batch:
        if batch.shape != model.input_shape or batch.dtype != np.float32:
            raise EngineError(f"the input is {batch.dtype} {batch.shape}, expected float32 {model.input_shape}")
        ctypes.memmove(pixels, np.ascontiguousarray(batch).ctypes.data, size_bytes)
        scores = (c_void_p * 1)()
        _tf.TF_SessionRun(session, None, fed, pictures, 1, fetched, scores, 1, None, 0, None, status.handle)
        status.check()
        try:
            return _copy(scores[0] or 0)
        finally:
            _tf.TF_DeleteTensor(scores[0])

    return forward


def _load_session(directory: Path, graph: int, threads: int, status: _Status) -> Any:
    options = _tf.TF_NewSessionOptions()
    try:
        # Across operations one thread: the graphs are nearly chains (docs/adr/0011).
        config = bytes((INTRA_OP_TAG, min(threads, MAX_THREADS), INTER_OP_TAG, 1))
        _tf.TF_SetConfig(options, config, len(config), status.handle)
        status.check()
        tags = (c_char_p * 1)(SERVE)
        path = os.fsencode(directory)
        session = _tf.TF_LoadSessionFromSavedModel(options, None, path, tags, 1, graph, None, status.handle)
        status.check()
    finally:
        _tf.TF_DeleteSessionOptions(options)
    return session


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
