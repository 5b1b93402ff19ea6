"""CloudWatch's statistics next to our own: what agrees is said to, and what does not is a warning of the report."""

import polars as pl
import pytest

from analysis.estimate.cross_check import check_metrics
from analysis.estimate.run_summary import Extras, make_summary
from analysis.ingest.cloudwatch import metric_queries
from core.configuration import read_configuration
from core.money.prices import read_prices
from tests.analysis import synthetic

configuration = read_configuration(profile="demo")
KEY = configuration.variants[0].key
FAILED = ["out_of_memory", "init_timeout", "timeout", "error"]


@pytest.fixture(scope="module")
def rows():
    return synthetic.frame(synthetic.make_rows(configuration, source="aws", cold_samples=3, warm_samples=30, load_s=5))


def cloudwatch(rows, **changes):
    """What GetMetricData would answer for these rows; `changes` overrides statistics of the first variant."""
    values = {}
    queries = metric_queries(configuration)
    for query in queries:
        mine = rows.filter((pl.col("variant") == query.variant) & pl.col("log_stream").is_not_null())
        times = mine["duration_ms"].drop_nulls()
        found = []
        if query.variant and query.metric == "Invocations":
            found = [float(times.len())]
        elif query.variant and query.metric == "Errors":
            found = [float(mine["outcome"].is_in(FAILED).sum())]
        elif query.variant and query.metric == "Duration":
            how = {"Average": times.mean, "Maximum": times.max}.get(query.statistic)
            found = [how() if how else times.quantile(float(query.statistic[1:]) / 100, "linear")]
        elif query.variant and query.metric == "Throttles":
            sent = rows.filter(pl.col("variant") == query.variant)
            found = [float((sent["outcome"] == "throttled").sum())]
        elif not query.variant and query.metric == "IntegrationLatency":
            api = rows.filter((pl.col("trigger") == "api") & pl.col("log_stream").is_not_null())
            waited = api["duration_ms"].quantile(float(query.statistic[1:]) / 100, "linear")
            found = [] if waited is None else [waited + 2]
        elif not query.variant and query.metric == "Count":
            found = [float((rows["trigger"] == "api").sum())]
        if query.variant in {KEY, ""}:
            found = changes.get(f"{query.metric}_{query.statistic}", found)
        values[query.id] = found
    listed = [
        {"id": query.id, "variant": query.variant, "metric": query.metric, "statistic": query.statistic}
        for query in queries
    ]
    return {"queries": listed, "values": values}


def verdicts(checks, variant=KEY):
    return {(check.metric, check.statistic): check.agrees for check in checks if check.variant == variant}


def test_what_cloudwatch_counted_of_the_same_calls_agrees(rows):
    checks = check_metrics(rows, cloudwatch(rows))
    assert not [check for check in checks if check.agrees is False]
    found = verdicts(checks)
    for key in [
        ("Invocations", "Sum"),
        ("Errors", "Sum"),
        ("Duration", "p99"),
        ("Duration", "Average"),
        ("Throttles", "Sum"),
    ]:
        assert found[key] is True, key
    assert found["ConcurrentExecutions", "Maximum"] is None, "the logs do not tell"


def the_check(checks, variant, metric, statistic):
    (found,) = [c for c in checks if (c.variant, c.metric, c.statistic) == (variant, metric, statistic)]
    return found


def test_more_throttles_than_ours_are_explained_and_fewer_only_where_the_gateway_throttles_too(rows):
    mine = pl.col("variant") == KEY
    throttled = rows.with_columns(
        pl.when(mine & (pl.col("experiment") == "load"))
        .then(pl.lit("throttled"))
        .otherwise(pl.col("outcome"))
        .alias("outcome")
    )
    ours = throttled.filter(mine & (pl.col("outcome") == "throttled")).height
    assert ours
    for direct, count, agrees, words in [
        (False, ours, True, ""),
        (False, ours + 3, None, "asynchronous"),
        (False, ours - 1, None, "gateway itself"),
        (True, ours - 1, False, ""),
    ]:
        trigger = pl.lit("invoke") if direct else pl.col("trigger")
        of = throttled.with_columns(trigger.alias("trigger"))
        check = the_check(check_metrics(of, cloudwatch(of, Throttles_Sum=[float(count)])), KEY, "Throttles", "Sum")
        assert (check.own, check.agrees) == (ours, agrees)
        assert words in check.reason
    unrecorded = throttled.with_columns(pl.lit(None, dtype=pl.String).alias("call_id"))
    check = the_check(check_metrics(unrecorded, cloudwatch(unrecorded)), KEY, "Throttles", "Sum")
    assert (check.own, check.agrees) == (None, None)
    assert "no client" in check.reason


def test_the_gateway_cannot_have_waited_for_less_than_the_function_took(rows):
    whole = rows.filter((pl.col("trigger") != "api") | pl.col("log_stream").is_not_null())
    name = ("", "IntegrationLatency", "p50")
    check = the_check(check_metrics(whole, cloudwatch(whole)), *name)
    assert check.agrees is True
    assert "least" in check.reason
    short = {"IntegrationLatency_p50": [0.5]}
    assert the_check(check_metrics(whole, cloudwatch(whole, **short)), *name).agrees is False
    check = the_check(check_metrics(whole, cloudwatch(whole, Count_Sum=[1e6], **short)), *name)
    assert (check.agrees, "other callers" in check.reason) == (None, True)
    lacking = whole.with_columns(
        pl.when(pl.int_range(pl.len()) % 9 == 0).then(None).otherwise(pl.col("log_stream")).alias("log_stream")
    )
    check = the_check(check_metrics(lacking, cloudwatch(lacking)), *name)
    assert (check.own, check.agrees) == (None, None)
    assert "not every call" in check.reason


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"Invocations_Sum": [1e6]}, ("Invocations", "Sum")),
        ({"Errors_Sum": [7.0]}, ("Errors", "Sum")),
        ({"Duration_p50": [1e5]}, ("Duration", "p50")),
        ({"Duration_Maximum": [1.0]}, ("Duration", "Maximum")),
        ({"Invocations_Sum": []}, None),
    ],
)
def test_a_disagreement_is_a_warning_that_names_the_function(rows, changes, key):
    checks = check_metrics(rows, cloudwatch(rows, **changes))
    manifest = synthetic.manifest_of(configuration, rows.to_dicts())
    summary = make_summary(rows, manifest, configuration, read_prices(), Extras(metric_checks=checks))
    warnings = [warning for warning in summary.warnings if warning.code == "metrics_disagree"]
    if key is None:
        assert not warnings, "no datapoint is no disagreement"
        return
    assert verdicts(checks)[key] is False
    (warning,) = warnings
    assert warning.variants == (KEY,)
    assert f"{key[0]} {key[1]}" in warning.message
    assert warning.advice


def test_percentiles_of_several_periods_are_not_merged(rows):
    checks = check_metrics(rows, cloudwatch(rows, Duration_p50=[1.0, 2.0]))
    (check,) = [check for check in checks if (check.variant, check.statistic) == (KEY, "p50")]
    assert check.agrees is None
    assert "several periods" in check.reason


def test_what_was_never_asked_for_is_not_checked(rows):
    assert check_metrics(rows, None) == []
