"""Read the stored pages of a log group into logged invocations: by the shapes of their lines where there are many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.ingest.line_shapes import Length, Row, ShapeReader
from analysis.ingest.platform_logs import (
    LINE_COLUMNS,
    LINES_OF_EVENT,
    LogParser,
    line_values,
    parse_event,
    values_frame,
)
from analysis.ingest.run_files import RawGroup, read_events, read_page
from core import strict_json
from core.errors import RecordError
from core.money.charges import LOG_EVENT_OVERHEAD_BYTES

# The line the lab adds after REPORT; AWS would not bill it.
_LAB_LINE: Final = '"lab.conditions"'
_MESSAGE: Final = re.compile(rb'"message": ?("(?:[^"\\]|\\.)*")')
# A message that begins with a token could be read as another kind of line with another value of it.
_COULD_BEGIN_TOKEN: Final = frozenset("0123456789abcdef-")
_NO_LINE: Final = ""  # the kind of an event that holds nothing of interest
_BILLED: Final = "billed_bytes"


@dataclass(frozen=True)
class LoggedGroup:
    """What a log group holds."""

    invocations: pl.DataFrame  # `LOGGED_COLUMNS`
    billed_bytes: int  # what AWS bills as ingested
    model: dict[str, Any]  # the function's description of its model


@dataclass(frozen=True)
class Page:
    """What a page of events holds: those to be read one by one, and rows of lines that are columns already."""

    events: int
    billed_bytes: int
    others: pl.DataFrame
    numbers: npt.NDArray[np.int64] | None  # of the others in the page; None: they are all
    rows: Sequence[tuple[str, pl.DataFrame]]  # by the kind of line; `place` counts from the page's start


def read_group(group: RawGroup, shapes: ShapeReader | None = None) -> LoggedGroup:
    """Read every page of a log group, as `gather_pages` does. Raises RecordError."""
    return gather_pages(read_events_of(path, shapes) for path in group.pages())


def gather_pages(pages: Iterable[Page]) -> LoggedGroup:
    """Make one of the pages of a log group, which come in its order."""
    parser = LogParser()
    billed_bytes = 0
    for page in pages:
        billed_bytes += page.billed_bytes
        first = parser.events
        parser.feed(
            page.others["logStreamName"].to_list(),
            page.others["timestamp"].to_list(),
            page.others["message"].to_list(),
            None if page.numbers is None else (first + page.numbers).tolist(),
        )
        for kind, rows in page.rows:
            parser.feed_rows(kind, rows.with_columns(pl.col("place") + first * LINES_OF_EVENT))
        parser.events = first + page.events
    return LoggedGroup(parser.frame(), billed_bytes, parser.model)


def read_events_of(path: Path, shapes: ShapeReader | None) -> Page:
    """Read a page. Raises RecordError.

    With a reader of shapes the result is the same; it takes a second to start and less time from there.
    """
    text = read_page(path)
    return _page_of(path, text) if shapes is None else _page_by_shapes(path, text, shapes)


@cache
def shape_reader() -> ShapeReader:
    """Return this process's reader of events by the shapes of their lines."""
    return ShapeReader(read_line)


def _page_of(path: Path, text: bytes) -> Page:
    events = read_events(path, text)
    return Page(events.height, _billed_bytes(events), events, None, ())


def _billed_bytes(events: pl.DataFrame) -> int:
    if events.is_empty():
        return 0  # a filter would wait for what polars does on other threads
    billed = events.filter(~pl.col("message").str.contains(_LAB_LINE, literal=True))
    return int(billed["message"].str.len_bytes().sum()) + LOG_EVENT_OVERHEAD_BYTES * billed.height


def _page_by_shapes(path: Path, text: bytes, shapes: ShapeReader) -> Page:
    reading = shapes.read(text if text.endswith(b"\n") else text + b"\n")
    others = read_events(path, reading.rest)
    if others.height != len(reading.others):
        return _page_of(path, text)
    billed_bytes = _billed_bytes(others) + sum(int(np.sum(some.column(_BILLED))) for some in reading.alike)
    rows = [
        (some.kind, some.frame(LINE_COLUMNS[some.kind], pl.Series("place", some.lines * LINES_OF_EVENT)))
        for some in reading.alike
        if some.kind != _NO_LINE
    ]
    return Page(reading.lines, billed_bytes, others, reading.others, rows)


def read_line(line: bytes) -> Row:
    """Read one event as `LogParser.feed` does. Raises ValueError for one that is not of one line of a known kind."""
    try:
        stream, timestamp_ms, message = read_events(Path(), line).row(0)
    except (RecordError, pl.exceptions.PolarsError) as error:
        raise ValueError(str(error)) from None
    written = _MESSAGE.search(line)
    if written is None or strict_json.loads(written[1]) != message or not message or message[0] in _COULD_BEGIN_TOKEN:
        raise ValueError("the message cannot be found in the line as it is written")
    raw = written[1].decode("latin-1")
    more = LOG_EVENT_OVERHEAD_BYTES + len(message.encode()) - len(raw)
    billed = {_BILLED: 0 if _LAB_LINE in message else Length(raw, more)}
    found = parse_event(message)
    if not found:
        return Row(_NO_LINE, billed)
    values = line_values(found[0], stream, timestamp_ms)
    if len(found) > 1 or values is None:
        raise ValueError("not one line of a kind that has columns")
    kind = type(found[0]).__name__
    return Row(kind, values_frame([(0, *values)], LINE_COLUMNS[kind]).drop("place").row(0, named=True) | billed)
