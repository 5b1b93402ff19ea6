"""A report warns of figures that Lambda's processors would not give."""

from __future__ import annotations

import pytest

from analysis.estimate.run_summary import make_summary
from core.money.prices import read_prices
from tests.analysis import synthetic
from tests.analysis.report.builders import demo_configuration

WIDE = ("avx2", "avx512f", "avx512_vnni")


@pytest.mark.parametrize(
    ("engines", "isa", "cap", "warned"),
    [
        (["tensorflow", "onnxruntime"], WIDE, "avx2", ["onnxruntime"]),
        (["tensorflow"], WIDE, "avx2", []),
        (["tensorflow"], WIDE, "", ["tensorflow"]),
        (["onnxruntime"], ("avx2",), "avx2", []),
    ],
)
def test_engines_that_use_wider_instructions_than_lambda_has_are_named(engines, isa, cap, warned):
    configuration = demo_configuration(models=["mobilenet"], engines=engines, memory_sizes_mb=[1024])
    rows = synthetic.make_rows(configuration, cold_samples=1, warm_samples=2, load_rps=1, load_s=1)
    manifest = synthetic.manifest_of(configuration, rows)
    endpoint = manifest.endpoint.model_copy(update={"isa": isa, "isa_cap": cap})
    manifest = manifest.model_copy(update={"endpoint": endpoint})
    summary = make_summary(synthetic.frame(rows), manifest, configuration, read_prices())
    found = [warning for warning in summary.warnings if warning.code == "wider_instructions"]
    assert [summary.variants[key].engine for warning in found for key in warning.variants] == warned
    assert (summary.origin.isa, summary.origin.isa_cap) == (isa, cap)
