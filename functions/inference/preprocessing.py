"""From pixels to what a network was trained on. Numbers only: no TensorFlow, no I/O."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

# Side of the square input in pixels: keras.applications' default_size of each model.
INPUT_SIZES: Final = {"resnet50": 224, "inceptionv3": 299, "mobilenet": 224}

# Means of ImageNet's training set in BGR order, as Caffe subtracted them and keras.applications.imagenet_utils does.
CAFFE_MEAN_BGR: Final = np.array([103.939, 116.779, 123.68], dtype=np.float32)


def preprocess(model: str, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """RGB pixels of 0 to 255, shape (..., 3), as this model wants them: float32 of the same shape.

    Equal to keras.applications.<model>.preprocess_input: ResNet50 was converted from Caffe (BGR, mean subtracted), the
    two others were trained on -1 to 1. Raises KeyError for a model that is not in INPUT_SIZES.
    """
    if model not in INPUT_SIZES:
        raise KeyError(model)
    values = pixels.astype(np.float32)
    if model == "resnet50":
        return values[..., ::-1] - CAFFE_MEAN_BGR
    return values / np.float32(127.5) - np.float32(1)
