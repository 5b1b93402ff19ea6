"""Hold an engine's answers to those of the model it was made from, on the packed pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import classifier
import numpy as np
from pictures import decode, find_pictures

from making.record import BuildError

# Largest difference, as a share of the distance between a picture's most and least probable class: with random weights
# all probabilities are close to each other. Engines sum in different orders and fuse different operations; 32-bit
# rounding through some hundred layers stays well below it, a wrong channel order or scale goes far beyond.
TOLERANCE: Final = 1e-3
NOT_A_DISTRIBUTION: Final = 1e-2  # how far from 1 probabilities may add up to


def check_agreement(model: classifier.Classifier, reference: Callable[[Path], Any], images: Path) -> dict[str, Any]:
    """Compare probabilities for every packed picture; `reference` takes its path. Raises BuildError on disagreement.

    The whole way is compared, from file to probabilities, so decoding and preprocessing are too.
    """
    worst, named = 0.0, ""
    pictures = find_pictures(images)
    for name, path in pictures.items():
        expected = np.asarray(reference(path), np.float32).reshape(-1)
        scores = model.forward(model.batch(decode(path, model.input_size)))[0]
        if model.metadata["output"] == "logits":
            expected, scores = classifier.softmax(expected), classifier.softmax(scores)
        if not np.isfinite(scores).all() or abs(float(scores.sum()) - 1) > NOT_A_DISTRIBUTION:
            raise BuildError(
                f"the model's output for {name} is not a distribution (sum {float(scores.sum()):.4g}); "
                'if it ends before a softmax, say output = "logits" in its record'
            )
        difference = float(np.abs(scores - expected).max() / np.ptp(expected))
        if difference >= worst:
            worst, named = difference, name
    if worst > TOLERANCE:
        raise BuildError(
            f"{model.metadata['engine']} disagrees with the source of {model.metadata['model']}: the probabilities for "
            f"{named} differ by {worst:.2g} of their range, at most {TOLERANCE} is accepted; use another engine"
        )
    return {"pictures": len(pictures), "largest_difference": worst, "tolerance": TOLERANCE}
