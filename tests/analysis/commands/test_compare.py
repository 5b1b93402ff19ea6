"""Two runs of the same code are the same; a slower one is found; unlike ones are refused by the field."""

import argparse
import json
import os
import subprocess
from functools import lru_cache

import numpy as np
import polars as pl
import pytest
import yaml
from scipy.stats import mannwhitneyu

from analysis import __main__ as command
from analysis.command_line import percent
from analysis.commands.compare import markdown
from analysis.decide.comparison import (
    DEFAULT_THRESHOLD,
    FailurePair,
    Pair,
    Side,
    compare,
    decide,
    has_regression,
    judge,
    p_of_failures,
    p_of_samples,
    refuse_unlike,
)
from analysis.estimate.cells import Measured
from analysis.ingest.run_files import rows_writer
from analysis.summary import METRICS
from core import strict_json
from core.configuration import read_configuration
from core.errors import RecordError
from core.paths import REPOSITORY
from core.run.run_directory import RunDirectory, write_atomically
from tests.analysis import synthetic


def skewed(random, n, factor=1.0):
    return np.sort(factor * (20 + random.lognormal(1, 0.6, n)))


ROUNDS = 1000


@pytest.fixture(scope="module")
def same_code():
    """Pairs of runs of the same code: nine variants with four metrics each, their failures, and all p-values."""
    random = np.random.default_rng(7)
    rounds = [([], []) for _ in range(ROUNDS)]
    for number in range(9):
        for n in (6, 20, 20, 60):
            a, b = (np.sort(20 + random.lognormal(1, 0.6, (ROUNDS, n)), axis=1) for _ in "ab")
            p_values = mannwhitneyu(a, b, axis=1).pvalue
            assert p_of_samples(a[0], b[0]) == pytest.approx(p_values[0])
            for place in range(ROUNDS):
                pair = Pair(f"v{number}", "warm", "client_latency_ms", a[place], b[place])
                rounds[place][0].append((pair, float(p_values[place])))
    for pairs, failures in rounds:
        for a, b in random.binomial(60, 0.02, (9, 2)).tolist():
            failures.append((FailurePair("v", "warm", (a, 60), (b, 60)), fisher((a, 60), (b, 60))))
        assert len(pairs) == 36
    return rounds


fisher = lru_cache(p_of_failures)


@pytest.mark.parametrize(("threshold", "at_most"), [(DEFAULT_THRESHOLD, 0.05), (0.0, 0.06)])
def test_two_runs_of_the_same_code_are_called_different_in_at_most_5_percent_of_cases(same_code, threshold, at_most):
    """Without a threshold the rate is 5% by construction, so that a sample of it may show a little more."""
    different = 0
    for pairs, failures in same_code:
        changes = decide(
            [pair for pair, _ in pairs],
            [p for _, p in pairs],
            [pair for pair, _ in failures],
            [p for _, p in failures],
            threshold=threshold,
        )
        different += any(change not in ("no change", "too few samples") for change in changes)
    assert different / ROUNDS <= at_most


def test_a_slower_variant_is_found_among_many_that_are_not():
    random = np.random.default_rng(3)
    pairs = [
        Pair(f"v{number}", "warm", "inference_ms", skewed(random, 60), skewed(random, 60, 1.2 if number == 4 else 1.0))
        for number in range(18)
    ]
    found = judge(pairs, [], threshold=DEFAULT_THRESHOLD, random=random)
    assert [c.variant for c in found if c.change == "slower"] == ["v4"]
    slower = found[4]
    assert slower.ratio.low > 1
    assert slower.ratio.low < 1.2 < slower.ratio.high
    assert slower.cliffs_delta > 0.3
    assert has_regression(found)
    back = judge([Pair(p.variant, p.experiment, p.metric, p.b, p.a) for p in pairs], [], threshold=0.03, random=random)
    assert [c.variant for c in back if c.change == "faster"] == ["v4"]
    assert not has_regression(back)


def test_a_difference_too_small_to_matter_is_none_however_significant():
    random = np.random.default_rng(3)
    a, b = skewed(random, 20_000), skewed(random, 20_000, 1.01)
    assert p_of_samples(a, b) < 1e-6
    (found,) = judge([Pair("v", "warm", "inference_ms", a, b)], [], threshold=0.03, random=random)
    assert found.change == "no change"
    (found,) = judge([Pair("v", "warm", "inference_ms", a, b)], [], threshold=0.001, random=random)
    assert found.change == "slower"


def test_more_failures_are_a_regression():
    random = np.random.default_rng(3)
    (found,) = judge([], [FailurePair("v", "load", (0, 200), (20, 200))], threshold=0.03, random=random)
    assert found.change == "fails more"
    assert has_regression([found])
    (found,) = judge([], [FailurePair("v", "load", (20, 200), (0, 200))], threshold=0.03, random=random)
    assert found.change == "fails less"


def test_too_few_samples_never_change_anything():
    random = np.random.default_rng(3)
    pair = Pair("v", "cold", "total_ms", np.array([1.0, 2.0]), np.array([900.0, 901.0]))
    (found,) = judge([pair], [], threshold=0.03, random=random)
    assert found.change == "too few samples"
    assert not has_regression([found])


def demo_over_environments():
    """The demo with its warm samples spread over environments: calls of a single one compare to nothing."""
    demo = read_configuration(profile="demo")
    warm = demo.experiments.warm.model_copy(update={"environments": 8})
    return demo.model_copy(update={"experiments": demo.experiments.model_copy(update={"warm": warm})})


@pytest.fixture(scope="module")
def sides():
    configuration = demo_over_environments()
    found = []
    for seed in (1, 2):
        rows = synthetic.make_rows(configuration, run_id=f"2026112{seed}T101500Z-0001", seed=seed, load_s=5)
        found.append(Side(synthetic.summary_of(configuration, rows), Measured(synthetic.frame(rows))))
    return found


def test_two_synthetic_runs_compare_to_no_change_as_markdown(sides):
    a, b = sides
    comparisons = compare(a, b)
    assert not has_regression(comparisons)
    text = markdown(a.summary, b.summary, comparisons, DEFAULT_THRESHOLD)
    assert text.startswith("### Benchmark comparison\n\n**No change**")
    assert a.summary.run_id in text
    assert b.summary.origin.badge in text


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("source", {"origin": {"source": "aws"}}),
        ("region", {"origin": {"region": "us-east-1"}}),
        ("host", {"origin": {"host": "another"}}),
        ("limits", {"origin": {"limits": None}}),
        ("time_scale", {"origin": {"time_scale": 13.0}}),
        ("architecture", {"cells": {"architecture": "arm64"}}),
        ("engine", {"cells": {"engine": "litert"}}),
        ("weights", {"cells": {"weights": ("imagenet",)}}),
    ],
)
def test_unlike_runs_are_refused_by_the_field(sides, field, change):
    a = sides[0].summary
    if "origin" in change:
        update = dict(change["origin"])
        if field == "limits":
            update["limits"] = a.origin.limits.model_copy(update={"cpu": "none"})
        b = a.model_copy(update={"origin": a.origin.model_copy(update=update)})
    else:
        b = a.model_copy(update={"cells": tuple(cell.model_copy(update=change["cells"]) for cell in a.cells)})
    with pytest.raises(RecordError, match=f"cannot be compared: {field} is"):
        refuse_unlike(a, b)


@pytest.mark.parametrize(
    ("experiment", "key", "value"),
    [
        ("cold", "protocols", ["burst"]),
        ("warm", "connections", ["new"]),
        ("load", "end_rps", 50.0),
        ("load", "shape", "constant"),
    ],
)
def test_runs_that_were_measured_by_another_plan_are_refused_where_both_ran_it(sides, experiment, key, value):
    a = sides[0].summary
    configuration = json.loads(json.dumps(a.configuration))
    configuration["experiments"][experiment][key] = value
    b = a.model_copy(update={"configuration": configuration})
    with pytest.raises(RecordError, match=rf"cannot be compared: experiments\.{experiment}\.{key} is"):
        refuse_unlike(a, b)
    rest = tuple(cell for cell in a.cells if cell.experiment != experiment)
    refuse_unlike(a, b.model_copy(update={"cells": rest}))


def test_more_samples_of_the_same_plan_are_no_hindrance(sides):
    a = sides[0].summary
    configuration = json.loads(json.dumps(a.configuration))
    configuration["experiments"]["warm"]["samples"] += 1
    refuse_unlike(a, a.model_copy(update={"configuration": configuration}))


@pytest.mark.parametrize(
    "arguments", [["only-one"], ["a", "b", "--threshold", "abc"], ["a", "b", "--threshold=-5"], ["a", "b", "--nothing"]]
)
def test_a_comparison_called_wrongly_is_an_error_and_no_regression(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["compare", *arguments])
    assert left.value.code == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(("text", "share"), [("3%", 0.03), ("3", 0.03), (" 0.5% ", 0.005), ("0", 0.0)])
def test_a_threshold_is_a_percentage(text, share):
    assert percent(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "abc", "-5", "nan", "inf", "1e400", "%"])
def test_what_is_no_percentage_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="valid percentage"):
        percent(text)


def test_runs_without_a_common_variant_are_refused(sides):
    a = sides[0].summary
    with pytest.raises(RecordError, match="no variant in common"):
        refuse_unlike(a, a.model_copy(update={"variants": ("other",)}))


NAMES = ("20261121T101500Z-0001", "20261122T101500Z-0001")


def store(sides, folders):
    """A run in each folder; the calls of the second one are half as slow again."""
    configuration = demo_over_environments()
    for side, name, folder in zip(sides, NAMES, folders, strict=True):
        run = RunDirectory(folder / name)
        rows = synthetic.make_rows(configuration, run_id=name, seed=int(name[7]), load_s=5)
        run.root.mkdir(parents=True)
        run.write_manifest(synthetic.manifest_of(configuration, rows))
        frame = synthetic.frame(rows)
        if name == NAMES[1]:
            frame = frame.with_columns(pl.col("client_latency_ms", "inference_ms") * 1.5)
        with rows_writer(run) as write:
            write(frame)
        write_atomically(run.root / "summary.json", side.summary.model_dump_json())


def test_the_command_answers_with_exit_codes_for_a_pipeline(tmp_path, sides, capsys):
    store(sides, (tmp_path, tmp_path))
    assert command.main(["compare", *NAMES, "--results", str(tmp_path)]) == 2
    assert "**Regression**" in capsys.readouterr().out
    assert command.main(["compare", *reversed(NAMES), "--results", str(tmp_path)]) == 0
    with pytest.raises(RecordError, match="is not in"):
        command.main(["compare", "nothing", NAMES[0], "--results", str(tmp_path)])


def test_the_json_of_a_comparison_has_the_figures_of_its_table(tmp_path, sides, capsys):
    store(sides, (tmp_path, tmp_path))
    words = ["compare", *NAMES, "--results", str(tmp_path)]
    assert command.main(words) == 2
    table = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    assert command.main([*words, "--json"]) == 2
    facts = strict_json.loads(capsys.readouterr().out)
    assert (facts["before"], facts["after"], facts["regression"]) == (*NAMES, True)
    for one in facts["comparisons"]:
        label = "failed" if one["metric"] == "failures" else METRICS[one["metric"]][0]
        row = next(row for row in table if row[1:4] == [one["variant"], one["experiment"], label])
        if one["metric"] != "failures":
            assert row[4].split()[0] == f"{one['a']:.1f}"
            assert row[6] == f"{100 * (one['ratio']['value'] - 1):+.1f}%"
        assert row[-2] == one["change"]


def run_step(name, workspace):
    """Run a step of the workflow as GitHub's runner does; returns the process and what it added to the summary."""
    workflow = yaml.safe_load((REPOSITORY / "docs/how-to/benchmark-pull-request.yml").read_text(encoding="utf-8"))
    (step,) = (step for step in workflow["jobs"]["compare"]["steps"] if step["name"] == name)
    summary = workspace / "summary.md"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=workspace / step["working-directory"],
        env={**os.environ, **workflow["env"], "GITHUB_STEP_SUMMARY": str(summary)},
        check=False,
        capture_output=True,
        text=True,
    )
    return done, summary.read_text(encoding="utf-8")


def test_the_workflow_for_pull_requests_fails_for_a_slower_change(tmp_path, sides):
    change = tmp_path / "change"
    change.mkdir()
    (change / ".venv").symlink_to(REPOSITORY / ".venv")
    store(sides, (tmp_path / "base" / "results", change / "results"))
    done, summary = run_step("Compare", tmp_path)
    assert done.returncode == 2, done.stderr
    assert "**Regression**" in summary
    assert summary == done.stdout
