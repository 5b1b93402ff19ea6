"""A function that knows nothing of this project is reported by the platform's evidence alone."""

from __future__ import annotations

from analysis.report.figures.marks import NOT_REPORTED
from analysis.report.figures.paper import warm
from analysis.summary import HANDLER_METRICS
from tests.analysis.report.builders import demo_configuration, summary_of
from tests.analysis.synthetic import make_rows


def test_inference_time_is_absent_and_said_so():
    configuration = demo_configuration(models=["mobilenet"], memory_sizes_mb=[1024])
    silent = dict.fromkeys((*HANDLER_METRICS, "environment_id", "call_number", "weights"))
    rows = [row | silent for row in make_rows(configuration, cold_samples=3, warm_samples=8, load_rps=2, load_s=2)]
    summary = summary_of(configuration, rows)
    (warning,) = [one for one in summary.warnings if one.code == "no_handler_facts"]
    assert warning.variants == tuple(summary.variants)
    cell = summary.cell(next(iter(summary.variants)), "warm", "warm")
    assert cell.n
    assert not set(cell.metrics) & set(HANDLER_METRICS)
    figure = warm(summary, summary.images[0])
    assert {row["series"] for row in figure.rows} == {"API latency"}
    assert NOT_REPORTED in " ".join(figure.notes)


def test_a_function_that_reports_is_not_warned_of():
    configuration = demo_configuration(models=["mobilenet"], memory_sizes_mb=[1024])
    rows = make_rows(configuration, cold_samples=1, warm_samples=2, load_rps=1, load_s=1)
    assert "no_handler_facts" not in {warning.code for warning in summary_of(configuration, rows).warnings}
