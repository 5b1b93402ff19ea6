"""`--json` prints the figures that the same command prints for people."""

from __future__ import annotations

import re

import pytest

from core import strict_json
from experiments.__main__ import main as experiments
from tests.commands import run_here


def printed(*words):
    done = run_here("experiments", experiments, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def count(row):
    """The cell with the number of variants, which the sum leaves empty."""
    return [str(row["variants"])] if row["protocol"] else [f"{row['calls']:,}"]


@pytest.mark.parametrize("words", [("estimate",), ("run", "--dry-run"), ("warm", "--dry-run", "--profile", "demo")])
def test_the_plan_has_the_figures_of_the_table(words):
    facts, table = strict_json.loads(printed(*words, "--json")), printed(*words)
    *rows, whole = facts["plan"]
    assert whole["experiment"] == "all"
    assert whole["calls"] == sum(row["calls"] for row in rows)
    for row in facts["plan"]:
        line = next(
            line
            for line in table.splitlines()
            if line.split()[:1] == [row["experiment"]] and row["protocol"] in line and f"{row['calls']:,}" in line
        )
        assert line.split()[-2:] == [f"{row['expected_usd']:.3f}", f"{row['at_most_usd']:,.2f}"]
    assert f"${facts['max_usd']:.2f}" in table or f"{facts['max_usd']:.2f} USD" in table


def test_the_cost_at_rest_has_the_figures_of_the_table():
    facts, table = strict_json.loads(printed("estimate", "--json")), printed("estimate")
    for cost in facts["at_rest"]:
        line = next(line for line in table.splitlines() if line.strip().startswith(cost["what"]))
        assert re.search(rf"\b{cost['monthly_usd']:.3f}\b", line)


def test_json_of_a_run_needs_a_dry_run():
    done = run_here("experiments", experiments, "run", "--json")
    assert done.returncode == 1
    assert "--dry-run" in done.stderr
