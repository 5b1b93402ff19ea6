"""Make the deployable model: Keras application to TensorFlow SavedModel, once, at build.

    python build_model.py --model mobilenet --weights imagenet_or_random --output model

Writes OUTPUT/saved_model/ and OUTPUT/metadata.json, which says what the model is: its weights and their checksum, its
size, its parameters, and its multiply-adds counted in the very graph that is deployed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Read by Keras as it is imported. What it downloads must not stay in the image beside what was made of it.
DOWNLOADS: Final = tempfile.mkdtemp(prefix="keras-downloads-")
os.environ.setdefault("KERAS_HOME", DOWNLOADS)

# Imported after what they read is set.
import keras  # noqa: E402 - as said above
import numpy as np  # noqa: E402 - as said above
import tensorflow as tf  # noqa: E402 - as said above
from preprocessing import INPUT_SIZES  # noqa: E402 - as said above
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: E402 - as said above

SEED: Final = 20261124
DOWNLOAD_TIMEOUT_S: Final = 60
APPLICATIONS: Final = {"resnet50": "ResNet50", "inceptionv3": "InceptionV3", "mobilenet": "MobileNet"}
UNREACHABLE: Final = "URL fetch failure"  # how keras.utils.get_file begins its exception


class BuildError(Exception):
    """The model cannot be made; the message says what to do."""


def make_network(model: str, weights: str) -> tuple[Any, str, list[str] | None]:
    """The Keras model, "imagenet" or "random", and the labels of its classes where they could be had.

    Keras verifies the checksum of what it downloads. Only a host that is out of reach lets "imagenet_or_random" fall
    back to seeded random weights; a file with a wrong checksum is an error. Raises BuildError.
    """
    application = getattr(keras.applications, APPLICATIONS[model])
    # Keras downloads without a timeout of its own.
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    if weights != "random":
        try:
            return application(weights="imagenet"), "imagenet", _labels()
        except ValueError as error:
            raise BuildError(f"the downloaded weights of {model} are corrupt: {error}") from None
        except Exception as error:
            # keras.utils.get_file raises a bare Exception where the host is out of reach.
            if not (isinstance(error, OSError) or str(error).startswith(UNREACHABLE)):
                raise
            if weights == "imagenet":
                raise BuildError(
                    f"the ImageNet weights of {model} cannot be downloaded: {error}\n"
                    '  Mend the network, or allow seeded random weights: weights = "imagenet_or_random".'
                ) from None
            print(f"build_model: {error}\nbuild_model: seeded random weights instead", file=sys.stderr)
    keras.backend.clear_session()  # the attempt above has numbered layers, and their names are part of the checksum
    network = application(weights=None)
    randomize(network)
    return network, "random", None


def randomize(network: Any) -> None:
    """Give the network seeded weights by which pictures still differ at the output.

    Normal with variance 2 / inputs of a unit (He et al., https://arxiv.org/abs/1502.01852). Keras's default (Glorot)
    halves the signal at every rectifier, and after 27 layers every picture gets the same answer.
    """
    generator = np.random.default_rng(SEED)
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        inputs = (
            math.prod(kernel.shape[:2])
            if isinstance(layer, keras.layers.DepthwiseConv2D)
            else math.prod(kernel.shape[:-1])
        )
        kernel.assign(generator.normal(0, math.sqrt(2 / inputs), kernel.shape).astype(np.float32))


def _labels() -> list[str] | None:
    """Names of the 1000 classes, or None where their file is out of reach: an answer without names is still one."""
    try:
        path = keras.utils.get_file(
            "imagenet_class_index.json",
            "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
            cache_subdir="models",
            file_hash="c2c37ea517e94d9795004a39431a14cb",  # as keras.applications.imagenet_utils pins it
        )
    except Exception as error:  # noqa: BLE001 - keras raises a bare Exception here
        print(f"build_model: no class names: {error}", file=sys.stderr)
        return None
    index = json.loads(Path(path).read_text(encoding="utf-8"))
    return [index[str(number)][1] for number in range(len(index))]


def export(network: Any, size: int, directory: Path) -> None:
    """Write a SavedModel whose signature takes `image`: float32, shape (batch, size, size, 3), preprocessed.

    Not by the Keras model's own export(), which saves every weight twice (Keras 3.15: once as the model's variables,
    once as the archive's) and thereby doubles what a cold start has to read.
    """

    # TensorFlow has no types to check a subclass or a decorator against, here and below.
    class Deployable(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = [variable.value for variable in network.variables]

        @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32, name="image")])  # type: ignore[untyped-decorator]
        def serve(self, image: Any) -> dict[str, Any]:
            return {"probabilities": network(image, training=False)}

    deployable = Deployable()
    tf.saved_model.save(deployable, str(directory), signatures=deployable.serve)


def describe(directory: Path, size: int) -> dict[str, Any]:
    """Facts of the SavedModel as it lies on disk.

    `size_bytes` counts every file, `parameters` every weight (moving statistics of batch normalization too),
    `multiply_adds` those of one picture's forward pass, `weights_sha256` the weights in the order of their names.
    Raises BuildError where a forward pass gives no probabilities.
    """
    loaded = tf.saved_model.load(str(directory))
    signature = loaded.signatures["serving_default"]
    probabilities = next(iter(signature(image=tf.zeros((1, size, size, 3))).values())).numpy()
    if not np.isfinite(probabilities).all() or abs(float(probabilities.sum()) - 1) > 1e-3:
        raise BuildError("the exported model's forward pass gives no probabilities; the export is broken")
    checksum = hashlib.sha256()
    variables = sorted(signature.variables, key=lambda variable: variable.name)
    for variable in variables:
        checksum.update(variable.name.encode())
        checksum.update(np.ascontiguousarray(variable.numpy()).tobytes())
    size_bytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return {
        "parameters": sum(math.prod(variable.shape) for variable in variables),
        "multiply_adds": count_multiply_adds(signature, size),
        "size_bytes": size_bytes,
        "size_mb": round(size_bytes / 2**20, 1),
        "weights_sha256": checksum.hexdigest(),
        "classes": int(probabilities.shape[-1]),
    }


def count_multiply_adds(signature: Any, size: int) -> int:
    """Multiply-adds of convolutions and matrix products for one picture; the rest is below one percent.

    A convolution does kernel height x kernel width x input channels of them per output value, a depthwise one kernel
    height x kernel width. The signature's graph is walked with its batch set to 1, so shapes are what TensorFlow
    infers, not what a layer claims.
    """

    @tf.function(input_signature=[tf.TensorSpec((1, size, size, 3), tf.float32)])  # type: ignore[untyped-decorator]
    def once(image: Any) -> Any:
        return signature(image=image)

    total = 0
    for operation in convert_variables_to_constants_v2(once.get_concrete_function()).graph.get_operations():
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


def build(model: str, engine: str, weights: str, output: Path) -> dict[str, Any]:
    """Make the model in `output`, whole or not at all; returns its metadata. Raises BuildError."""
    if engine != "tensorflow":
        raise BuildError(f"engine {engine!r} is unknown; allowed: tensorflow")
    size = INPUT_SIZES[model]
    staging = output.with_name(f".{output.name}.building")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        network, origin, labels = make_network(model, weights)
        export(network, size, staging / "saved_model")
        metadata = {
            "schema_version": 1,
            "model": model,
            "engine": engine,
            "weights": origin,
            "seed": SEED if origin == "random" else None,
            "input_size": size,
            **describe(staging / "saved_model", size),
            "tensorflow_version": tf.__version__,
            "labels": labels,
        }
        (staging / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(output, ignore_errors=True)
        staging.rename(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return metadata


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the deployable model.")
    parser.add_argument("--model", required=True, choices=sorted(APPLICATIONS))
    parser.add_argument("--engine", default="tensorflow")
    parser.add_argument("--weights", default="imagenet_or_random", choices=["imagenet", "random", "imagenet_or_random"])
    parser.add_argument("--output", type=Path, default=Path("model"))
    chosen = parser.parse_args(arguments)
    try:
        metadata = build(chosen.model, chosen.engine, chosen.weights, chosen.output)
    except BuildError as error:
        print(f"build_model: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(DOWNLOADS, ignore_errors=True)
    print(json.dumps({key: value for key, value in metadata.items() if key != "labels"}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
