"""The report of several engines in Chromium."""

from __future__ import annotations

import pytest

from analysis.report.page import write_report
from core.run.run_directory import RunDirectory
from tests.analysis.browser.conftest import wait_until_settled
from tests.analysis.browser.test_page import DRAWN
from tests.analysis.report.builders import make_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run of two models on two engines at three sizes."""
    _, invocations, summary = make_run(
        models=["mobilenet", "resnet50"],
        engines=["tensorflow", "onnxruntime"],
        memory_sizes_mb=[1024, 1769, 3008],
        load_s=6.0,
        warm_samples=20,
    )
    run = RunDirectory(tmp_path_factory.mktemp("results") / summary.run_id)
    return write_report(run, invocations, summary), summary


def test_every_figure_of_several_engines_is_drawn(desktop, report):
    drawn = desktop.evaluate(DRAWN)
    assert len(drawn) == len(list(report[0].parent.glob("figures/*.svg")))
    for figure in drawn:
        assert figure["width"] > 200, figure
        assert figure["marks"] > 0, figure
    lines = desktop.locator("#api_latency_warm .chart .mark-line.role-mark path")
    assert lines.count() == 4
    assert len({line.get_attribute("stroke") for line in lines.all()}) == 4


def test_the_engine_filter_takes_rows_figures_and_marks_away(desktop):
    desktop.locator("#filters input[value=onnxruntime]").uncheck()
    wait_until_settled(desktop)
    assert desktop.locator("#overview tbody tr:visible").count() == 6
    assert not desktop.locator("#warm_mobilenet_onnxruntime").is_visible()
    assert desktop.locator("#fig05_warm_mobilenet").is_visible()
    assert desktop.locator("#api_latency_warm .chart .mark-line.role-mark path").count() == 2
