"""Parts of tables: cells, rows, and the builder of tables. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from analysis.report.wording import NO_NUMBER, interval_text, number_text, percent_text, usd_text
from analysis.summary import Estimate, Summary


@dataclass(frozen=True)
class TableCell:
    """One cell: its text, and for a number the value to sort by, the interval, or the reason why it is missing."""

    text: str
    value: float | None = None
    interval: str = ""
    reason: str = ""
    numeric: bool = False
    verdict: str = ""
    experiment: str = ""
    footnote: int = 0  # of the table, which gives the reason; 0: none


@dataclass(frozen=True)
class TableRow:
    """A row and what the page filters it by."""

    cells: tuple[TableCell, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    mark: str = ""


@dataclass(frozen=True)
class TableColumn:
    """The head of a column."""

    label: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    id: str
    caption: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    note: str = ""
    footnotes: tuple[str, ...] = ()


Item = TypeVar("Item")
# What a column may give for a row: a cell, or a text, count, number or estimate that becomes one.
Value = TableCell | Estimate | str | int | float | None


def make_table(
    table_id: str,
    caption: str,
    items: Iterable[Item],
    columns: Sequence[tuple[str, Callable[[Item], Value]]],
    *,
    attributes: Callable[[Item], dict[str, str]] = lambda _item: {},
    recommended: Callable[[Item], bool] = lambda _item: False,
    note: str = "",
) -> Table:
    """Build a table of one row per item: each column is its head and what it shows of an item.

    `attributes` are what the page filters a row by.
    """
    footnotes: dict[str, int] = {}
    rows = tuple(
        TableRow(
            cells=tuple(with_footnote(as_cell(show(item)), footnotes) for _, show in columns),
            attributes=attributes(item),
            mark="recommended" if recommended(item) else "",
        )
        for item in items
    )
    numeric = [any(row.cells[place].numeric for row in rows) for place in range(len(columns))]
    heads = tuple(TableColumn(label, right) for (label, _), right in zip(columns, numeric, strict=True))
    return Table(table_id, caption, heads, rows, note, tuple(footnotes))


def with_footnote(cell: TableCell, footnotes: dict[str, int]) -> TableCell:
    """Number the reason why a cell lacks its number or interval; `footnotes` collects each reason once."""
    if not cell.reason or cell.interval:
        return cell
    return replace(cell, footnote=footnotes.setdefault(cell.reason, len(footnotes) + 1))


def as_cell(value: Value) -> TableCell:
    """Make a cell: whole numbers are counts, other numbers have three digits."""
    if isinstance(value, TableCell):
        return value
    if isinstance(value, str):
        return TableCell(text=value)
    if isinstance(value, Estimate):
        return estimate_cell(value)
    return count_cell(value) if isinstance(value, int) else number_cell(value)


def number_cell(value: float | None, *, digits: int = 3, reason: str = "") -> TableCell:
    return TableCell(text=number_text(value, digits=digits), value=value, reason=reason, numeric=True)


def count_cell(value: float | None, *, reason: str = "") -> TableCell:
    text = NO_NUMBER if value is None else f"{value:,.0f}"
    return TableCell(text=text, value=value, reason=reason, numeric=True)


def usd_cell(value: float | None, *, reason: str = "") -> TableCell:
    return TableCell(text=usd_text(value), value=value, reason=reason, numeric=True)


def share_cell(value: float | None, *, reason: str = "") -> TableCell:
    text = NO_NUMBER if value is None else percent_text(value)
    return TableCell(text=text, value=value, reason=reason, numeric=True)


def ratio_cell(estimate: Estimate) -> TableCell:
    if estimate.value is None:
        return TableCell(text=NO_NUMBER, reason=estimate.reason, numeric=True)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{number_text(estimate.low * 100)} to {percent_text(estimate.high)}"
    return TableCell(
        text=percent_text(estimate.value), value=estimate.value, interval=interval, reason=estimate.reason, numeric=True
    )


def estimate_cell(
    estimate: Estimate | None, *, reason: str = "", experiment: str = "", money: bool = False
) -> TableCell:
    if estimate is None or estimate.value is None:
        why = (estimate.reason if estimate is not None else "") or reason
        return TableCell(text=NO_NUMBER, reason=why, numeric=True, experiment=experiment)
    return TableCell(
        text=usd_text(estimate.value) if money else number_text(estimate.value),
        value=estimate.value,
        interval=interval_text(estimate, money=money),
        reason=estimate.reason,
        numeric=True,
        experiment=experiment,
    )


def filters(summary: Summary, key: str, experiment: str = "") -> dict[str, str]:
    """Attributes by which the page filters rows; a row about something else than a variant (the gateway) has none."""
    variant = summary.variants.get(key)
    found = {"experiment": experiment} if experiment else {}
    if variant is None:
        return found
    return {"model": variant.model, "engine": variant.group, "memory": str(variant.memory_mb)} | found
