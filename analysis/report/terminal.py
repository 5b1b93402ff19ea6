"""The results as a command prints them."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from analysis.report.text import HEAD, NUMERIC_COLUMNS, TITLE, highest_rate_lines, markdown_table, results_table
from analysis.summary import Summary


def print_results(summary: Summary) -> None:
    """The results on standard output: a table for eyes on a terminal, Markdown elsewhere."""
    lines, footnotes = results_table(summary)
    if sys.stdout.isatty():
        table = Table(title=summary.origin.badge, caption=TITLE, expand=False)
        for place, name in enumerate(HEAD):
            table.add_column(name, justify="right" if place in NUMERIC_COLUMNS else "left")
        before = ""
        for line in lines:
            if before and line[0] + line[1] != before:
                table.add_section()
            before = line[0] + line[1]
            table.add_row(*line)
        Console().print(table)
    else:
        print(f"{summary.origin.badge}. {TITLE}\n")
        print(markdown_table(HEAD, lines, right=NUMERIC_COLUMNS))
    if footnotes:
        print("\n" + "\n".join(footnotes))
    for sentence in highest_rate_lines(summary):
        print(f"\n{sentence}")
    print(f"\n{summary.recommendation.headline} {summary.recommendation.how_sure}")
