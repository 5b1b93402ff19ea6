"""The build's own checks: what passes them is answered later, and what no call could answer fails the build."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.functions.conftest import FUNCTION

MODULES: tuple[str, ...] = ("making", "making.agreement", "making.pictures", "making.record")
MODULES += ("classifier", "pictures", "preprocessing", "engines")
CLASSES = 4
GOOD = np.asarray([[0.1, 0.2, 0.3, 0.4]], np.float32)


@pytest.fixture(scope="module")
def making() -> Iterator[SimpleNamespace]:
    """The modules of the build, as its stage imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FUNCTION))
        for name in MODULES:
            patch.delitem(sys.modules, name, raising=False)
        found: dict[str, ModuleType] = {name.rpartition(".")[2]: importlib.import_module(name) for name in MODULES}
        yield SimpleNamespace(**found, packing=sys.modules["making.pictures"], decoding=sys.modules["pictures"])
    for name in MODULES:
        sys.modules.pop(name, None)


def picture(form: str, mode: str = "RGB") -> Callable[[Path], None]:
    return lambda path: Image.new(mode, (9, 7), 1).save(path, form)


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def link(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.symlink_to(target)

    return make


PICTURES = {
    "a.jpg": picture("JPEG"),
    "UPPER.JPG": picture("JPEG"),
    "b.jpeg": picture("JPEG"),
    "png.jpg": picture("PNG"),
    "gif.jpg": picture("GIF"),
    "webp.jpg": picture("WEBP"),
    "jpeg.png": picture("JPEG"),
    "grey.jpg": picture("JPEG", "L"),
    "alpha.webp": picture("WEBP", "RGBA"),
    "with blank, ünicode.gif": picture("GIF"),
    "link.jpg": link("a.jpg"),
}
LEFT_OUT = {
    "bitmap.bmp": picture("BMP"),
    "scan.tiff": picture("TIFF"),
    "no-suffix": picture("JPEG"),
    "a.jpg.bak": picture("JPEG"),
    "notes.txt": written(b"notes"),
    "animals": Path.mkdir,
    ".hidden.jpg": picture("JPEG"),
    "._a.jpg": written(b"\x00\x05\x16\x07"),
    ".DS_Store": written(b""),
}
REFUSED = {
    "empty.jpg": written(b""),
    "bitmap.jpg": picture("BMP"),
    "tiff.PNG": picture("TIFF"),
    "half.jpg": written(b"\xff\xd8\xff\xe0"),
    "text.jpg": written(b"<html>404</html>"),
    "sixteen.png": picture("PNG", "I;16"),
    "folder.jpg": Path.mkdir,
    "nowhere.jpg": link("missing.jpg"),
    "outside.jpg": link("../outside.jpg"),
    "pipe.jpg": os.mkfifo,
    "loop.jpg": link("loop.jpg"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture("JPEG")(tmp_path / "outside.jpg")
    images = tmp_path / "images"
    images.mkdir()
    (images / "README.md").write_text("what this folder is for")
    return images


def test_every_picture_that_passes_the_build_is_decoded_by_a_call(making: SimpleNamespace, folder: Path) -> None:
    for name, make in (PICTURES | LEFT_OUT).items():
        make(folder / name)
    said = making.packing.pack(folder)
    packed = making.decoding.find_pictures(folder)
    assert set(packed) == set(PICTURES)
    for path in packed.values():
        assert making.decoding.decode(path, 8).shape == (1, 8, 8, 3)
    assert said.startswith(f"{len(PICTURES)} ")
    assert said.endswith(f": {', '.join(sorted(LEFT_OUT))}")


@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_that_no_call_could_decode_fails_the_build(making: SimpleNamespace, folder: Path, name: str) -> None:
    picture("JPEG")(folder / "a.jpg")
    REFUSED[name](folder / name)
    with pytest.raises(making.decoding.PictureError, match=name):
        making.packing.pack(folder)


@pytest.mark.parametrize("name", [name for name in LEFT_OUT if not name.startswith(".")])
def test_a_folder_of_other_files_alone_fails_the_build(making: SimpleNamespace, folder: Path, name: str) -> None:
    LEFT_OUT[name](folder / name)
    with pytest.raises(making.decoding.PictureError, match=rf"\*\.jpg.*left out: {name}$"):
        making.packing.pack(folder)
    assert {path.name for path in folder.iterdir()} == {"README.md", name}


def test_a_folder_without_files_of_ones_own_gets_generated_pictures(making: SimpleNamespace, folder: Path) -> None:
    LEFT_OUT[".DS_Store"](folder / ".DS_Store")
    first, second = making.packing.pack(folder), making.packing.pack(folder)
    assert first.startswith("8 generated ")
    assert re.match(r"8 .* your own .* \.DS_Store$", second)


def spoilt(*values: float) -> Any:
    """`GOOD` with its first scores replaced."""
    return np.asarray([[*values, *GOOD[0, len(values) :]]], np.float32)


@pytest.mark.parametrize("output", ["probabilities", "logits"])
@pytest.mark.parametrize(
    "wrong", [spoilt(float("nan")), spoilt(float("inf")), spoilt(float("-inf")), spoilt(*[float("nan")] * CLASSES)]
)
@pytest.mark.parametrize("who", ["engine", "source", "both"])
def test_a_score_that_is_not_finite_fails_the_build(
    making: SimpleNamespace, folder: Path, output: str, wrong: Any, who: str
) -> None:
    with pytest.raises(making.record.BuildError, match=r"scores that are NaN or infinite"):
        agreement(making, folder, output, GOOD if who == "source" else wrong, GOOD if who == "engine" else wrong)


@pytest.mark.parametrize("wrong", [spoilt(-0.2, 0.5), spoilt(0.5), np.zeros((1, CLASSES), np.float32)])
def test_an_output_that_is_not_a_distribution_fails_the_build(
    making: SimpleNamespace, folder: Path, wrong: Any
) -> None:
    for scores, reference in ((wrong, GOOD), (GOOD, wrong), (wrong, wrong)):
        with pytest.raises(making.record.BuildError, match=r"is not a distribution.*logits"):
            agreement(making, folder, "probabilities", scores, reference)


def test_a_source_with_other_classes_disagrees(making: SimpleNamespace, folder: Path) -> None:
    with pytest.raises(making.record.BuildError, match=r"4 classes for a\.jpg, its source 2"):
        agreement(making, folder, "probabilities", GOOD, np.asarray([[0.5, 0.5]], np.float32))


def test_equal_outputs_agree_even_where_all_classes_are_equally_probable(making: SimpleNamespace, folder: Path) -> None:
    for scores in (GOOD, np.full((1, CLASSES), 1 / CLASSES, np.float32)):
        assert agreement(making, folder, "probabilities", scores, scores)["largest_difference"] == 0.0


def agreement(making: SimpleNamespace, folder: Path, output: str, scores: Any, reference: Any) -> dict[str, Any]:
    """The real check of an engine and a source that give these scores for every picture."""
    picture("JPEG")(folder / "a.jpg")
    metadata = {"engine": "litert", "model": "tiny", "input_size": 4, "preprocessing": "tf", "layout": "NHWC"}
    model = making.classifier.Classifier(metadata | {"output": output}, lambda _batch: scores)
    found: dict[str, Any] = making.agreement.check_agreement(model, lambda _path: reference, folder)
    return found
