"""Runs of earlier versions are still read."""

from analysis.pipeline import run_configuration
from core.configuration import read_configuration
from tests.analysis import synthetic


def test_a_run_from_before_the_goal_was_about_callers_is_read():
    configuration = read_configuration(profile="demo")
    rows = synthetic.make_rows(configuration, cold_samples=1, warm_samples=1, load_rps=1, load_s=2)
    manifest = synthetic.manifest_of(configuration, rows)
    older = configuration.model_dump(mode="json")
    older["goal"] = {
        "p99_ms": 700.0,
        "min_top1_accuracy": 0.7,
        "requests_per_month": 1_000_000,
        "max_cold_share": 0.05,
    }
    del older["experiments"]["warm"]["environments"]
    del older["lab"]["limits"]
    found = run_configuration(manifest.model_copy(update={"configuration": older}))
    assert (found.goal.limit_ms, found.goal.max_bad_share) == (700.0, 0.01)
    assert found.experiments.warm.environments == 1
