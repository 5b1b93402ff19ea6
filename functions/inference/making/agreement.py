"""Hold an engine's answers to those of the model it was made from, on the packed pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import classifier
import numpy as np
import numpy.typing as npt
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
    engine, is_logits = model.metadata["engine"], model.metadata["output"] == "logits"
    for name, path in pictures.items():
        scores = model.forward(model.batch(decode(path, model.input_size)))
        expected = _distribution(reference(path), is_logits, f"the source's output for {name}")
        found = _distribution(scores, is_logits, f"the output of {engine} for {name}")
        if found.shape != expected.shape:
            raise BuildError(f"{engine} gives {found.size} classes for {name}, its source {expected.size}")
        difference = float(np.abs(found - expected).max() / (np.ptp(expected) or 1))
        if difference >= worst:
            worst, named = difference, name
    if worst > TOLERANCE:
        raise BuildError(
            f"{engine} disagrees with the source of {model.metadata['model']}: the probabilities for "
            f"{named} differ by {worst:.2g} of their range, at most {TOLERANCE} is accepted; use another engine"
        )
    return {"pictures": len(pictures), "largest_difference": worst, "tolerance": TOLERANCE}


def _distribution(output: Any, is_logits: bool, whose: str) -> npt.NDArray[np.float32]:
    """Probabilities of the classes. Raises BuildError for an output that is none, which no call could answer with."""
    scores = np.asarray(output, np.float32).reshape(-1)
    if not np.isfinite(scores).all():
        raise BuildError(f"{whose} has {int((~np.isfinite(scores)).sum())} scores that are NaN or infinite")
    probabilities = classifier.softmax(scores) if is_logits else scores
    if probabilities.min() < 0 or abs(float(probabilities.sum()) - 1) > NOT_A_DISTRIBUTION:
        raise BuildError(
            f"{whose} is not a distribution (smallest {float(scores.min()):.4g}, sum {float(scores.sum()):.4g}); "
            'if the model ends before a softmax, say output = "logits" in its record'
        )
    return probabilities
