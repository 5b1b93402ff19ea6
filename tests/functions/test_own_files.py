"""Model files of one's own: each kind runs in each engine that its page names, or the build says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.models import Model
from tests.functions.conftest import FUNCTION

pytestmark = pytest.mark.slow

# Small classifiers that mix the mean color of a picture into four classes, and files that are none; built in one
# process, as the build step does.
PROGRAM = """
import json, pathlib, sys
import keras
import numpy as np
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper, save
from making.model import build
from making.pictures import pack
from making.record import BuildError, Record

folder, pairs = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
pack(folder / "images")
mix = np.array([[4, -1, -1, 1], [-1, 4, -1, 1], [-1, -1, 4, 1]], np.float32)

class Classifier(tf.Module):
    def __init__(self, dtype=tf.float32, count=1):
        super().__init__()
        self.mix = tf.Variable(mix)
        specifications = [tf.TensorSpec((None, 32, 32, 3), dtype, name=f"image{number}") for number in range(count)]
        self.serve = tf.function(self.scores, input_signature=specifications)

    def scores(self, *images):
        mean = tf.reduce_mean(tf.cast(images[0], tf.float32), (1, 2))
        return {"scores": tf.nn.softmax(tf.matmul(mean, self.mix))}

def saved_model(name, *arguments):
    module = Classifier(*arguments)
    tf.saved_model.save(module, str(folder / name), signatures=module.serve.get_concrete_function())

def tflite(name, *arguments):
    module = Classifier(*arguments)
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    (folder / name).write_bytes(converter.convert())

def onnx(name, dtype=TensorProto.FLOAT, count=1, external=False):
    nodes = [
        helper.make_node("Cast", ["image0"], ["picture"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["picture"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "mix"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info(f"image{one}", dtype, [1, 3, 32, 32]) for one in range(count)]
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "tiny", inputs, [output], [numpy_helper.from_array(mix, "mix")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    outside = {"save_as_external_data": True, "size_threshold": 0, "location": "outside.bin"} if external else {}
    save(model, str(folder / name), **outside)

def exported(name):
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Softmax()]
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).export(folder / name, verbose=False)

saved_model("good")
exported("exported")
tflite("good.tflite")
onnx("good.onnx")
saved_model("bytes", tf.uint8)
tflite("bytes.tflite", tf.uint8)
onnx("bytes.onnx", TensorProto.UINT8)
saved_model("two", tf.float32, 2)
onnx("two.onnx", count=2)
onnx("outside.onnx", external=True)
(folder / "outside.bin").unlink()
(folder / "empty").mkdir()
for name in ("broken.onnx", "broken.tflite", "network.pb"):
    (folder / name).write_bytes(b"no model at all")
(folder / "labels.txt").write_text("red\\ngreen\\nblue\\ngray\\n")
(folder / "three.txt").write_text("red\\ngreen\\nblue\\n")

found = []
for name, engine, more in pairs:
    values = {"name": "own", "input_size": 32, "preprocessing": "torch", "file": str(folder / name), **more}
    if "labels" in values:
        values["labels"] = str(folder / values["labels"])
    try:
        metadata = build(Record(**values), engine, "random", folder / "images", folder / "model")
    except BuildError as error:
        found.append(str(error))
    else:
        known = ("engine", "weights", "classes", "labels", "layout", "multiply_adds")
        found.append({key: metadata[key] for key in known} | metadata["agreement"])
print(json.dumps(found))
"""
GOOD = [
    (name, engine, {"labels": "labels.txt"})
    for name in ("good", "exported", "good.onnx", "good.tflite")
    for engine in Model(file=name, input_size=32, preprocessing="torch").engines
]
REFUSED = [
    ("broken.onnx", "onnxruntime", {}, ["broken.onnx cannot be used"]),
    ("broken.onnx", "openvino", {}, ["broken.onnx cannot be used"]),
    ("broken.tflite", "litert", {}, ["broken.tflite cannot be used"]),
    ("empty", "tensorflow", {}, ["empty cannot be used"]),
    ("network.pb", "tensorflow", {}, ["not a SavedModel folder, .onnx or .tflite file"]),
    ("good.onnx", "litert", {}, ["runs in onnxruntime or openvino"]),
    ("good.tflite", "tensorflow", {}, ["runs in litert or openvino"]),
    ("bytes", "onnxruntime", {}, ["no float32 input"]),
    ("bytes.onnx", "openvino", {}, ["no float32 input"]),
    ("bytes.tflite", "litert", {}, ["no float32 input"]),
    ("two", "tensorflow", {}, ["2 inputs and 1 outputs"]),
    ("two.onnx", "onnxruntime", {}, ["2 inputs and 1 outputs"]),
    ("outside.onnx", "onnxruntime", {}, ["outside.onnx cannot be used", "outside.bin"]),
    ("good.onnx", "onnxruntime", {"labels": "three.txt"}, ["3 labels for 4 classes"]),
    ("good.tflite", "litert", {"labels": "missing.txt"}, ["missing.txt", "copy it"]),
    ("good", "litert", {"input_size": 64}, ["takes an input of shape (1, 32, 32, 3)"]),
]


def test_every_kind_of_file_runs_in_its_engines_or_is_refused_with_the_reason(
    build_stage: dict[str, str], tmp_path: Path
) -> None:
    pairs = [*GOOD, *(one[:3] for one in REFUSED)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, str(tmp_path), json.dumps(pairs)],
        cwd=FUNCTION,
        env={**build_stage, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for (name, engine, _), made in zip(GOOD, found[: len(GOOD)], strict=True):
        assert isinstance(made, dict), made
        assert (made["engine"], made["weights"], made["classes"]) == (engine, "own", 4)
        assert made["labels"] == ["red", "green", "blue", "gray"]
        assert made["layout"] == ("NCHW" if name.endswith(".onnx") else "NHWC")
        # A product of 3 colors and 4 classes; a convolution of 3 x 3 x 3 values for each of 30 x 30 x 4 outputs.
        counted = {"good": 3 * 4, "exported": 27 * 30 * 30 * 4}
        assert made["multiply_adds"] == counted.get(name), name
        assert made["pictures"] == 8
        assert made["largest_difference"] <= made["tolerance"]
    for (name, engine, _, words), said in zip(REFUSED, found[len(GOOD) :], strict=True):
        assert isinstance(said, str), (name, engine, said)
        assert all(word in said for word in words), said
