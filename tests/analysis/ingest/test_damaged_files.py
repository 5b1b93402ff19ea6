"""Files of a run that something damaged are named, with what to do, and never end in a traceback."""

import gzip

import polars as pl
import pytest

from analysis.ingest.run_files import RawGroup, read_image_sizes, read_metrics, read_rows
from core.errors import RecordError
from core.run_directory import RunDirectory
from tests.analysis import synthetic


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "20261121T101500Z-0001")
    for directory in (run.raw_directory, run.data_directory):
        directory.mkdir(parents=True)
    return run


def flipped(data):
    """Bytes of a gzip file with its compressed part spoilt, as a bad disk leaves it."""
    spoilt = bytearray(data)
    for place in range(20, len(spoilt) - 10, 3):
        spoilt[place] ^= 0x5A
    return bytes(spoilt)


EVENTS = "".join(f'{{"logStreamName":"s{n}","timestamp":{n},"message":"line {n * n}"}}\n' for n in range(500)).encode()


def test_a_page_with_flipped_bits_is_named(tmp_path):
    (tmp_path / "cursor.json").write_text('{"log_group": "g", "start_ms": 0, "end_ms": 1, "pages": 1, "done": true}')
    page = tmp_path / "000000.jsonl.gz"
    page.write_bytes(gzip.compress(EVENTS))
    assert sum(frame.height for frame in RawGroup(tmp_path).pages()) == 500
    page.write_bytes(flipped(page.read_bytes()))
    with pytest.raises(RecordError, match=page.name):
        list(RawGroup(tmp_path).pages())


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", gzip.compress(b"{}", mtime=0), gzip.compress(b"[1]", mtime=0), flipped(gzip.compress(EVENTS))],
)
def test_metrics_that_are_none_are_named(run, content):
    (run.raw_directory / "metrics.json.gz").write_bytes(content)
    with pytest.raises(RecordError, match=r"metrics\.json\.gz"):
        read_metrics(run)


@pytest.mark.parametrize("content", ["", "[1]", '{"mobilenet": null}', '{"mobilenet": "big"}'])
def test_image_sizes_that_are_none_are_named(run, content):
    assert read_image_sizes(run) == {}
    (run.raw_directory / "images.json").write_text(content)
    with pytest.raises(RecordError, match=r"images\.json"):
        read_image_sizes(run)


def test_invocations_cut_off_are_named_with_how_to_make_them_anew(run):
    path = run.data_directory / "invocations.parquet"
    pl.DataFrame(schema=synthetic.SCHEMA).write_parquet(path)
    assert read_rows(run).height == 0
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordError, match=r"invocations\.parquet cannot be read(.|\n)*python -m analysis report"):
        read_rows(run)
