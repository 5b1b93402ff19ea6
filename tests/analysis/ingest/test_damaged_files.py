"""Files of a run that something damaged are named, with what to do, and never end in a traceback."""

import gzip
import math
import re

import polars as pl
import pytest

from analysis.ingest.run_files import read_image_sizes, read_metrics, read_page, read_rows
from analysis.pipeline import read_summary
from analysis.summary import Estimate
from core.errors import RecordError
from core.run.run_directory import RunDirectory
from tests.analysis import synthetic
from tests.analysis.report.builders import demo_configuration, make_run


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


@pytest.mark.parametrize("events", [b"", b"{}\n", EVENTS])
def test_a_page_comes_back_as_it_was_written(tmp_path, events):
    page = tmp_path / "000000.jsonl.gz"
    page.write_bytes(gzip.compress(events))
    assert read_page(page) == events


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        lambda data: data[:-1],
        lambda data: data[:-8],
        lambda data: data[:-4] + bytes(4),
        lambda data: data[:-4] + b"\xff" * 4,
        lambda data: bytes(len(data)),
        lambda _: b"",
        lambda _: EVENTS,
        lambda data: data * 2,
    ],
    ids=[
        *("flipped bits", "last byte lost", "trailer lost", "length lost", "length spoilt"),
        *("zeros", "empty", "never compressed", "twice"),
    ],
)
def test_a_damaged_page_is_named(tmp_path, damage):
    page = tmp_path / "000000.jsonl.gz"
    page.write_bytes(damage(gzip.compress(EVENTS)))
    with pytest.raises(RecordError, match=page.name):
        read_page(page)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b"[1]", mtime=0),
        gzip.compress(b'{"queries": [], "values": {"m0": [NaN]}}', mtime=0),
        flipped(gzip.compress(EVENTS)),
    ],
)
def test_metrics_that_are_none_are_named(run, content):
    (run.raw_directory / "metrics.json.gz").write_bytes(content)
    with pytest.raises(RecordError, match=r"metrics\.json\.gz"):
        read_metrics(run)


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"mobilenet": null}', '{"mobilenet": "big"}', '{"mobilenet": Infinity}']
)
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
    with pytest.raises(RecordError, match=r"invocations\.parquet cannot be read(.|\n)*inference-lab analysis report"):
        read_rows(run)


@pytest.fixture(scope="module")
def summary():
    return make_run(models=["mobilenet"], memory_sizes_mb=[512], load_s=1.0, warm_samples=3)[2]


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_a_number_that_is_not_json_is_named_in_a_manifest_and_in_a_summary(tmp_path, summary, number):
    run = RunDirectory(tmp_path)
    configuration = demo_configuration()
    run.write_manifest(synthetic.manifest_of(configuration, synthetic.make_rows(configuration, warm_samples=1)))
    (run.root / "summary.json").write_text(summary.model_dump_json())
    for path, read in ((run.manifest_path, RunDirectory.read_manifest), (run.root / "summary.json", read_summary)):
        text = path.read_text()
        path.write_text(re.sub('("configuration": ?{)', r'\1"own": 0.5, ', text))
        assert read(run).configuration["own"] == 0.5
        path.write_text(re.sub('("configuration": ?{)', rf'\1"own": {number}, ', text))
        with pytest.raises(RecordError, match=path.name):
            read(run)


def test_a_figure_that_is_not_a_number_enters_no_summary():
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            Estimate(value=number, n=1)
