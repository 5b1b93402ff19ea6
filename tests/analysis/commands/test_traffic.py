"""`inference-lab analysis traffic` answers from a run's measured calls."""

import json

import polars as pl
import pytest

from analysis.__main__ import main
from analysis.estimate.cells import ANALYSED_COLUMNS, Measured
from analysis.estimate.measured_calls import samples_of
from analysis.estimate.run_summary import Extras
from analysis.ingest.run_files import read_rows
from analysis.pipeline import build
from analysis.report.tables.measured import highest_rates_table
from analysis.report.text import highest_rate_lines, summary_markdown
from core.configuration import read_configuration
from core.errors import UserError
from core.run.run_directory import find_run
from core.statistics.rate_search import HighestRate
from tests.analysis import synthetic

VARIANT = "mobilenet-tensorflow-x86_64-1769"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    directory = tmp_path_factory.mktemp("results")
    configuration = synthetic.smaller(read_configuration(), models=("mobilenet",), memory_sizes_mb=(1769,))
    synthetic.write_run(directory, configuration, synthetic.make_rows(configuration))
    build(find_run("latest", directory), with_report=False)
    return directory


def answer(results, capsys, *words):
    assert main(["traffic", "--results", str(results), "--variant", VARIANT, "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_strategy_has_a_line_or_a_reason(results, capsys):
    rows = answer(results, capsys, "--requests-per-day", "2000")
    assert [row["strategy"].split(" (")[0] for row in rows] == [
        "on demand",
        "SnapStart",
        "provisioned",
        "target tracking",
        "warm pings",
    ]
    assert "no restore" in rows[1]["reason"]
    assert all("usd" in row or row["reason"] for row in rows)


def test_the_json_has_the_figures_of_the_table(results, capsys):
    words = ["--requests-per-day", "2000"]
    rows = answer(results, capsys, *words)
    assert main(["traffic", "--results", str(results), "--variant", VARIANT, *words]) == 0
    head, _, *lines = [
        [cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if line[:1] == "|"
    ]
    for row, cells in zip(rows, lines, strict=True):
        shown = dict(zip(head, cells, strict=True))
        assert shown["Strategy"] == row["strategy"]
        if not row["reason"]:
            assert shown["USD per month"].split()[0] == f"{row['usd']['value']:.2f}"
            assert shown["cold %"].split()[0] == f"{100 * row['cold_share']['value']:.2g}"


def test_a_longer_idle_life_has_fewer_cold_starts(results, capsys):
    def cold(minutes):
        rows = answer(results, capsys, "--requests-per-day", "200", "--idle-minutes", minutes)
        return rows[0]["cold_share"]["value"]

    assert cold("5") > 2 * cold("60")


def test_a_trace_can_be_asked_about(results, capsys, tmp_path):
    trace = tmp_path / "counts.csv"
    trace.write_text("count\n" + "\n".join(str(minute % 5) for minute in range(2000)))
    assert answer(results, capsys, "--trace", str(trace))[0]["strategy"] == "on demand"
    with pytest.raises(UserError, match=r"missing\.csv cannot be read"):
        answer(results, capsys, "--trace", str(tmp_path / "missing.csv"))


def test_the_highest_rate_is_found(results, capsys):
    rows = answer(results, capsys, "--highest-rate", "--concurrency", "5", "--max-missed", "0.2")
    assert rows[0]["highest_rps"] > 1


@pytest.mark.parametrize(("option", "value"), [("--burstiness", "0.5"), ("--variant", "x")])
def test_what_is_not_there_is_refused_with_what_is(results, option, value):
    with pytest.raises(UserError, match=r"there is no|below 1"):
        main(["traffic", "--results", str(results), option, value])


def test_samples_hold_each_call_once_and_failures_too(results):
    rows = read_rows(find_run("latest", results), ANALYSED_COLUMNS)
    samples = samples_of(Measured(rows), VARIANT)
    assert len(samples.warm) > 20
    assert len(samples.cold) > 0
    assert samples.warm.environment is not None
    assert (samples.warm.latency_ms >= samples.warm.busy_ms).all()
    assert samples_of(Measured(rows), "no-such-variant") is None


def test_the_life_of_idle_environments_is_that_of_the_runs_scheduled_calls_or_as_given(results, capsys):
    def last_line(*words):
        assert main(["traffic", "--results", str(results), "--requests-per-day", "200", *words]) == 0
        return capsys.readouterr().out.splitlines()[-1]

    learnt = last_line()
    assert "gaps between scheduled calls show" in learnt
    assert "7 to 9 minutes, assumed" in last_line("--idle-minutes", "7:9")
    assert learnt.partition(" minutes")[0] != last_line("--idle-minutes", "7:9").partition(" minutes")[0]


def test_contended_calls_count_where_the_report_counts_them(results):
    """On a busy host nearly all calls are contended: the report keeps them, and so does the simulated month."""
    rows = read_rows(find_run("latest", results), ANALYSED_COLUMNS)
    busy = rows.with_columns(host_contended=pl.lit(value=True))
    assert samples_of(Measured(busy), VARIANT) is not None
    few = rows.with_columns(host_contended=pl.int_range(pl.len()) % 10 == 0)
    kept, whole = (samples_of(Measured(one), VARIANT) for one in (few, rows))
    assert len(kept.warm.busy_ms) < len(whole.warm.busy_ms)


def test_the_highest_rate_of_a_function_with_snapstart_is_by_its_restores(tmp_path, capsys):
    small = synthetic.smaller(read_configuration(), models=("mobilenet",), memory_sizes_mb=(1769,))
    alone = synthetic.with_starts(small, ("snapstart",))
    synthetic.write_run(tmp_path, alone, synthetic.make_rows(alone, load_rps=1))
    build(find_run("latest", tmp_path), with_report=False)
    assert main(["traffic", "--results", str(tmp_path), "--highest-rate", "--max-missed", "0.2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["highest_rps"] > 0


@pytest.mark.slow
def test_the_measured_and_the_simulated_highest_rate_are_shown_side_by_side():
    configuration = synthetic.smaller(read_configuration(), models=("mobilenet",), memory_sizes_mb=(1024, 1769))
    other = VARIANT.replace("1769", "1024")
    found = {
        VARIANT: HighestRate(31.0, 30.4, 31.6, 90_000),
        other: HighestRate(None, None, None, 4000, "the sender was late"),
    }
    rows = [row for row in synthetic.make_rows(configuration) if row["variant"] == VARIANT]
    summary = synthetic.summary_of(configuration, rows, Extras(highest_rates=found))
    (known, unknown) = summary.highest_rates
    assert (known.measured_rps.value, known.measured_rps.low, known.measured_rps.n) == (31.0, 30.4, 90_000)
    assert known.simulated_rps.value > 0 or known.simulated_rps.reason
    assert (unknown.measured_rps.value, unknown.measured_rps.reason) == (None, "the sender was late")
    assert unknown.simulated_rps.reason == "no warm call was measured"
    assert [len(row.cells) for row in highest_rates_table(summary).rows] == [7, 7]
    sentences = highest_rate_lines(summary)
    assert "31.0 requests/s (30.4 to 31.6)" in sentences[0]
    assert "the sender was late" in sentences[1]
    assert all(sentence in summary_markdown(summary) for sentence in sentences)
