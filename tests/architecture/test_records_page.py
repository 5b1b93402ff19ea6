"""docs/reference/records.md names every field of the records, and none that is not."""

from __future__ import annotations

import re

import polars as pl

from analysis.summary import Summary
from core.paths import REPOSITORY
from core.run.records import INVOCATION_COLUMNS, OUTCOMES, ClientRecord

PAGE = REPOSITORY / "docs" / "reference" / "records.md"


def section(title):
    text = PAGE.read_text(encoding="utf-8")
    return next(part for part in text.split("\n## ")[1:] if part.startswith(title))


def first_cells(title):
    """Return the names in the first column of a section's table."""
    rows = re.findall(r"^\| (`[^|]*) \|", section(title), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)]


def test_the_page_has_every_column_of_the_invocations_with_its_type():
    found = re.findall(r"^\| `(\w+)` \| (\w+) \|", section("`data/invocations`"), re.MULTILINE)
    assert found == list(INVOCATION_COLUMNS.items())


def test_the_page_names_every_field_of_a_client_record():
    listed = section("`client/*.jsonl`").partition("A line has")[2]
    assert re.findall(r"`(\w+)`", listed) == list(ClientRecord.model_fields)


def test_the_page_names_every_outcome():
    assert first_cells("Outcomes") == list(OUTCOMES)


def test_the_page_names_every_key_of_the_summary():
    assert sorted(first_cells("`summary.json`")) == sorted(Summary.model_fields)


def test_the_example_of_the_page_reads_a_run(tmp_path, monkeypatch, capsys):
    row = {name: [None] for name in INVOCATION_COLUMNS}
    row |= {"variant": ["a"], "experiment": ["warm"], "outcome": ["ok"], "warmup": [False], "client_latency_ms": [12.5]}
    data = tmp_path / "results" / "RUN" / "data"
    data.mkdir(parents=True)
    types = {name: getattr(pl, kind) for name, kind in INVOCATION_COLUMNS.items()}
    pl.DataFrame(row, schema=types).write_parquet(data / "invocations.parquet")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    exec(example[1], {})
    assert "12.5" in capsys.readouterr().out
