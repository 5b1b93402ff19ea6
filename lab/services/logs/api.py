"""CloudWatch Logs: moto keeps the log groups and their settings, the lab's store the streams and events."""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from typing import Any, Final

from moto.core.exceptions import JsonRESTError
from moto.logs.exceptions import (
    InvalidParameterException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
)
from moto.logs.models import LogGroup, LogsBackend, logs_backends
from moto.logs.responses import LogsResponse

from lab.contracts import LogEvent
from lab.services.logs.filter_patterns import FilterPatternError, compile_pattern
from lab.services.logs.log_store import EVENT_OVERHEAD_BYTES, MAX_EVENTS_A_PAGE, LogStore, Position, StoredEvent
from lab.services.moto_backend import MotoUrls

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_MAX_BATCH_BYTES: Final = 1_048_576
_OLDEST_MS: Final = 14 * 24 * 3600 * 1000
_NEWEST_MS: Final = 2 * 3600 * 1000
_MAX_STREAMS: Final = 50


class LabLogsBackend(MotoUrls, LogsBackend):
    """moto's backend over a LogStore.

    Log groups of an earlier run of the lab live on with their events until they are deleted; a deployment that creates
    one of them adopts it (docs/adr/0041).
    """

    store: LogStore  # set by install(): moto makes one backend per region; there is a single store

    def create_log_group(self, log_group_name: str, tags: dict[str, str], **kwargs: Any) -> LogGroup:
        """Create a group here and in the store; one of an earlier run is adopted with its events."""
        if isinstance(self.groups.get(log_group_name), _AdoptedLogGroup):
            del self.groups[log_group_name]
        group = super().create_log_group(log_group_name, tags, **kwargs)
        self.store.create_group(log_group_name)
        return group

    def delete_log_group(self, log_group_name: str) -> None:
        """Delete a group with its streams and events."""
        self._require(log_group_name)
        super().delete_log_group(log_group_name)
        self.store.delete_group(log_group_name)

    def describe_log_groups(self, *args: Any, **kwargs: Any) -> Any:
        """Groups by their name, those of an earlier run included."""
        for name in self.store.group_names():
            self._adopt(name)
        return super().describe_log_groups(*args, **kwargs)

    def create_log_stream(self, log_group_name: str, log_stream_name: str) -> None:
        """Make an empty stream."""
        self._require(log_group_name)
        readable = log_stream_name.encode(errors="replace").decode()  # JSON may carry what no UTF-8 has
        if not 1 <= len(log_stream_name) <= 512 or set(log_stream_name) & set(":*") or readable != log_stream_name:
            raise InvalidParameterException(
                constraint="Member must satisfy regular expression pattern: [^:*]{1,512}",
                parameter="logStreamName",
                value=readable,
            )
        if not self.store.create_stream(log_group_name, log_stream_name):
            raise ResourceAlreadyExistsException

    def describe_log_streams(
        self,
        descending: bool,
        limit: int,
        log_group_name: str,
        log_group_id: str,
        log_stream_name_prefix: str,
        next_token: str | None,
        order_by: str,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of streams by name."""
        if descending or log_stream_name_prefix or order_by != "LogStreamName":
            raise _NotModelledError("The lab describes log streams by name alone; use FilterLogEvents")
        name = self._named(log_group_name, log_group_id)
        _check_limit(limit, _MAX_STREAMS)
        streams = self.store.streams(name, after=_decode(next_token, "s") if next_token else "", limit=limit + 1)
        arn = self._require(name).arn
        answer = [
            {"logStreamName": stream, "creationTime": created_ms, "arn": f"{arn}:log-stream:{stream}"}
            for stream, created_ms in streams[:limit]
        ]
        return answer, _encode("s", streams[limit - 1][0]) if len(streams) > limit else None

    def put_log_events(
        self, log_group_name: str, log_stream_name: str, log_events: list[dict[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        """Add events; those too old or too new are rejected and the rest is kept, as on AWS."""
        self._require(log_group_name)
        if not self.store.has_stream(log_group_name, log_stream_name):
            raise ResourceNotFoundException(msg="The specified log stream does not exist.")
        if not log_events:
            raise InvalidParameterException(
                constraint="Member must have length greater than or equal to 1", parameter="logEvents", value="[]"
            )
        times = [_integer(event.get("timestamp"), "timestamp") for event in log_events]
        if times != sorted(times):
            raise InvalidParameterException(
                msg="Log events in a single PutLogEvents request must be in chronological order."
            )
        sizes = [len(str(event.get("message", "")).encode()) + EVENT_OVERHEAD_BYTES for event in log_events]
        if sum(sizes) > _MAX_BATCH_BYTES or len(log_events) > MAX_EVENTS_A_PAGE:
            raise InvalidParameterException(
                msg="Upload too large: a batch holds at most 1048576 bytes and 10000 events"
            )
        now_ms = int(time.time() * 1000)
        rejected: dict[str, Any] = {}
        allowed: list[LogEvent] = []
        for index, (event, timestamp_ms) in enumerate(zip(log_events, times, strict=True)):
            if timestamp_ms < now_ms - _OLDEST_MS:
                rejected["tooOldLogEventEndIndex"] = index + 1
            elif timestamp_ms > now_ms + _NEWEST_MS:
                rejected.setdefault("tooNewLogEventStartIndex", index)
            else:
                allowed.append(LogEvent(timestamp_ms, str(event.get("message", ""))))
        self.store.put(log_group_name, log_stream_name, allowed)
        return "1", rejected

    def filter_log_events(
        self,
        log_group_name: str | None,
        log_stream_names: Sequence[str],
        start_time: int | None,
        end_time: int | None,
        limit: int | None,
        next_token: str | None,
        filter_pattern: str | None,
        *,
        log_group_id: str | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a group's events by time. moto 5.2.5 answers as if a JSON pattern matched every event."""
        name = self._named(log_group_name, log_group_id)
        _check_limit(limit, MAX_EVENTS_A_PAGE)
        try:
            matches = compile_pattern(filter_pattern)
        except FilterPatternError as error:
            raise InvalidParameterException(msg=f"Invalid filter pattern: {error.message}") from None
        events, more = self.store.filter_events(
            name,
            streams=tuple(log_stream_names or ()),
            start_ms=_integer(start_time, "startTime", 0),
            end_ms=None if end_time is None else _integer(end_time, "endTime"),
            matches=matches,
            limit=limit or MAX_EVENTS_A_PAGE,
            after=_decode_position(next_token) if next_token else None,
        )
        return [_filtered(event) for event in events], _encode("f", *more) if more else None

    def put_retention_policy(self, log_group_name: str, retention_in_days: str) -> None:
        """Known for groups of an earlier run, too."""
        self._require(log_group_name)
        super().put_retention_policy(log_group_name, retention_in_days)

    def start_query(self, *_: Any, **__: Any) -> str:
        """Refused: moto 5.2.5 answers unfiltered rows as complete, which is worse than no answer."""
        raise _NotModelledError("CloudWatch Logs Insights (StartQuery) is not modeled by the lab; use FilterLogEvents")

    def get_log_events(self, *_: Any, **__: Any) -> Any:
        """Refused: events are not in moto's streams."""
        raise _NotModelledError("GetLogEvents is not modeled by the lab; use FilterLogEvents with logStreamNames")

    def delete_log_stream(self, *_: Any, **__: Any) -> None:
        """Refused: streams are not moto's."""
        raise _NotModelledError("DeleteLogStream is not modeled by the lab; delete the log group")

    def _require(self, name: str) -> LogGroup:
        """Return the group, possibly one of an earlier run. Raises ResourceNotFoundException."""
        if name not in self.groups and name in self.store.group_names():
            self._adopt(name)
        group: LogGroup | None = self.groups.get(name)
        if group is None:
            raise ResourceNotFoundException
        return group

    def _adopt(self, name: str) -> None:
        if name not in self.groups:
            self.groups[name] = _AdoptedLogGroup(self.account_id, self.region_name, name)

    def _named(self, name: str | None, identifier: str | None) -> str:
        """The group's name from a name, or from an identifier that may be an ARN."""
        chosen = name or (identifier or "").removesuffix(":*").rpartition(":log-group:")[2]
        self._require(chosen)
        return chosen


class _AdoptedLogGroup(LogGroup):
    """A group of an earlier run that nobody has created again yet."""


class _NotModelledError(JsonRESTError):
    code = 400

    def __init__(self, message: str) -> None:
        super().__init__("InvalidParameterException", message)


def _filtered(event: StoredEvent) -> dict[str, Any]:
    return {
        "eventId": f"{event.timestamp_ms:020d}{event.seq:036d}",
        "logStreamName": event.stream,
        "timestamp": event.timestamp_ms,
        "message": event.message,
        "ingestionTime": event.ingested_ms,
    }


def _check_limit(limit: int | None, most: int) -> None:
    if limit is not None and not 1 <= _integer(limit, "limit") <= most:
        raise InvalidParameterException(
            constraint=f"Member must have value from 1 to {most}", parameter="limit", value=str(limit)
        )


def _integer(value: Any, name: str, default: int | None = None) -> int:
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise InvalidParameterException(
            constraint="Member must be a number of milliseconds", parameter=name, value=str(value)
        )
    return value


def _encode(*parts: object) -> str:
    return base64.urlsafe_b64encode("/".join(str(part) for part in parts).encode()).decode()


def _decode(token: str, kind: str) -> str:
    try:
        found, _, rest = base64.urlsafe_b64decode(token.encode()).decode().partition("/")
    except (ValueError, AttributeError):
        found, rest = "", ""
    if found != kind:
        raise InvalidParameterException(msg="The specified nextToken is invalid.")
    return rest


def _decode_position(token: str) -> Position:
    rest = _decode(token, "f")
    try:
        timestamp_ms, seq = (int(part) for part in rest.split("/"))
    except ValueError:
        raise InvalidParameterException(msg="The specified nextToken is invalid.") from None
    return Position(timestamp_ms, seq)


def _describe_log_groups(self: LogsResponse) -> str:
    """`LogsResponse.describe_log_groups`: moto 5.2.5 passes over logGroupNamePattern."""
    if self._get_param("logGroupNamePattern") is not None:
        raise _NotModelledError("logGroupNamePattern is not modeled by the lab; use logGroupNamePrefix")
    answer: str = _motos_describe_log_groups(self)
    return answer


_motos_describe_log_groups: Final = LogsResponse.describe_log_groups


def _filter_log_events(self: LogsResponse) -> str:
    """`LogsResponse.filter_log_events`: moto 5.2.5 passes over logGroupIdentifier and logStreamNamePrefix."""
    if self._get_param("logStreamNamePrefix") is not None:
        raise _NotModelledError("logStreamNamePrefix is not modeled by the lab; use logStreamNames")
    names = ("startTime", "endTime", "limit", "nextToken", "filterPattern")
    events, more = self.logs_backend.filter_log_events(
        self._get_param("logGroupName"),
        self._get_param("logStreamNames", []),
        **{_snake_case(name): self._get_param(name) for name in names},
        log_group_id=self._get_param("logGroupIdentifier"),
    )
    return json.dumps({"events": events, "nextToken": more, "searchedLogStreams": []})


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def install(store: LogStore) -> None:
    """Put the backend and the one answer into moto."""
    LabLogsBackend.store = store
    logs_backends.backend = LabLogsBackend
    LogsResponse.describe_log_groups = _describe_log_groups
    LogsResponse.filter_log_events = _filter_log_events
