"""What the report says of the files that a start reads: as measured, or that it was not."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from analysis.estimate.touched_files import ADVICE, NOT_MEASURED, OTHER_ADVICE, advice_for, parse_touched, touched_files
from analysis.report.tables.about import largest_files_table, touched_files_table
from core.variants import Image

RECORD = {"files": 3, "bytes": 5_000_000, "chunks": 11, "largest": [{"file": "model/model.onnx", "bytes": 4_000_000}]}
IMAGE = Image("mobilenet", "onnxruntime", "x86_64")
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


def test_a_measured_image_names_its_files_with_advice():
    (found,) = touched_files([IMAGE], {IMAGE.key: parse_touched(RECORD)})
    assert (found.files, found.mb, found.chunks, found.reason) == (3, 5.0, 11, "")
    assert [(one.file, one.mb) for one in found.largest] == [("model/model.onnx", 4.0)]
    assert found.largest[0].advice == ADVICE["model/"]


def test_an_image_without_a_measurement_says_so():
    for measured in ({}, {IMAGE.key: None}):
        (found,) = touched_files([IMAGE], measured)
        assert (found.files, found.mb, found.chunks, found.largest) == (None, None, None, ())
        assert found.reason == NOT_MEASURED


@given(st.dictionaries(st.sampled_from([*RECORD]), VALUES))
def test_a_damaged_measurement_counts_as_none(change):
    found = parse_touched(RECORD | change)
    if found is not None:
        assert min(found.files, found.size_bytes, found.chunks, *(size for _, size in found.largest)) >= 0


def test_every_file_has_advice():
    assert advice_for("tensorflow/libtensorflow_cc.so.2") == ADVICE["tensorflow/"]
    assert advice_for("somebody/else.so") == OTHER_ADVICE


def test_the_tables_show_totals_and_the_largest_files_with_advice():
    other = Image("resnet50", "litert", "x86_64")
    summary = SimpleNamespace(
        images=[IMAGE, other], touched_files=touched_files([IMAGE, other], {IMAGE.key: parse_touched(RECORD)})
    )
    totals = touched_files_table(summary)
    assert [cell.text for cell in totals.rows[0].cells][1:] == ["3", "5.00", "11"]
    assert [cell.reason for cell in totals.rows[1].cells] == ["", *[NOT_MEASURED] * 3]
    (largest,) = largest_files_table(summary).rows
    assert [cell.text for cell in largest.cells][1:] == ["model/model.onnx", "4.00", ADVICE["model/"]]
    assert largest.attributes == {"model": "mobilenet", "engine": IMAGE.group}
