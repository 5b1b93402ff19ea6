"""The rows of a run are the same however many threads make them, and in slices of any length."""

import pytest

from analysis.ingest import gathering
from core.configuration import read_configuration
from tests.analysis import synthetic


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["JSON", "Text"])
def test_several_threads_make_the_same_rows_in_short_slices(tmp_path, monkeypatch, log_format):
    configuration = synthetic.with_starts(read_configuration(profile="demo"), ("on_demand", "snapstart", "provisioned"))
    truth = synthetic.make_rows(configuration, load_s=60)
    run = synthetic.write_run(tmp_path, configuration, truth, log_format=log_format)
    # Two ranges and more of the load's records, cut anywhere.
    monkeypatch.setattr("analysis.ingest.client_records.RANGE_BYTES", 99_991)

    def made():
        gathered = gathering.make_rows(run, run.read_manifest(), configuration)
        return gathered, (run.data_directory / "invocations.csv").read_bytes()

    alone = made()
    monkeypatch.setattr(gathering, "WORTH_SHAPES_BYTES", 0)
    monkeypatch.setattr(gathering, "WRITTEN_ROWS", 77)
    assert made() == alone
    assert alone[1].count(b"\n") > len(truth)
    assert sorted(path.name for path in run.data_directory.iterdir()) == ["invocations.csv", "invocations.parquet"]
