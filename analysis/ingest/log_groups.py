"""Read the stored pages of a log group into logged invocations: by the shapes of their lines where there are many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
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
from analysis.ingest.run_files import RawGroup, read_events
from core import strict_json
from core.charges import LOG_EVENT_OVERHEAD_BYTES
from core.errors import RecordError

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


def read_group(group: RawGroup, shapes: ShapeReader | None = None) -> LoggedGroup:
    """Read every page of a log group. Raises RecordError.

    With a reader of shapes the result is the same; it takes a second to start and less time from there.
    """
    parser = LogParser()
    billed_bytes = 0
    for path, text in group.texts():
        billed_bytes += _feed_page(parser, path, text) if shapes is None else _feed_shapes(parser, shapes, path, text)
    return LoggedGroup(parser.frame(), billed_bytes, parser.model)


@cache
def shape_reader() -> ShapeReader:
    """Return this process's reader of shapes: what one group teaches it holds for the next."""
    return ShapeReader(read_line)


def _feed_page(parser: LogParser, path: Path, text: bytes) -> int:
    page = read_events(path, text)
    parser.feed(page["logStreamName"].to_list(), page["timestamp"].to_list(), page["message"].to_list())
    return _billed_bytes(page)


def _billed_bytes(events: pl.DataFrame) -> int:
    billed = events.filter(~pl.col("message").str.contains(_LAB_LINE, literal=True))
    return int(billed["message"].str.len_bytes().sum()) + LOG_EVENT_OVERHEAD_BYTES * billed.height


def _feed_shapes(parser: LogParser, reader: ShapeReader, path: Path, text: bytes) -> int:
    """Feed a page to the parser, event by event where its shape is not known; returns the bytes that are billed."""
    reading = reader.read(text if text.endswith(b"\n") else text + b"\n")
    events = read_events(path, reading.rest)
    if events.height != len(reading.others):
        return _feed_page(parser, path, text)
    first = parser.events
    billed_bytes = _billed_bytes(events)
    parser.feed(
        events["logStreamName"].to_list(),
        events["timestamp"].to_list(),
        events["message"].to_list(),
        (first + reading.others).tolist(),
    )
    for some in reading.alike:
        billed_bytes += int(np.sum(some.column(_BILLED)))
        if some.kind != _NO_LINE:
            places = pl.Series("place", (first + some.lines) * LINES_OF_EVENT)
            parser.feed_rows(some.kind, some.frame(LINE_COLUMNS[some.kind], places))
    parser.events = first + reading.lines
    return billed_bytes


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
