"""From pixels to the numbers a network was trained on. No I/O."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

Preprocessing = Literal["caffe", "tf", "torch", "none"]
"""The modes of keras.applications.imagenet_utils.preprocess_input, and "none" for pixels of 0 to 255."""

PREPROCESSINGS: Final[tuple[str, ...]] = get_args(Preprocessing)

# Means and standard deviations of ImageNet's training set, as keras.applications.imagenet_utils has them: in BGR order
# for networks that come from Caffe, in RGB order and divided by 255 for those that come from PyTorch.
CAFFE_MEAN_BGR: Final = np.array([103.939, 116.779, 123.68], dtype=np.float32)
TORCH_MEAN: Final = np.array([0.485, 0.456, 0.406], dtype=np.float32)
TORCH_DEVIATION: Final = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def preprocess(mode: str, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """RGB pixels of 0 to 255, shape (..., width, 3), as the mode scales them: float32 of the same shape.

    Raises KeyError for an unknown mode.
    """
    if mode not in PREPROCESSINGS:
        raise KeyError(mode)
    values = pixels.astype(np.float32, order="C")
    if mode == "none":
        return values
    # A row of pixels at a time: over a last axis of 3, numpy takes six times as long.
    width = values.shape[-2]
    rows = values.reshape(-1, width * 3)
    if mode == "caffe":
        values[..., 0], values[..., 2] = values[..., 2], values[..., 0].copy()
        rows -= np.tile(CAFFE_MEAN_BGR, width)
    elif mode == "tf":
        rows /= np.float32(127.5)
        rows -= np.float32(1)
    else:
        rows /= np.float32(255)
        rows -= np.tile(TORCH_MEAN, width)
        rows /= np.tile(TORCH_DEVIATION, width)
    return values
