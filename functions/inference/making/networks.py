"""Keras applications with their weights."""

from __future__ import annotations

import math
import socket
import sys
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from classifier import parse_json

from making.record import BuildError, Record

SEED: Final = 20261124
SPREAD_OF_SCORES: Final = 2.0  # standard deviation, before softmax
BLOCK: Final = 16  # pixels of one color in a picture made up
DOWNLOAD_TIMEOUT_S: Final = 60
UNREACHABLE: Final = "URL fetch failure"  # how keras.utils.get_file begins its exception


def make_network(record: Record, weights: str) -> tuple[Any, str, list[str] | None]:
    """The Keras model, "imagenet" or "random", and the names of its classes where they are available.

    Keras verifies the checksum of what it downloads. Only an unreachable host lets "imagenet_or_random" fall back to
    seeded random weights; a file with a wrong checksum is an error. Raises BuildError.
    """
    application = getattr(keras.applications, record.application, None)
    if not callable(application):
        raise BuildError(f"model {record.name!r}: keras.applications has no {record.application!r}")
    # Keras downloads without a timeout.
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    shape = (record.input_size, record.input_size, 3)
    if weights != "random":
        try:
            return application(weights="imagenet", input_shape=shape), "imagenet", _labels()
        except ValueError as error:
            raise BuildError(f"the ImageNet weights of {record.name} cannot be used: {error}") from None
        except Exception as error:
            # keras.utils.get_file raises a bare Exception if the host is unreachable.
            if not (isinstance(error, OSError) or str(error).startswith(UNREACHABLE)):
                raise
            if weights == "imagenet":
                raise BuildError(
                    f"the ImageNet weights of {record.name} cannot be downloaded: {error}\n"
                    '  Check the network, or allow seeded random weights: weights = "imagenet_or_random".'
                ) from None
            print(f"making.model: {error}\nmaking.model: seeded random weights instead", file=sys.stderr)
    keras.backend.clear_session()  # the attempt above has numbered layers, and their names are part of the checksum
    network = application(weights=None, input_shape=shape)
    randomize(network)
    _level_scores(network, record)
    return network, "random", None


def randomize(network: Any) -> None:
    """Give the network seeded weights by which pictures still differ at the output.

    Normal with variance 2 / inputs of a unit (He et al., https://arxiv.org/abs/1502.01852). Keras's default (Glorot)
    halves the signal at every rectifier, and after 27 layers every picture gets the same answer.
    """
    generator = np.random.default_rng(SEED)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            _randomize_statistics(layer, generator)
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        inputs = (
            math.prod(kernel.shape[:2])
            if isinstance(layer, keras.layers.DepthwiseConv2D)
            else math.prod(kernel.shape[:-1])
        )
        kernel.assign(generator.normal(0, math.sqrt(2 / inputs), kernel.shape).astype(np.float32))


def _level_scores(network: Any, record: Record) -> None:
    """Scale the last layer so that no class has all the probability.

    ResNet50's additions let the scores grow until softmax is 0 or 1, and any engine would agree with that. The factor
    is a power of two, so that the weights are the same on every machine.
    """
    last = next(layer for layer in reversed(network.layers) if getattr(layer, "kernel", None) is not None)
    blocks = np.random.default_rng(SEED).uniform(
        0, 255, (4, record.input_size // BLOCK + 1, record.input_size // BLOCK + 1, 3)
    )
    pixels = blocks.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, : record.input_size, : record.input_size].astype(np.float32)
    features = np.asarray(keras.Model(network.inputs, last.input)(_preprocess(record, pixels)))
    kernel = np.asarray(last.kernel)
    scores = features.reshape(-1, features.shape[-1]) @ kernel.reshape(features.shape[-1], -1)
    last.kernel.assign(kernel * 2.0 ** round(math.log2(SPREAD_OF_SCORES / float(scores.std()))))


def _randomize_statistics(layer: Any, generator: np.random.Generator) -> None:
    """Make a batch normalization do work: Keras's own start, 0 and 1, could be left out of the graph."""
    for weight in layer.weights:
        around_one = weight.name in {"gamma", "moving_variance"}
        values = generator.uniform(0.8, 1.2, weight.shape) if around_one else generator.normal(0, 0.1, weight.shape)
        weight.assign(values.astype(np.float32))


def _labels() -> list[str] | None:
    """Names of the 1000 classes, or None if their file is unreachable: an answer without names is still valid."""
    try:
        path = keras.utils.get_file(
            "imagenet_class_index.json",
            "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
            cache_subdir="models",
            file_hash="c2c37ea517e94d9795004a39431a14cb",  # as keras.applications.imagenet_utils pins it
        )
    except Exception as error:  # noqa: BLE001 - keras raises a bare Exception here
        print(f"making.model: no class names: {error}", file=sys.stderr)
        return None
    index = parse_json(Path(path).read_text(encoding="utf-8"))
    return [index[str(number)][1] for number in range(len(index))]


def keras_input(record: Record, path: Path) -> Any:
    """The picture as Keras itself reads, scales and preprocesses it, shape (1, size, size, 3)."""
    size = (record.input_size, record.input_size)
    picture = keras.utils.load_img(path, target_size=size, interpolation="bilinear", keep_aspect_ratio=True)
    return _preprocess(record, keras.utils.img_to_array(picture)[np.newaxis])


def _preprocess(record: Record, pixels: Any) -> Any:
    if record.preprocessing == "none":
        return pixels
    return keras.applications.imagenet_utils.preprocess_input(
        pixels, data_format="channels_last", mode=record.preprocessing
    )
