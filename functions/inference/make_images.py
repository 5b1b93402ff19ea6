"""Pack pictures to classify: check the user's own JPEGs, or generate some where there are none.

    python make_images.py DIRECTORY

A generated picture has the size of an average ImageNet picture and detail at every scale, so that decoding costs what
it costs for a photo. The same seed gives the same pixels.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import numpy.typing as npt
import tensorflow as tf

COUNT: Final = 8
WIDTH: Final = 500
HEIGHT: Final = 375
SEED: Final = 20261124
QUALITY: Final = 90
SUFFIXES: Final = (".jpg", ".jpeg")


def generate(seed: int) -> npt.NDArray[np.uint8]:
    """A picture of HEIGHT x WIDTH RGB pixels: coloured noise with a photo's falling spectrum, and a few discs."""
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pack pictures to classify.")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args(arguments).directory
    directory.mkdir(parents=True, exist_ok=True)

    own = sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
    for path in own:
        try:
            tf.io.decode_jpeg(path.read_bytes(), channels=3)
        except (OSError, tf.errors.InvalidArgumentError) as error:
            reason = str(error).splitlines()[0]
            print(f"make_images: {path.name} is not a JPEG that can be decoded: {reason}", file=sys.stderr)
            print("  Replace it or take it out of the folder.", file=sys.stderr)
            return 1
    if own:
        print(f"make_images: {len(own)} JPEG files of your own are packed")
        return 0
    for number in range(COUNT):
        encoded = tf.io.encode_jpeg(generate(SEED + number), quality=QUALITY).numpy()
        (directory / f"generated-{number}.jpg").write_bytes(encoded)
    print(f"make_images: {COUNT} generated pictures are packed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
