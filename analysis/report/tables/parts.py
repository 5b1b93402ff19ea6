"""What tables are built of: cells, rows, columns, and how numbers become cells. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.report.wording import (
    NO_NUMBER,
    interval_text,
    number_text,
    parse_variant,
    percent_text,
    usd_text,
)
from analysis.summary import Estimate


@dataclass(frozen=True)
class TableCell:
    """One cell: its text, and for a number the value to sort by, the interval, or the reason why there is none."""

    text: str
    value: float | None = None
    interval: str = ""
    reason: str = ""
    numeric: bool = False
    verdict: str = ""
    experiment: str = ""


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
    """A table of the page; `folded` ones open on request."""

    id: str
    caption: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    note: str = ""
    folded: bool = False


def text_cell(text: Any) -> TableCell:
    return TableCell(text=str(text))


def number_cell(value: float | None, *, digits: int = 3, reason: str = "") -> TableCell:
    return TableCell(text=number_text(value, digits=digits), value=value, reason=reason, numeric=True)


def count_cell(value: float | None) -> TableCell:
    return TableCell(text=NO_NUMBER if value is None else f"{value:,.0f}", value=value, numeric=True)


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


def filterable(key: str) -> dict[str, str]:
    """Attributes by which the page filters rows; a row about something else than a variant (the gateway) has none."""
    try:
        variant = parse_variant(key)
    except ValueError:
        return {}
    return {"model": variant.model, "memory": str(variant.memory_mb)}


def columns_of(*labels: str, text: Sequence[int] = (0,)) -> tuple[TableColumn, ...]:
    """Columns of numbers, but for those at the places `text`."""
    return tuple(TableColumn(label, numeric=place not in text) for place, label in enumerate(labels))
