"""Make the model that the image runs, for one engine, and hold its answers to those of its source.

    python -m making.model --engine onnxruntime --weights random --images images --output model

The environment variable RECORD holds the model's record as JSON: see making/record.py. Writes the engine's files and
metadata.json, which says what the model is: weights and checksum, size, parameters, multiply-adds, agreement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import classifier
import keras
import numpy as np
import tensorflow as tf
from engines import ENGINES, EngineError

from making.agreement import check_agreement
from making.counting import count
from making.exporting import Signature, export, export_network, single_call
from making.networks import SEED, keras_input, make_network
from making.record import BuildError, Record, parse_record

RECORD_VARIABLE = "RECORD"


def build(record: Record, engine: str, weights: str, images: Path, output: Path) -> dict[str, Any]:
    """Make the model in `output`, whole or not at all; returns its metadata. Raises BuildError."""
    staging = output.with_name(f".{output.name}.building")
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "packed").mkdir(parents=True)
    try:
        make = _from_application if record.application else _from_file_or_refuse
        reference, source, facts = make(record, weights, staging)
        signature = export(source, engine, staging / "packed")
        metadata = {
            "schema_version": 2,
            "model": record.name,
            "engine": engine,
            **facts,
            **_describe(record, signature),
            "size_bytes": _size_bytes(staging / "packed"),
            "size_mb": round(_size_bytes(staging / "packed") / 2**20, 1),
        }
        metadata["agreement"] = _check(metadata, staging / "packed", reference, images)
        (staging / "packed" / classifier.METADATA).write_text(
            json.dumps(metadata, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
        shutil.rmtree(output, ignore_errors=True)
        (staging / "packed").rename(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return metadata


Made = tuple[Callable[[Path], Any], Path, dict[str, Any]]


def _from_application(record: Record, weights: str, staging: Path) -> Made:
    """The application's own answer to a picture, its SavedModel, and facts."""
    network, origin, labels = make_network(record, weights)
    source = staging / "source"
    export_network(network, record.input_size, source)
    facts = {
        "weights": origin,
        "seed": SEED if origin == "random" else None,
        **count(source),
        "labels": labels,
        "made_with": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    return lambda path: network(keras_input(record, path), training=False), source, facts


def _from_file_or_refuse(record: Record, weights: str, staging: Path) -> Made:  # noqa: ARG001 - one shape for both sources
    """Read the file. Raises BuildError with the reader's own words for a file that is damaged or of another kind."""
    try:
        return _from_file(record, staging)
    except BuildError:
        raise
    except Exception as error:  # noqa: BLE001 - each format's reader raises exceptions of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BuildError(f"model {record.name!r}: {record.file} cannot be used: {reason}") from None


def _from_file(record: Record, staging: Path) -> Made:
    """What the file's own runtime answers, the file, and facts."""
    source = Path(record.file)
    if not source.exists():
        raise BuildError(f"model {record.name!r}: {record.file} is not in the build context; copy it there")
    if record.labels and not Path(record.labels).is_file():
        raise BuildError(f"model {record.name!r}: {record.labels} is not in the build context; copy it there")
    labels = Path(record.labels).read_text(encoding="utf-8").splitlines() if record.labels else None
    facts: dict[str, Any] = {"weights": "own", "seed": None, "labels": labels}
    if source.is_dir():
        call, _ = single_call(source)
        return lambda path: call(tf.constant(keras_input(record, path))), source, {**facts, **count(source)}
    facts |= {
        "parameters": None,
        "multiply_adds": None,  # counted in TensorFlow's graphs only
        "weights_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    engine = {".onnx": "onnxruntime", ".tflite": "litert"}.get(source.suffix, "")
    folder = staging / "reference"
    folder.mkdir()
    signature = export(source, engine, folder)
    native = _load({"engine": engine, **facts, **_describe(record, signature)}, folder)

    def reference(path: Path) -> Any:
        batch = np.asarray(keras_input(record, path), np.float32)
        return native.forward(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if signature_is_nchw else batch)

    signature_is_nchw = native.metadata["layout"] == "NCHW"
    return reference, source, facts


def _describe(record: Record, signature: Signature) -> dict[str, Any]:
    """How pixels become the model's input, and its output probabilities. Raises BuildError for another shape."""
    size = record.input_size
    layouts = {(1, size, size, 3): "NHWC", (1, 3, size, size): "NCHW"}
    if signature.input_shape not in layouts:
        raise BuildError(
            f"model {record.name!r} takes an input of shape {signature.input_shape}; with input_size = {size} it has "
            f"to be {' or '.join(map(str, layouts))}"
        )
    return {
        "input_size": size,
        "preprocessing": record.preprocessing,
        "layout": layouts[signature.input_shape],
        "output": record.output,
        "signature": asdict(signature),
    }


def _load(metadata: dict[str, Any], directory: Path) -> classifier.Classifier:
    return classifier.load(classifier.engine_of(metadata), metadata, directory)


def _check(metadata: dict[str, Any], directory: Path, reference: Callable[[Path], Any], images: Path) -> dict[str, Any]:
    try:
        model = _load(metadata, directory)
        agreement = check_agreement(model, reference, images)
    except (classifier.ModelError, EngineError) as error:
        raise BuildError(f"{metadata['engine']} cannot run the model: {error}") from None
    classes = model.forward(np.zeros(metadata["signature"]["input_shape"], np.float32)).shape[-1]
    if metadata["labels"] and len(metadata["labels"]) != classes:
        raise BuildError(f"{len(metadata['labels'])} labels for {classes} classes")
    metadata["classes"] = int(classes)
    return agreement


def _size_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the model that the image runs.")
    parser.add_argument("--engine", default="tensorflow", choices=ENGINES)
    parser.add_argument("--weights", default="imagenet_or_random", choices=["imagenet", "random", "imagenet_or_random"])
    parser.add_argument("--images", type=Path, default=Path("images"))
    parser.add_argument("--output", type=Path, default=Path("model"))
    chosen = parser.parse_args(arguments)
    try:
        record = parse_record(os.environ.get(RECORD_VARIABLE, ""))
        metadata = build(record, chosen.engine, chosen.weights, chosen.images, chosen.output)
    except BuildError as error:
        print(f"making.model: {error}", file=sys.stderr)
        return 1
    print(json.dumps({key: value for key, value in metadata.items() if key != "labels"}, allow_nan=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
