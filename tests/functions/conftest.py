"""The function as it is deployed: its image's directory, built once by the lab's builder and kept between runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from core.configuration import parse_configuration
from core.models import PAPER_MODELS
from core.paths import BENCHMARK_TOML, REPOSITORY
from core.variants import ENGINES
from lab.images.base import PACKAGES
from lab.images.build_plan import BuildRequest
from lab.images.builder import build
from lab.images.image_store import DEFAULT_DIRECTORY, DirectoryImageStore
from tests.functions.runtime_api import Environment

FUNCTION = REPOSITORY / "functions" / "inference"
# Each engine and each model once: an export takes a minute, and checks its own agreement with Keras. The demo and the
# tests of all three models make most of these, too.
IMAGES = (*(("mobilenet", engine) for engine in ENGINES), ("resnet50", "onnxruntime"), ("inceptionv3", "tensorflow"))


class Built(Protocol):
    def __call__(self, model: str, engine: str = "tensorflow") -> Path:
        """The directory of the image of a model and an engine."""
        ...


@pytest.fixture(scope="session")
def built() -> Built:
    """Images as the CDK app asks for them, in the checkout's own store: an export by a demo or a test serves all."""
    store = DirectoryImageStore(DEFAULT_DIRECTORY)
    weights = parse_configuration(BENCHMARK_TOML.read_text(encoding="utf-8")).matrix.weights
    platform = "linux/arm64" if os.uname().machine in {"arm64", "aarch64"} else "linux/amd64"

    def of(model: str, engine: str = "tensorflow") -> Path:
        arguments = {"RECORD": PAPER_MODELS[model].build_record(model), "ENGINE": engine, "WEIGHTS": weights}
        record = build(BuildRequest(FUNCTION, FUNCTION / "Dockerfile", arguments, platform), store)
        return store.content(record.id) / "root"

    return of


def metadata_of(root: Path) -> dict[str, Any]:
    """What the build step says about the model of this image."""
    return json.loads((root / "model" / "metadata.json").read_text())


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Path:
    """A MobileNet image of one's own, to spoil."""
    image = built("mobilenet")
    root = Path(shutil.copytree(image, tmp_path / "root", ignore=shutil.ignore_patterns(PACKAGES)))
    (root / PACKAGES).symlink_to(image / PACKAGES)
    return root


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Environment]]:
    """Start environments that are gone after the test."""
    running: list[Environment] = []

    def starting(root: Path, **options: object) -> Environment:
        # The log goes beside a link to the image, as the image's own folder is shared and never written.
        link = tmp_path / f"environment-{len(running)}" / "task"
        link.parent.mkdir()
        link.symlink_to(root)
        environment = Environment(link, **options)  # type: ignore[arg-type]  # any of its options
        running.append(environment)
        return environment

    yield starting
    for environment in running:
        environment.close()


@pytest.fixture(scope="module")
def mobilenet(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """One environment for the requests that do no harm."""
    link = tmp_path_factory.mktemp("mobilenet") / "task"
    link.symlink_to(built("mobilenet"))
    environment = Environment(link)
    yield environment
    environment.close()


@pytest.fixture(scope="session")
def build_stage(built: Built) -> dict[str, str]:
    """Variables with which this Python has the packages of the image's build stage: Keras and every engine."""
    built("mobilenet")
    steps = DEFAULT_DIRECTORY / "steps"
    stage = next(step for step in steps.iterdir() if (step / "root" / PACKAGES / "keras").is_dir())
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(stage / "root" / PACKAGES)}
