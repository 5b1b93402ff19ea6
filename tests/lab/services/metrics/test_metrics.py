"""CloudWatch metrics: the statistics by themselves, and by boto3 against a lab."""

from __future__ import annotations

import datetime as dt
import math
import threading
import uuid
from pathlib import Path
from typing import Any

import botocore.exceptions
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.services.metrics.metric_store import MetricStore, SeriesKey
from lab.services.metrics.statistics import by_period
from tests.lab_support import Lab

MINUTE = dt.datetime(2026, 11, 24, 10, 0, tzinfo=dt.UTC)
SET = ("SampleCount", "Sum", "Minimum", "Maximum")


@given(st.lists(st.tuples(st.integers(0, 600), st.floats(0, 1e3)), max_size=60))
def test_every_sample_is_in_one_period(samples: list[tuple[int, float]]) -> None:
    samples.sort()
    array = np.array([(t, v, v, v, 1.0) for t, v in samples]).reshape(-1, 5)
    counts = by_period(array, statistic="SampleCount", start_s=0.0, period_s=60)
    assert sum(count for _, count in counts) == len(samples)
    assert all(start % 60 == 0 for start, _ in counts)
    sums = by_period(array, statistic="Sum", start_s=0.0, period_s=60)
    assert math.isclose(sum(s for _, s in sums), sum(v for _, v in samples), abs_tol=1e-6)


def test_values_survive_a_restart_and_the_oldest_are_forgotten(tmp_path: Path) -> None:
    key = SeriesKey("N", "m", ())
    store = MetricStore(tmp_path, retained_samples=1_000_000)
    for number in range(5000):
        store.put("N", {}, float(number), [("m", "None", float(number))])
    store.close()
    store = MetricStore(tmp_path, retained_samples=1000)
    assert len(store.samples(key, 0, 1e6)) == 5000
    for number in range(5000, 9000):
        store.put("N", {}, float(number), [("m", "None", float(number))])
        if number % 100 == 0:
            store.flush()
    kept = store.samples(key, 0, 1e6)
    store.close()
    assert 1000 <= len(kept) < 3000
    assert kept[-1, 1] == 8999


def test_many_writers_lose_no_value_while_it_is_read(tmp_path: Path) -> None:
    store = MetricStore(tmp_path, retained_samples=1_000_000)

    def write(number: int) -> None:
        for index in range(500):
            store.put(
                "N", {"A": "a", "B": "b"} if index % 2 else {"B": "b", "A": "a"}, float(number), [("m", "None", 1.0)]
            )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    key = SeriesKey("N", "m", (("A", "a"), ("B", "b")))
    while any(thread.is_alive() for thread in threads):
        store.samples(key, 0, 100)
    assert len(store.samples(key, 0, 100)) == 16 * 500
    store.close()


@pytest.fixture
def namespace() -> str:
    return f"Test/{uuid.uuid4()}"


def put(lab: Lab, namespace: str, *data: dict[str, Any]) -> None:
    lab.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=list(data))


def datum(value: float, *, at_s: float = 0, name: str = "Duration", **dimensions: str) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
        "Value": value,
        "Unit": "Milliseconds",
        "Timestamp": MINUTE + dt.timedelta(seconds=at_s),
    }


def query(
    namespace: str, stat: str, *, name: str = "Duration", period: int = 60, id_: str = "q", **dimensions: str
) -> dict:
    return {
        "Id": id_,
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
            },
            "Period": period,
            "Stat": stat,
        },
    }


def ask(lab: Lab, *queries: dict[str, Any], minutes: int = 60, **options: Any) -> list[dict[str, Any]]:
    answer = lab.client("cloudwatch").get_metric_data(
        MetricDataQueries=list(queries),
        StartTime=MINUTE,
        EndTime=MINUTE + dt.timedelta(minutes=minutes),
        **{"ScanBy": "TimestampAscending", **options},
    )
    return answer["MetricDataResults"]


def test_all_statistics_and_percentiles_are_answered_together(shared_lab: Lab, namespace: str) -> None:
    put(shared_lab, namespace, *(datum(value, at_s=value / 10) for value in range(1, 101)))
    stats = ["SampleCount", "Average", "Sum", "Minimum", "Maximum", "p50", "p95", "p99", "p99.9"]
    results = ask(shared_lab, *(query(namespace, stat, id_=f"q{index}") for index, stat in enumerate(stats)))
    found = {stat: result["Values"] for stat, result in zip(stats, results, strict=True)}
    assert found == {
        "SampleCount": [100],
        "Average": [50.5],
        "Sum": [5050],
        "Minimum": [1],
        "Maximum": [100],
        "p50": [50.5],
        "p95": [pytest.approx(95.05)],
        "p99": [pytest.approx(99.01)],
        "p99.9": [pytest.approx(99.901)],
    }
    assert all(result["Timestamps"] == [MINUTE] for result in results)


def test_namespace_dimensions_and_name_keep_metrics_apart(shared_lab: Lab, namespace: str) -> None:
    put(shared_lab, namespace, datum(1, FunctionName="a"), datum(2, FunctionName="b"), datum(4))
    put(shared_lab, namespace + "x", datum(8, FunctionName="a"))
    put(shared_lab, namespace, datum(16, name="Other", FunctionName="a"), datum(32, FunctionName="a", Resource="a"))
    values = [result["Values"] for result in ask(
        shared_lab,
        query(namespace, "Sum", id_="a", FunctionName="a"),
        query(namespace, "Sum", id_="b", FunctionName="b"),
        query(namespace, "Sum", id_="c"),
        query(namespace, "Sum", id_="d", FunctionName="missing"),
    )]  # fmt: skip
    assert values == [[1], [2], [4], []]


def test_periods_and_the_order_of_the_answer(shared_lab: Lab, namespace: str) -> None:
    put(shared_lab, namespace, datum(1, at_s=0), datum(2, at_s=59), datum(3, at_s=60), datum(4, at_s=3599))
    (by_minute,) = ask(shared_lab, query(namespace, "Sum"))
    assert by_minute["Values"] == [3, 3, 4]
    (descending,) = ask(shared_lab, query(namespace, "Sum"), ScanBy="TimestampDescending")
    assert descending["Values"] == [4, 3, 3]
    (hourly,) = ask(shared_lab, query(namespace, "Sum", period=3600))
    assert hourly["Values"] == [10]


def test_points_come_in_pages(shared_lab: Lab, namespace: str) -> None:
    put(shared_lab, namespace, *(datum(number, at_s=60 * number) for number in range(10)))
    put(shared_lab, namespace, *(datum(number, at_s=60 * number, name="Other") for number in range(5)))
    client = shared_lab.client("cloudwatch")
    pages = list(
        client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=[query(namespace, "Sum", id_="a"), query(namespace, "Sum", id_="b", name="Other")],
            StartTime=MINUTE,
            EndTime=MINUTE + dt.timedelta(hours=1),
            ScanBy="TimestampAscending",
            PaginationConfig={"PageSize": 4},
        )
    )
    assert len(pages) == 4
    values: dict[str, list[float]] = {"a": [], "b": []}
    for page in pages:
        for result in page["MetricDataResults"]:
            values[result["Id"]].extend(result["Values"])
    assert values == {"a": list(range(10)), "b": list(range(5))}


@pytest.mark.parametrize("given", [{"Values": [1.0, 2.0]}, {"StatisticValues": dict.fromkeys(SET, 1.0)}])
def test_several_values_in_a_datum_are_refused(shared_lab: Lab, namespace: str, given: dict[str, Any]) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="not modeled"):
        put(shared_lab, namespace, {"MetricName": "m", **given})


def test_other_ways_to_read_metrics_are_refused(shared_lab: Lab, namespace: str) -> None:
    client = shared_lab.client("cloudwatch")
    with pytest.raises(botocore.exceptions.ClientError, match="use GetMetricData"):
        client.get_metric_statistics(
            Namespace=namespace, MetricName="m", StartTime=MINUTE, EndTime=MINUTE, Period=60, Statistics=["Average"]
        )
    with pytest.raises(botocore.exceptions.ClientError, match="use GetMetricData"):
        client.list_metrics(Namespace=namespace)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ([{"Id": "e", "Expression": "SUM(METRICS())"}], "metric math is not modeled"),
        ([query("N", "tm99")], "not modeled"),
        ([query("N", "Sum", period=61)], "Period"),
        ([query("N", "Sum", id_=f"q{number}") for number in range(501)], "500"),
        ([query("N", "Sum"), query("N", "Sum")], "Id"),
    ],
)
def test_what_is_not_answered_is_refused_with_the_reason(shared_lab: Lab, asked: list[dict], why: str) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match=why):
        ask(shared_lab, *asked)
