"""The report and its figures, made from summaries of synthetic runs."""

from __future__ import annotations

import polars as pl
import pytest

from analysis.report import write_report
from benchmark.store import RunDirectory
from tests.report.builders import make_run

PAPER_FIGURES = (
    "fig01_request_rate",
    "fig04_warm_inceptionv3",
    "fig05_warm_mobilenet",
    "fig06_warm_resnet50",
    "fig07_cold_inceptionv3",
    "fig08_cold_resnet50",
    "fig09_cold_mobilenet",
    "fig10_load_inceptionv3",
    "fig11_load_resnet50",
    "fig12_load_mobilenet",
    "fig14_api_latency_warm",
    "fig15_latency_cold",
    "fig16_inference_time",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    _, invocations, summary = make_run()
    directory = RunDirectory(tmp_path_factory.mktemp("results") / summary.run_id)
    write_report(directory, invocations, summary)
    return directory, invocations, summary


def test_every_figure_of_the_paper_is_written_under_its_number(run):
    directory, _, _ = run
    for name in PAPER_FIGURES:
        svg = (directory.figures_directory / f"{name}.svg").read_text()
        assert svg.startswith("<svg")
        assert (directory.figures_directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert pl.read_csv(directory.figures_directory / f"{name}.csv").height > 0
