"""The JPEGs packed into the image: which there are, and how one becomes pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

SUFFIXES: Final = (".jpg", ".jpeg")
JPEG_START: Final = b"\xff\xd8"


class PictureError(Exception):
    """A packed picture cannot be used."""


def find_pictures(directory: Path) -> dict[str, Path]:
    """Name to path of every JPEG in `directory`, sorted by name. Raises PictureError where there is none."""
    found = {
        path.name: path
        for path in sorted(directory.glob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    }
    if not found:
        raise PictureError(f"no JPEG in {directory}; the image's build step packs some: build the image again")
    return found


def decode(path: Path, size: int) -> npt.NDArray[np.float32]:
    """The picture's largest centred square, scaled to size x size: RGB of 0 to 255, shape (1, size, size, 3).

    Bilinear with antialiasing, as Pillow scales for keras.utils.load_img(interpolation="bilinear",
    keep_aspect_ratio=True). Raises PictureError where the file is missing or no whole JPEG.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(f"image {path.name} cannot be read: {error.strerror}") from None
    if not content.startswith(JPEG_START):  # decode_jpeg would take a PNG or GIF too
        raise PictureError(f"image {path.name} is not a JPEG; replace it and build the image again")
    try:
        pixels = tf.io.decode_jpeg(content, channels=3)
    except tf.errors.InvalidArgumentError as error:
        reason = str(error.message).splitlines()[0]
        raise PictureError(
            f"image {path.name} is a corrupt JPEG ({reason}); replace it and build the image again"
        ) from None
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side][tf.newaxis]
    scaled: npt.NDArray[np.float32] = tf.image.resize(square, (size, size), antialias=True).numpy()
    return scaled
