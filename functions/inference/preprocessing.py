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
    """RGB pixels of 0 to 255, shape (..., 3), as the mode scales them: float32 of the same shape.

    Raises KeyError for an unknown mode.
    """
    if mode not in PREPROCESSINGS:
        raise KeyError(mode)
    values = pixels.astype(np.float32)
    if mode == "caffe":
        return values[..., ::-1] - CAFFE_MEAN_BGR
    if mode == "tf":
        values /= np.float32(127.5)
        values -= np.float32(1)
    elif mode == "torch":
        values /= np.float32(255)
        values -= TORCH_MEAN
        values /= TORCH_DEVIATION
    return values
