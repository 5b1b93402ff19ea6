"""The grid of the swapping experiment: which models it measures."""

from __future__ import annotations

import pytest

from core.configuration import Configuration, parse_configuration
from core.paths import BENCHMARK_TOML
from experiments.protocols.swapping import MEMORY_SIZES_MB, VCPU_SHARES, grid

OWN = """
[models.small]
file = "models/small.onnx"
input_size = 32
preprocessing = "none"
multiply_adds = 1e6

[models.unknown]
file = "models/unknown.onnx"
input_size = 32
preprocessing = "none"

[profile.own.matrix]
engines = ["onnxruntime"]
models = {models}
"""


def configuration_of(*models: str) -> Configuration:
    text = BENCHMARK_TOML.read_text(encoding="utf-8") + OWN.replace("{models}", str(list(models)))
    return parse_configuration(text, profile="own")


@pytest.mark.parametrize(
    ("models", "measured"),
    [
        (("unknown",), ["unknown"]),
        (("small",), ["small"]),
        (("resnet50", "unknown", "small"), ["small", "resnet50"]),
        (("inceptionv3", "resnet50", "mobilenet"), ["mobilenet", "resnet50"]),
        (("unknown", "inceptionv3"), ["inceptionv3", "unknown"]),
    ],
)
def test_the_grid_has_the_two_models_with_the_fewest_multiply_adds_ones_own_too(
    models: tuple[str, ...], measured: list[str]
) -> None:
    cells = grid(configuration_of(*models))
    assert list(dict.fromkeys(cell.function.model for cell in cells)) == measured
    assert len(cells) == len(measured) * len(VCPU_SHARES) * len(MEMORY_SIZES_MB)
