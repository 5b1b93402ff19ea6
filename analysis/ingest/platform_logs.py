"""Parsers of what the platform and the handler log: text and JSON, field by field. No I/O.

A line counts only if it is anchored where the platform writes it (at the start of the event) and carries the fields
that make it what it claims to be; everything else is the application's business and is passed over. Fields may come in
any order and optional ones may be absent.

Formats:
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from math import isfinite
from typing import Any, Final, Literal, NamedTuple

import polars as pl
from pydantic_core import from_json

from core.run.records import PROVISIONED

UUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

_REQUEST_ID: Final = re.compile(UUID)
_TEXT_START: Final = re.compile(rf"START RequestId: ({UUID})\b")
_RUNTIME_ERROR: Final = re.compile(rf"RequestId: ({UUID}) Error: (.*)", re.DOTALL)
_TIMED_OUT: Final = re.compile(rf"\S+ ({UUID}) Task timed out after [0-9.]+ seconds")
# Without tabs (some relays replace them) fields are told apart by the names that are known; longer names first.
_KNOWN_FIELD: Final = re.compile(
    r"(?:^|\s)(RequestId|Billed Restore Duration|Billed Duration|Init Duration|Restore Duration|Duration|"
    r"Max Memory Used|Memory Size|Phase|Status|Error Type|XRAY TraceId|SegmentId|Sampled): *(\S+)"
)


class Start(NamedTuple):
    """An invocation begins; `at` is the platform's own time in seconds, None in text format."""

    request_id: str
    at: float | None


class Report(NamedTuple):
    """An invocation's duration, billing, and memory, as REPORT or platform.report states them; None if absent."""

    request_id: str
    duration_ms: float
    billed_ms: float | None
    memory_size_mb: float | None
    max_memory_used_mb: float | None
    init_ms: float | None
    restore_ms: float | None
    billed_restore_ms: float | None
    status: str | None  # success, failure, error, timeout
    error_type: str | None


class InitReport(NamedTuple):
    """An init with its own line: a failed one, or, at system level DEBUG, a successful one."""

    init_ms: float | None
    phase: str  # init: before the environment's first invocation; invoke: as part of an invocation
    status: str  # success, error, timeout
    error_type: str | None
    request_id: str | None = None
    at: float | None = None  # as in `Start`
    is_provisioned: bool = False  # by provisioned concurrency: over before any request


class InitStart(NamedTuple):
    """An environment begins to initialize; `at` as in `Start`.

    Its initializationType is `on-demand` whether the init was ahead of need or a caller waited for it.
    """

    at: float | None


class Facts(NamedTuple):
    """The handler's own line of an answered call."""

    request_id: str
    record: dict[str, Any]


class ModelFacts(NamedTuple):
    """The line in which the function describes its model when it starts."""

    record: dict[str, Any]


class Conditions(NamedTuple):
    """The lab's line after REPORT: under what limits the call ran."""

    request_id: str
    limits: str | None
    time_scale: float | None
    host_contended: bool | None
    major_page_faults: int | None


class Failure(NamedTuple):
    """A line by which the platform says how an invocation failed."""

    request_id: str
    error: str


Line = Start | Report | InitReport | InitStart | Facts | ModelFacts | Conditions | Failure


def parse_line(message: str) -> Line | None:
    """Parse one line of a log event; None for lines that are not the platform's or the handler's own."""
    first = message[:1]
    if first == "{":
        return _parse_json(message)
    if first == "R":
        if message.startswith("REPORT "):
            return _text_report(message)
        if message.startswith("RequestId: ") and (match := _RUNTIME_ERROR.match(message)):
            return Failure(match[1].lower(), match[2].strip())
        return None
    if first == "S":
        match = _TEXT_START.match(message)
        return Start(match[1].lower(), None) if match else None
    if first == "I":
        if message.startswith("INIT_START "):
            return InitStart(None)
        return _text_init_report(message) if message.startswith("INIT_REPORT ") else None
    if first == "2" and "Task timed out" in message and (match := _TIMED_OUT.match(message)):
        return Failure(match[1].lower(), "Task timed out")
    return None


def parse_event(message: str) -> list[Line]:
    """Parse one log event, which may hold several lines (a runtime may hand over a batch of output at once)."""
    message = message.rstrip("\r\n\t ")
    if "\n" not in message and "\r" not in message:
        line = parse_line(message)
        return [] if line is None else [line]
    # X-Ray fields and the type of a runtime error follow on a second line of the same report.
    if message.startswith(("REPORT ", "RequestId: ")):
        line = parse_line(message)
        if line is not None:
            return [line]
    return [line for part in message.splitlines() if (line := parse_line(part)) is not None]


def _fields(message: str, skip: int) -> dict[str, str]:
    if "\t" not in message:
        return {match[1]: match[2] for match in _KNOWN_FIELD.finditer(message, skip - 1)}
    fields: dict[str, str] = {}
    for part in message[skip:].replace("\n", "\t").split("\t"):
        key, separator, value = part.partition(":")
        if separator:
            fields[key.strip()] = value.strip()
    return fields


def _number(value: str | None) -> float | None:
    """`1049.63 ms` or `512 MB` as a number; None where it is not one."""
    if not value:
        return None
    try:
        number = float(value.split(" ", 1)[0])
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None  # noqa: PLR0124 - NaN differs from itself


def _text_report(message: str) -> Report | None:
    fields = _fields(message, len("REPORT "))
    request_id, duration_ms = fields.get("RequestId", ""), _number(fields.get("Duration"))
    if duration_ms is None or not _REQUEST_ID.fullmatch(request_id):
        return None
    return Report(
        request_id.lower(),
        duration_ms,
        _number(fields.get("Billed Duration")),
        _number(fields.get("Memory Size")),
        _number(fields.get("Max Memory Used")),
        _number(fields.get("Init Duration")),
        _number(fields.get("Restore Duration")),
        _number(fields.get("Billed Restore Duration")),
        fields.get("Status") or None,
        fields.get("Error Type") or None,
    )


def _text_init_report(message: str) -> InitReport | None:
    fields = _fields(message, len("INIT_REPORT "))
    if "Phase" not in fields and "Status" not in fields and "Init Duration" not in fields:
        return None
    return InitReport(
        _number(fields.get("Init Duration")),
        fields.get("Phase") or "init",
        fields.get("Status") or "success",
        fields.get("Error Type") or None,
        fields.get("RequestId", "").lower() or None,
    )


_LARGEST_WHOLE: Final = 2**53  # beyond it a number in a log is no measurement

# What a JSON line of interest holds somewhere; cheaper to look for than to parse every line.
_MARK: Final = re.compile(r'platform\.|lab\.conditions|inference|"model"')


def _parse_json(message: str) -> Line | None:
    if not _MARK.search(message):
        return None
    try:
        # Three times as fast as json.loads, and most of the time that parsing takes.
        event = from_json(message, allow_inf_nan=False)
    except (ValueError, TypeError):  # TypeError: half of a surrogate pair, which no UTF-8 log can hold
        return None
    if not isinstance(event, dict):
        return None
    if event.get("event") == "inference":
        return _facts(event)
    if event.get("event") == "model":
        return ModelFacts(event)
    kind, record = event.get("type"), event.get("record")
    if not isinstance(kind, str):
        # A logger in JSON format wraps what the handler logs: {"level", "message": {...}, "requestId"}.
        inner = event.get("message")
        if isinstance(inner, str) and inner.startswith("{"):
            return _parse_json(inner)
        return _facts(inner) if isinstance(inner, dict) and inner.get("event") == "inference" else None
    if not isinstance(record, dict):
        return None
    reader = _JSON_RECORDS.get(kind)
    return None if reader is None else reader(event, record)


def _facts(event: dict[str, Any]) -> Facts | None:
    request_id = event.get("request_id")
    return Facts(request_id.lower(), event) if isinstance(request_id, str) and request_id else None


def _id(record: Mapping[str, Any]) -> str | None:
    request_id = record.get("requestId")
    return request_id.lower() if isinstance(request_id, str) and request_id else None


def _float(value: Any) -> float | None:
    kind = type(value)
    if kind is float:
        return value if isfinite(value) else None
    return float(value) if kind is int and abs(value) < _LARGEST_WHOLE else None


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def parse_time(text: Any) -> float | None:
    """An ISO 8601 time as seconds since the epoch; None where it is not one."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None


def _json_start(event: dict[str, Any], record: dict[str, Any]) -> Start | None:
    request_id = _id(record)
    return None if request_id is None else Start(request_id, parse_time(event.get("time")))


def _json_report(_event: dict[str, Any], record: dict[str, Any]) -> Report | None:
    request_id, metrics = _id(record), record.get("metrics")
    if request_id is None or not isinstance(metrics, dict):
        return None
    duration_ms = _float(metrics.get("durationMs"))
    if duration_ms is None:
        return None
    return Report(
        request_id,
        duration_ms,
        _float(metrics.get("billedDurationMs")),
        _float(metrics.get("memorySizeMB")),
        _float(metrics.get("maxMemoryUsedMB")),
        _float(metrics.get("initDurationMs")),
        _float(metrics.get("restoreDurationMs")),
        _float(metrics.get("billedRestoreDurationMs")),
        _string(record.get("status")),
        _string(record.get("errorType")),
    )


def _json_init_report(event: dict[str, Any], record: dict[str, Any]) -> InitReport:
    metrics = record.get("metrics")
    return InitReport(
        _float(metrics.get("durationMs")) if isinstance(metrics, dict) else None,
        _string(record.get("phase")) or "init",
        _string(record.get("status")) or "success",
        _string(record.get("errorType")),
        _id(record),
        parse_time(event.get("time")),
        record.get("initializationType") == PROVISIONED,
    )


def _json_init_start(event: dict[str, Any], _record: dict[str, Any]) -> InitStart:
    return InitStart(parse_time(event.get("time")))


def _json_conditions(_event: dict[str, Any], record: dict[str, Any]) -> Conditions | None:
    request_id = _id(record)
    if request_id is None:
        return None
    limits, contended, faults = record.get("limits"), record.get("hostContended"), record.get("majorPageFaults")
    return Conditions(
        request_id,
        _string(limits),
        _float(record.get("timeScale")),
        contended if isinstance(contended, bool) else None,
        faults if isinstance(faults, int) and not isinstance(faults, bool) else None,
    )


_JSON_RECORDS: Final = {
    "platform.start": _json_start,
    "platform.report": _json_report,
    "platform.initReport": _json_init_report,
    "platform.initStart": _json_init_start,
    "lab.conditions": _json_conditions,
}

PACKED_ROWS: Final = 20_000  # a million tuples would fill memory
# The place of a line in its group is the number of its event times this, plus its number in it. An event has at most
# 1 MB, and so fewer lines. https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
LINES_OF_EVENT: Final = 2**20

PHASES: Final = ("import_ms", "load_ms", "first_inference_ms")  # of a start; the handler's line nests them
FACT_COLUMNS: Final[dict[str, Any]] = {
    "weights": pl.String,
    "environment_id": pl.String,
    "call_number": pl.Int32,
    "initialization": pl.String,
    "inference_ms": pl.Float64,
    "decode_ms": pl.Float64,
    "handler_ms": pl.Float64,
    "init_to_call_ms": pl.Float64,
    **dict.fromkeys(PHASES, pl.Float64),
}

# Rows of the lines that invocations are made of, by the type of line: where the line is in its group, then its fields.
_PLACE: Final[dict[str, Any]] = {"place": pl.Int64}
_EVENT: Final[dict[str, Any]] = {"stream": pl.String, "timestamp_ms": pl.Int64}
_REPORT_COLUMNS: Final[dict[str, Any]] = {
    "request_id": pl.String,
    "duration_ms": pl.Float64,
    "billed_ms": pl.Float64,
    "memory_size_mb": pl.Float64,
    "max_memory_used_mb": pl.Float64,
    "init_ms": pl.Float64,
    "restore_ms": pl.Float64,
    "billed_restore_ms": pl.Float64,
    "status": pl.String,
    "error_type": pl.String,
}
_CONDITION_COLUMNS: Final[dict[str, Any]] = {
    "request_id": pl.String,
    "limits": pl.String,
    "time_scale": pl.Float64,
    "host_contended": pl.Boolean,
    "major_page_faults": pl.Int64,
}
LINE_COLUMNS: Final[Mapping[str, Mapping[str, Any]]] = {
    Start.__name__: _PLACE | _EVENT | {"request_id": pl.String, "at": pl.Float64},
    Report.__name__: _PLACE | _EVENT | _REPORT_COLUMNS,
    Facts.__name__: _PLACE | {"request_id": pl.String} | FACT_COLUMNS,
    Conditions.__name__: _PLACE | _CONDITION_COLUMNS,
    Failure.__name__: _PLACE | {"request_id": pl.String, "failure": pl.String},
}
_INIT_COLUMNS: Final[dict[str, Any]] = {
    "request_id": pl.String,
    "failed_init_ms": pl.Float64,
    "init_status": pl.String,
    "init_error": pl.String,
}
_AHEAD_COLUMNS: Final[dict[str, Any]] = {
    "place": pl.Int64,
    "provisioned": pl.Boolean,  # the init was ahead of any request, as its own line says
    "since_init_start_ms": pl.Float64,  # far above init_ms when the platform initialized ahead of need
}
LOGGED_COLUMNS: Final[tuple[str, ...]] = (
    "request_id",
    "log_stream",
    "logged_at",
    "first_in_stream",
    "provisioned",
    "since_init_start_ms",
    *(name for name in _INIT_COLUMNS if name != "request_id"),
    *(name for name in _REPORT_COLUMNS if name != "request_id"),
    *FACT_COLUMNS,
    *(name for name in _CONDITION_COLUMNS if name != "request_id"),
    "failure",
)


def line_values(line: Line, stream: str, timestamp_ms: int) -> tuple[Any, ...] | None:
    """Return the columns of `LINE_COLUMNS` after the place; None for a line that has none."""
    match line:
        case Start() | Report():
            return stream, timestamp_ms, *line
        case Facts():
            return line.request_id, *_fact_values(line.record)
        case Conditions() | Failure():
            return tuple(line)
    return None


LATE_LINE_S: Final = 1.0  # how long after START a line about the init before it may be logged


class _Stream:
    """The state of one execution environment's log, read so far."""

    __slots__ = ("ended", "init_started_at", "inits", "request_id", "started_at")

    def __init__(self) -> None:
        self.request_id: str | None = None  # of the running invocation
        self.started_at = 0.0
        self.ended: tuple[str, float] | None = None  # request id and end of the latest invocation that has a REPORT
        self.inits: list[InitReport] = []  # of the invocation that comes next
        self.init_started_at: float | None = None

    def request_of(self, began_at: float, ended_at: float) -> str | None:
        """Return the invocation that an init belongs to, or None where it is the next one. Times in seconds.

        An environment runs one invocation at a time, and an init runs before its first one or as the beginning of one.
        The line of the init may come before START, after START or after REPORT, so the times decide:

        1. If the greater part of the init ran before the end of the latest invocation, it is that invocation's.
        2. Else, if an invocation is running and the init began no later than its START, it is that invocation's. An
           init that began later is not, because only a lost REPORT makes that invocation look as if it were running.
        3. Else it is the next invocation's.
        """
        if self.ended and (began_at + ended_at) / 2 <= self.ended[1]:
            return self.ended[0]
        return self.request_id if began_at <= self.started_at + LATE_LINE_S else None


class _Replay:
    """Goes through the lines of a log group again, as far as inits are concerned."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)
        self.inits: list[tuple[Any, ...]] = []
        self.ahead: list[tuple[Any, ...]] = []

    def start(self, place: int, request_id: str, stream: str, at: float) -> None:
        state = self._streams[stream]
        if state.inits or state.init_started_at is not None:
            gap_ms = None if state.init_started_at is None else (at - state.init_started_at) * 1000
            is_provisioned = any(init.is_provisioned and init.status == "success" for init in state.inits)
            self.ahead.append((place, is_provisioned, gap_ms))
        for init in state.inits:
            self._take_init(request_id, init)
        state.inits.clear()
        state.init_started_at = None
        state.request_id, state.started_at = request_id, at

    def report(self, request_id: str, stream: str, at: float) -> None:
        state = self._streams[stream]
        state.ended = (request_id, at)
        if state.request_id == request_id:
            state.request_id = None

    def init(self, line: InitReport | InitStart, stream: str, at: float) -> None:
        state = self._streams[stream]
        if isinstance(line, InitStart):
            if state.request_of(at, at) is None:
                state.init_started_at = at
            return
        request_id = line.request_id or state.request_of(at - (line.init_ms or 0.0) / 1000, at)
        if request_id is None:
            state.inits.append(line)
        else:
            self._take_init(request_id, line)

    def _take_init(self, request_id: str, init: InitReport) -> None:
        # An init within the invocation is part of its duration; one before it is waited for besides.
        in_invoke = init.phase == "invoke"
        failed_ms = None if in_invoke or init.status == "success" else init.init_ms
        self.inits.append((request_id, failed_ms, init.status, init.error_type, in_invoke))


def _near_inits(
    starts: pl.DataFrame, reports: pl.DataFrame, inits: Sequence[tuple[int, str]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the STARTs and REPORTs that decide what inits belong to: place, stream, time, request id.

    For each init those are the STARTs before and after it in its stream, and the REPORTs before it: the latest, and
    those since that START.
    """
    columns = ["place", "stream", "at", "request_id"]
    if not inits:
        return starts.select(columns).clear(), reports.select(columns).clear()
    marks = pl.concat(
        [
            starts.select("place", "stream", start="place"),
            reports.select("place", "stream", report="place"),
            pl.DataFrame(inits, schema={"place": pl.Int64, "stream": pl.String}, orient="row").with_columns(
                is_init=pl.lit(value=True)
            ),
        ],
        how="diagonal",
    ).sort("place")
    marks = marks.with_columns(
        pl.col("start").forward_fill().over("stream").alias("last_start"),
        pl.col("start").backward_fill().over("stream").alias("next_start"),
        pl.col("report").forward_fill().over("stream").alias("last_report"),
    )
    at_inits = marks.filter("is_init")
    near_starts = pl.concat([at_inits["last_start"], at_inits["next_start"].alias("last_start")])
    since_start = marks.filter(pl.col("report").is_not_null()).join(at_inits, on="last_start", how="semi")
    near_reports = pl.concat([at_inits["last_report"].alias("place"), since_start["report"].alias("place")])
    return (
        starts.select(columns).join(near_starts.alias("place").to_frame(), on="place", how="semi"),
        reports.select(columns).join(near_reports.to_frame(), on="place", how="semi"),
    )


class LogParser:
    """Gathers the invocations of one log group from its events, page after page.

    Events have to come in the order of time within each stream, as `filter_log_events` keeps it. An init belongs to the
    request that its line names, else to the one that `_Stream.request_of` finds. An invocation's lines may be on
    different pages.
    """

    def __init__(self, *, packed_rows: int = PACKED_ROWS) -> None:
        """`packed_rows`: how many rows of one kind of line are put into columns at a time."""
        self._packed_rows = packed_rows
        self.model: dict[str, Any] = {}
        self.events = 0
        self._tables = {kind: _Table(schema) for kind, schema in LINE_COLUMNS.items()}
        self._inits: list[tuple[int, str, float, InitReport | InitStart]] = []  # place, stream, time in seconds, line

    def feed(
        self,
        streams: Iterable[str],
        timestamps_ms: Iterable[int],
        messages: Iterable[str],
        places: Iterable[int] | None = None,
    ) -> None:
        """Take the events of one page; `places` among all events of the group where they are not the next ones."""
        events = zip(streams, timestamps_ms, messages, strict=True)
        numbers = itertools.count(self.events) if places is None else places
        for number, (stream, timestamp_ms, message) in zip(numbers, events, strict=False):
            self.events = number + 1
            for place, line in enumerate(parse_event(message), start=number * LINES_OF_EVENT):
                values = line_values(line, stream, timestamp_ms)
                if values is not None:
                    self._tables[type(line).__name__].rows.append((place, *values))
                elif isinstance(line, InitReport | InitStart):
                    at = timestamp_ms / 1000 if line.at is None else line.at
                    self._inits.append((place, stream, at, line))
                elif isinstance(line, ModelFacts):
                    self.model = line.record
        for table in self._tables.values():
            table.pack(self._packed_rows)

    def feed_rows(self, kind: str, rows: pl.DataFrame) -> None:
        """Take lines of one kind that are columns already, as `LINE_COLUMNS` has them."""
        self._tables[kind].packed.append(rows)

    def frame(self) -> pl.DataFrame:
        """One row per request id with `LOGGED_COLUMNS`; what no line told of is null.

        A request that was retried by the platform keeps its last report and its first start.
        """
        starts = (
            self._tables[Start.__name__]
            .in_order()
            .with_columns(
                pl.coalesce("at", pl.col("timestamp_ms") / 1000).alias("at"),
                pl.col("stream").is_first_distinct().alias("first_in_stream"),
            )
        )
        reports = self._tables[Report.__name__].in_order().with_columns((pl.col("timestamp_ms") / 1000).alias("at"))
        ahead, inits = self._replay_inits(starts, reports)
        frame = (
            _one_each(starts, "first")
            .join(ahead, on="place", how="left", maintain_order="left")
            .with_columns(pl.col("provisioned").fill_null(value=False))
            .rename({"stream": "log_stream", "at": "logged_at"})
            .drop("place", "timestamp_ms")
            .join(inits, on="request_id", how="left", maintain_order="left")
        )
        renamed = {"stream": "report_stream", "at": "reported_at"}
        frame = frame.join(
            _one_each(reports, "last").rename(renamed).drop("place", "timestamp_ms"),
            on="request_id",
            how="full",
            coalesce=True,
        )
        for kind in (Facts, Conditions, Failure):
            rows = _one_each(self._tables[kind.__name__].in_order(), "last").drop("place")
            if rows.height:
                frame = frame.join(rows, on="request_id", how="full", coalesce=True)
            else:
                frame = frame.with_columns(
                    pl.lit(None, dtype=kind).alias(name) for name, kind in rows.schema.items() if name != "request_id"
                )
        frame = frame.with_columns(
            pl.col("log_stream").fill_null(pl.col("report_stream")),
            # START may be outside the window, or come after a second init, which is part of the duration: the call
            # had begun by the report's time, less the duration.
            pl.min_horizontal("logged_at", pl.col("reported_at") - pl.col("duration_ms") / 1000).alias("logged_at"),
        )
        return frame.select(*LOGGED_COLUMNS).sort("logged_at", nulls_last=True)

    def _replay_inits(self, starts: pl.DataFrame, reports: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Go through the lines about inits, and the STARTs and REPORTs near them, in the order of the log.

        Returns what they say of STARTs, by place, and of requests: for each the first failed init, which explains the
        rest, else the successful one.
        """
        replay = _Replay()
        steps: list[tuple[int, Callable[[], None]]] = [
            (place, partial(replay.init, line, stream, at)) for place, stream, at, line in self._inits
        ]
        near = _near_inits(starts, reports, [(place, stream) for place, stream, _, _ in self._inits])
        for place, stream, at, request_id in near[0].iter_rows():
            steps.append((place, partial(replay.start, place, request_id, stream, at)))
        for place, stream, at, request_id in near[1].iter_rows():
            steps.append((place, partial(replay.report, request_id, stream, at)))
        for _, step in sorted(steps, key=lambda one: one[0]):
            step()
        inits = values_frame(replay.inits, _INIT_COLUMNS | {"in_invoke": pl.Boolean})
        failures_first = inits.sort(pl.col("init_status") == "success", "in_invoke", maintain_order=True)
        columns = [name for name in _INIT_COLUMNS if name != "request_id"]
        return values_frame(replay.ahead, _AHEAD_COLUMNS), failures_first.group_by(
            "request_id", maintain_order=True
        ).agg(pl.col(columns).drop_nulls().first())


class _Table:
    """Rows of one kind of line, put into columns from time to time."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self.packed: list[pl.DataFrame] = []
        self.rows: list[tuple[Any, ...]] = []

    def pack(self, at_least: int) -> None:
        if len(self.rows) >= at_least:
            self.packed.append(values_frame(self.rows, self._schema))
            self.rows = []

    def in_order(self) -> pl.DataFrame:
        """Every row so far in the order of the log; they are handed over, so that they are held once."""
        self.pack(0)
        rows = pl.concat(self.packed)
        self.packed = []
        return rows if rows["place"].is_sorted() else rows.sort("place")


def _one_each(rows: pl.DataFrame, keep: Literal["first", "last"]) -> pl.DataFrame:
    """One row for each request id."""
    if rows["request_id"].n_unique() == rows.height:
        return rows
    return rows.unique("request_id", keep=keep, maintain_order=keep == "first")


def values_frame(rows: Sequence[Sequence[Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    """Put rows into columns of a schema; a value that does not fit its column is null."""
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in schema]
    return pl.DataFrame(
        {
            name: pl.Series(name, column, dtype=kind, strict=False)
            for (name, kind), column in zip(schema.items(), columns, strict=True)
        }
    )


def _fact_values(record: Mapping[str, Any]) -> list[Any]:
    phases = record.get("phases")
    if not isinstance(phases, dict):
        phases = {}
    return [(phases if name in PHASES else record).get(name) for name in FACT_COLUMNS]
