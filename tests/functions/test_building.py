"""The build step: what is deployed is what its metadata says."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.functions.conftest import FUNCTION, Built, function_python, metadata_of

# Multiply-adds in millions, size in MB and parameters as published. Sizes: https://keras.io/api/applications/.
# Multiply-adds: MobileNet https://arxiv.org/abs/1704.04861 (569), ResNet-50 https://arxiv.org/abs/1512.03385 (3.8e9),
# InceptionV3 https://arxiv.org/abs/1512.00567 (5e9 there; 5.7e9 by later counts at 299 pixels).
PUBLISHED = {
    "mobilenet": (569, 16, 4_253_864),
    "resnet50": (3_860, 98, 25_636_712),
    "inceptionv3": (5_713, 92, 23_851_784),
}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*function_python(), *arguments],
        cwd=FUNCTION,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("model", sorted(PUBLISHED))
def test_metadata_agrees_with_the_published_figures(model: str, built: Built) -> None:
    metadata = metadata_of(built(model))
    millions, size_mb, parameters = PUBLISHED[model]
    assert metadata["multiply_adds"] / 1e6 == pytest.approx(millions, rel=0.01)
    assert metadata["size_mb"] == pytest.approx(size_mb, rel=0.06)
    assert metadata["parameters"] == parameters
    assert metadata["classes"] == 1000
    assert (metadata["model"], metadata["engine"]) == (model, "tensorflow")
    assert metadata["weights"] in {"imagenet", "random"}
    assert (metadata["labels"] is None) or (len(metadata["labels"]) == 1000 and metadata["weights"] == "imagenet")
    assert len(metadata["weights_sha256"]) == 64
    files = [path for path in (built(model) / "model" / "saved_model").rglob("*") if path.is_file()]
    assert metadata["size_bytes"] == sum(path.stat().st_size for path in files)


def test_random_weights_are_the_same_in_every_build_and_unreachable_weights_fall_back_to_them(
    built: Built, tmp_path: Path
) -> None:
    expected = metadata_of(built("mobilenet", "random"))
    # Nothing listens there, so Keras's download is refused on any machine.
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    output = tmp_path / "model"
    done = run("build_model.py", "--model", "mobilenet", "--output", str(output), **nowhere)
    assert done.returncode == 0, done.stderr
    assert "seeded random weights instead" in done.stderr
    metadata = json.loads((output / "metadata.json").read_text())
    assert metadata["weights"] == "random"
    assert metadata["weights_sha256"] == expected["weights_sha256"]


def test_demanded_imagenet_weights_that_cannot_be_had_fail_the_build_and_leave_nothing(tmp_path: Path) -> None:
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    output = tmp_path / "model"
    done = run("build_model.py", "--model", "mobilenet", "--weights", "imagenet", "--output", str(output), **nowhere)
    assert done.returncode == 1
    assert "cannot be downloaded" in done.stderr
    assert "imagenet_or_random" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in tmp_path.iterdir() if "model" in path.name and path.name != "models"] == []


# One process of TensorFlow for all of it: pixels of every kind, each model, compared with keras.applications itself.
COMPARE = """
import json
import keras, numpy as np
from preprocessing import INPUT_SIZES, preprocess
modules = {"resnet50": keras.applications.resnet50, "inceptionv3": keras.applications.inception_v3,
           "mobilenet": keras.applications.mobilenet}
generator = np.random.default_rng(1)
worst = {}
for model, module in modules.items():
    for pixels in (generator.integers(0, 256, (2, 9, 7, 3)), generator.random((1, 5, 5, 3)) * 255,
                   np.zeros((1, 2, 2, 3)), np.full((1, 2, 2, 3), 255)):
        theirs = module.preprocess_input(pixels.astype(np.float32).copy())
        ours = preprocess(model, pixels)
        assert ours.dtype == np.float32 and ours.shape == theirs.shape
        worst[model] = max(worst.get(model, 0.0), float(np.abs(ours - theirs).max()))
sizes = {"resnet50": keras.applications.ResNet50, "inceptionv3": keras.applications.InceptionV3,
         "mobilenet": keras.applications.MobileNet}
print(json.dumps({"worst": worst, "sizes": INPUT_SIZES}))
"""


def test_preprocessing_is_that_of_keras_applications() -> None:
    done = run("-c", COMPARE, TF_CPP_MIN_LOG_LEVEL="3")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert max(result["worst"].values()) < 1e-4  # of values up to 255: rounding of float32
    assert result["sizes"] == {"resnet50": 224, "inceptionv3": 299, "mobilenet": 224}


def test_a_users_own_pictures_are_packed_instead_of_generated_ones(built: Built, tmp_path: Path) -> None:
    (tmp_path / "cat.JPG").write_bytes((built("mobilenet") / "images" / "generated-0.jpg").read_bytes())
    (tmp_path / "README.md").write_text("no picture")
    done = run("make_images.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "cat.JPG"]


def test_a_users_corrupt_picture_fails_the_build_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8 half a cat")
    done = run("make_images.py", str(tmp_path))
    assert done.returncode == 1
    assert "cat.jpg" in done.stderr
    assert "Traceback" not in done.stderr


def test_generated_pictures_are_the_same_in_every_build_and_differ_from_each_other(
    built: Built, tmp_path: Path
) -> None:
    assert run("make_images.py", str(tmp_path)).returncode == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(set(made.values())) == 8
    packed = built("mobilenet") / "images"
    assert made == {path.name: path.read_bytes() for path in packed.iterdir()}
