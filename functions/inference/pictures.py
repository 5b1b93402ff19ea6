"""The pictures packed into the image: which there are, and how one becomes pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".gif", ".webp")
FORMATS: Final = ("JPEG", "PNG", "GIF", "WEBP")  # as Pillow names them; the content decides, not the file's name
# A decoded picture takes 3 bytes per pixel: this many are 72 MB, which fits next to a model at 512 MB.
MAX_PIXELS: Final = 24_000_000
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is higher, and half of it only a warning
Image.preinit()  # loads the decoders now, which is in init, and not with the first picture
EIGHT_BITS: Final = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}  # modes of Pillow


class PictureError(Exception):
    """A packed picture cannot be used."""


def find_pictures(directory: Path) -> dict[str, Path]:
    """Name to path of every picture in `directory`, sorted by name. Raises PictureError if there is none."""
    found = {
        path.name: path
        for path in sorted(directory.glob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    }
    if not found:
        raise PictureError(f"{directory} holds no picture; the build step packs some: build the image again")
    return found


def decode(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """The picture's largest centered square, scaled to size x size: RGB of 0 to 255, shape (1, size, size, 3).

    Equal to keras.utils.load_img(interpolation="bilinear", keep_aspect_ratio=True), which is Pillow too: alpha is
    dropped, of an animation the first frame counts, and an EXIF orientation is ignored. Raises PictureError for a file
    that is missing, incomplete, of another format, over MAX_PIXELS, or has more than 8 bits per channel.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(f"image {path.name} cannot be read: {error.strerror}") from None
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            return _scale(picture, path.name, size)
    except UnidentifiedImageError:
        raise PictureError(f"image {path.name} is not a picture in one of the formats {', '.join(FORMATS)}") from None
    except PictureError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error, ...
        raise PictureError(f"image {path.name} is damaged or incomplete ({error}); replace it") from None


def _scale(picture: Image.Image, name: str, size: int) -> npt.NDArray[np.uint8]:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"image {name} is too large: {width} x {height} pixels, at most {MAX_PIXELS:,} are decoded; scale it down"
        )
    if picture.mode not in EIGHT_BITS:
        raise PictureError(
            f"image {name} has more than 8 bits per channel (mode {picture.mode}); save it with 8 bits per channel"
        )
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    scaled = picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(scaled)[np.newaxis]
