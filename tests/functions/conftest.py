"""The function as it is deployed: its image's directory, built once by the lab's builder and kept between runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from core.paths import REPOSITORY
from lab.images import DirectoryImageStore
from lab.images.builder import BuildRequest, build
from tests.functions.runtime_api import Environment

FUNCTION = REPOSITORY / "functions" / "inference"


class Built(Protocol):
    def __call__(self, model: str, weights: str = "imagenet_or_random") -> Path:
        """The directory of a model's image."""
        ...


@pytest.fixture(scope="session")
def built() -> Built:
    """Images as the CDK app asks for them, in the checkout's own store: what one test builds serves the others too."""
    store = DirectoryImageStore()
    platform = "linux/arm64" if os.uname().machine in {"arm64", "aarch64"} else "linux/amd64"

    def of(model: str, weights: str = "imagenet_or_random") -> Path:
        arguments = {"MODEL": model, "ENGINE": "tensorflow", "WEIGHTS": weights}
        record = build(BuildRequest(FUNCTION, FUNCTION / "Dockerfile", arguments, platform), store)
        return store.content(record.id) / "root"

    return of


def metadata_of(root: Path) -> dict[str, Any]:
    """What the build step says about the model of this image."""
    return json.loads((root / "model" / "metadata.json").read_text())


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Path:
    """A MobileNet image of one's own, to spoil."""
    return Path(shutil.copytree(built("mobilenet"), tmp_path / "root"))


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


def function_python() -> list[str]:
    """This interpreter; TensorFlow stays out of the tests' own process, whose children are started by fork."""
    return [sys.executable]
