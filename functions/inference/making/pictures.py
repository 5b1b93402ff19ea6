"""Pack pictures to classify: check the user's own, or generate some if there are none.

    python -m making.pictures DIRECTORY

A generated picture has the size of an average ImageNet picture and detail at every scale, so that decoding costs what
it costs for a photo. The same seed gives the same pixels.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pictures import SUFFIXES, PictureError, decode, find_pictures
from PIL import Image

COUNT: Final = 8
WIDTH: Final = 500
HEIGHT: Final = 375
SEED: Final = 20261124
QUALITY: Final = 90
README: Final = "README.md"  # says what the folder is for


def generate(seed: int) -> npt.NDArray[np.uint8]:
    """A picture of HEIGHT x WIDTH RGB pixels: colored noise with a photo's falling spectrum, and a few discs."""
    generator = np.random.default_rng(seed)
    canvas = np.zeros((HEIGHT, WIDTH, 3))
    for octave in range(2, 8):
        cells = 2**octave
        grid = generator.random((cells, cells, 3))
        rows = np.arange(HEIGHT) * cells // HEIGHT
        columns = np.arange(WIDTH) * cells // WIDTH
        canvas += grid[rows][:, columns] / 2 ** (octave - 1)
    canvas /= canvas.max()
    vertical, horizontal = np.mgrid[0:HEIGHT, 0:WIDTH]
    for _ in range(generator.integers(3, 8)):
        y, x, radius = generator.integers(0, HEIGHT), generator.integers(0, WIDTH), generator.integers(20, 90)
        disc = (vertical - y) ** 2 + (horizontal - x) ** 2 < radius**2
        canvas[disc] = 0.4 * canvas[disc] + 0.6 * generator.random(3)
    return (canvas * 255).astype(np.uint8)


def pack(directory: Path) -> str:
    """Make sure that `directory` holds pictures that every call can decode; says which, and what it leaves out.

    Raises PictureError for a picture that no call could decode, and where there are files but no picture among them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        own = find_pictures(directory)
    except PictureError:
        own = {}
    left_out = sorted({path.name for path in directory.iterdir()} - {*own, README})
    note = f"; left out: {', '.join(left_out)}" if left_out else ""
    if own:
        for path in own.values():
            _check(path, directory)
        return f"{len(own)} pictures of your own are packed{note}"
    # Hidden files are an editor's or a file manager's; a user who put others here does not expect generated pictures.
    if not all(name.startswith(".") for name in left_out):
        raise PictureError(f"{directory} holds no file named {', '.join(f'*{suffix}' for suffix in SUFFIXES)}{note}")
    for number in range(COUNT):
        generated = Image.fromarray(generate(SEED + number))
        generated.save(directory / f"generated-{number}.jpg", quality=QUALITY)
    return f"{COUNT} generated pictures are packed{note}"


def _check(path: Path, directory: Path) -> None:
    """Decode a picture as every call does: what passes here is answered there. Raises PictureError."""
    # Not Path.resolve, which raises another error for a link to itself in each version of Python.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise PictureError(f"image {path.name} is a link to {path.readlink()}, which is not in the image; copy it here")
    if path.exists() and not path.is_file():
        raise PictureError(f"image {path.name} is not a file")
    decode(path, 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pack pictures to classify.")
    parser.add_argument("directory", type=Path)
    try:
        print(f"making.pictures: {pack(parser.parse_args(arguments).directory)}")
    except PictureError as error:
        print(f"making.pictures: {error}\n  Replace it, or take it out of the folder.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
