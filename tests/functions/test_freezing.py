"""What the build does to TensorFlow's graph leaves its answers as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functions.conftest import FUNCTION

pytestmark = pytest.mark.slow

# Networks that hold what can be folded next to what cannot: each must answer as Keras does, on either kind of kernel.
# The oneDNN operations exist on x86 only.
COMPARE = """
import json, pathlib, platform, sys
import keras, numpy as np
from keras import layers
from engines import PackedModel, import_engine
from making.freezing import freeze
from making.networks import randomize

def network(*steps):
    picture = keras.Input((18, 18, 8), batch_size=1)
    values = picture
    for step in steps:
        values = step(values)
    return keras.Model(picture, layers.Softmax()(layers.Dense(5)(layers.GlobalAveragePooling2D()(values))))

def shared(values):
    found = layers.Conv2D(8, 3, padding="same")(values)
    return layers.Add()([layers.BatchNormalization()(found), layers.ReLU()(found)])

def padded_for_two(values):
    padded = layers.ZeroPadding2D(1)(values)
    return layers.Add()([layers.Conv2D(8, 3)(padded), layers.DepthwiseConv2D(3)(padded)])

norm, relu = layers.BatchNormalization, layers.ReLU
NETWORKS = {
    "plain": [layers.Conv2D(12, 3, use_bias=False), norm(), relu(6)],
    "bias": [layers.Conv2D(12, 3), norm(), relu()],
    "no scale": [layers.Conv2D(12, 1, use_bias=False), norm(scale=False), relu()],
    "no activation": [layers.Conv2D(12, 3), norm()],
    "other activation": [layers.Conv2D(12, 3), norm(), layers.Activation("swish")],
    "normalized before": [norm(), layers.Conv2D(12, 3, activation="relu")],
    "depthwise": [layers.DepthwiseConv2D(3, padding="same", use_bias=False), norm(), relu(6)],
    "depthwise with bias": [layers.DepthwiseConv2D(5, padding="same"), norm(), relu()],
    "depth multiplier": [layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), norm(), relu()],
    "dilated": [layers.Conv2D(12, 3, dilation_rate=2, use_bias=False), norm(), relu()],
    "grouped": [layers.Conv2D(12, 3, groups=4, use_bias=False), norm(), relu()],
    "padding like same": [layers.ZeroPadding2D(1), layers.Conv2D(12, 3, strides=2), norm(), relu()],
    "padding at one side": [layers.ZeroPadding2D(((0, 1), (0, 1))), layers.DepthwiseConv2D(3, strides=2), norm()],
    "wide padding": [layers.ZeroPadding2D(3), layers.Conv2D(12, 7, strides=2, use_bias=False), norm(), relu()],
    "padding before pooling": [layers.ZeroPadding2D(1), layers.MaxPooling2D(3, strides=2), layers.Conv2D(12, 3)],
    "shared": [shared],
    "padded for two": [padded_for_two],
}
directory = pathlib.Path(sys.argv[1])
engine = import_engine("tensorflow")
kinds = [False] + [True] * (platform.machine() == "x86_64")
found = {}
for name, steps in NETWORKS.items():
    model = network(*steps)
    randomize(model)
    picture = np.random.default_rng(1).normal(0, 1, (1, 18, 18, 8)).astype(np.float32)
    expected = model(picture, training=False).numpy()
    for onednn in kinds:
        folder = directory / f"{name} {onednn}"
        folder.mkdir()
        names = freeze(lambda values: model(values, training=False), picture.shape, folder, onednn=onednn)
        forward = engine.load(PackedModel(folder, *names, picture.shape), threads=1)
        answers = [forward(picture) for _ in range(2)]
        text = (folder / "graph.pb").read_bytes()
        found[folder.name] = [float(max(np.abs(one - expected).max() for one in answers)), b"_MklNative" in text]
print(json.dumps(found))
"""


def test_a_prepared_graph_answers_as_keras_does(build_stage: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", COMPARE, str(tmp_path)]
    done = subprocess.run(command, cwd=FUNCTION, env=build_stage, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) >= 17
    for name, (difference, _) in found.items():
        assert difference < 1e-5, name
    fused = {name.rpartition(" ")[0] for name, (_, onednn) in found.items() if onednn}
    assert {"plain", "depthwise", "padding at one side", "wide padding"} <= fused or not fused
    assert not fused & {"dilated", "grouped", "depth multiplier"}


# A model whose last step looks its classes' scores up in a table, exported as a person exports it.
TABLE = """
import pathlib, sys
import tensorflow as tf
from making.exporting import export
from making.record import BuildError

class Deployable(tf.Module):
    def __init__(self):
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer(tf.range(4, dtype=tf.int64), tf.range(4.0))
        self.table = tf.lookup.StaticHashTable(pairs, 0.0)

    @tf.function(input_signature=[tf.TensorSpec((1, 2, 2, 3), tf.float32, name="image")])
    def serve(self, image):
        return {"scores": self.table.lookup(tf.cast(tf.reduce_mean(image, (1, 2)), tf.int64))}

folder = pathlib.Path(sys.argv[1])
deployable = Deployable()
tf.saved_model.save(deployable, str(folder / "source"), signatures=deployable.serve)
(folder / "packed").mkdir()
try:
    export(folder / "source", "tensorflow", folder / "packed")
except BuildError as error:
    print(error)
"""


def test_a_saved_model_with_a_table_is_refused_in_plain_words(build_stage: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", TABLE, str(tmp_path)]
    done = subprocess.run(command, cwd=FUNCTION, env=build_stage, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "holds a lookup table" in done.stdout
    assert "use another engine" in done.stdout
    assert not list((tmp_path / "packed").iterdir())
