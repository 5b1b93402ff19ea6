"""The platform's own log lines, in Text and in JSON format. Pure: values in, lines out.

Sources: "Lambda Telemetry API Event schema reference" for the JSON records, "monitoring-cloudwatchlogs-log-level" for
the level of each event, and lines of real functions for the Text format.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from core import strict_json
from lab.contracts import FunctionConfiguration

Status = Literal["success", "error", "timeout", "failure"]
Phase = Literal["init", "invoke"]
# Who kept CPU from an invocation that it was owed: "" for nobody.
Contention = Literal["", "environments", "others"]

_LEVELS: Final = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "WARNING": 3, "ERROR": 4, "FATAL": 5, "CRITICAL": 5}
_DEFAULT_LEVEL: Final = _LEVELS["INFO"]
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Report:
    """The figures of one invocation, as REPORT gives them."""

    request_id: str
    duration_ms: float
    billed_duration_ms: int
    memory_size_mb: int
    max_memory_used_mb: int
    init_duration_ms: float | None
    restore_duration_ms: float | None = None
    billed_restore_duration_ms: int | None = None
    status: Status = "success"
    error_type: str | None = None


def iso_time(epoch_s: float) -> str:
    """Milliseconds, UTC, as platform events carry it."""
    seconds, milliseconds = divmod(round(epoch_s * 1000), 1000)
    return f"{_iso_second(seconds)}.{milliseconds:03d}Z"


@functools.lru_cache(maxsize=16)  # lines come in the order of time, many within a second
def _iso_second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def level_of(name: str) -> int:
    """Rank of a log level; an unknown one counts as INFO, as Lambda does."""
    return _LEVELS.get(name.upper(), _DEFAULT_LEVEL)


class PlatformLog:
    """Writes the platform's lines of one execution environment in the format its function asks for.

    Each method returns the line, or None where the function's system log level leaves it out.
    """

    def __init__(self, function: FunctionConfiguration, environment_id: str) -> None:
        self._json = function.log_format == "JSON"
        self._level = level_of(function.system_log_level)
        self._version = function.version
        self._initialization_type = function.initialization
        self._environment = {
            "functionName": function.name,
            "functionVersion": function.version,
            "instanceId": environment_id,
            "instanceMaxMemory": function.memory_mb * 1024 * 1024,
        }

    def _event(self, level: str, now_s: float, kind: str, record: dict[str, Any]) -> str | None:
        if _LEVELS[level] < self._level:
            return None
        return json.dumps({"time": iso_time(now_s), "type": kind, "record": record}, separators=(",", ":"))

    def _ended(
        self,
        now_s: float,
        kind: str,
        record: dict[str, Any],
        status: Status,
        error_type: str | None,
        *,
        level: str = "DEBUG",
    ) -> str | None:
        """Return the event for the end of a phase, at `level` on success and at WARN otherwise."""
        error = {"errorType": error_type} if error_type else {}
        return self._event(level if status == "success" else "WARN", now_s, kind, {**record, "status": status, **error})

    def init_start(self, now_s: float, phase: Phase) -> str | None:
        """Image functions have no runtime version, so Text shows no INIT_START and JSON has it at DEBUG."""
        if not self._json:
            return None
        record = {"initializationType": self._initialization_type, "phase": phase, **self._environment}
        return self._event("DEBUG", now_s, "platform.initStart", record)

    def init_runtime_done(
        self, now_s: float, phase: Phase, status: Status, error_type: str | None = None
    ) -> str | None:
        """JSON alone: the runtime is ready, or will not be."""
        if not self._json:
            return None
        record = {"initializationType": self._initialization_type, "phase": phase}
        return self._ended(now_s, "platform.initRuntimeDone", record, status, error_type)

    def init_report(
        self, now_s: float, phase: Phase, duration_ms: float, status: Status, error_type: str | None = None
    ) -> str | None:
        """The one line of an init that a version's snapshot is taken after, as no REPORT names it.

        https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
        """
        ahead = self._initialization_type != "on-demand"
        if self._json:
            record = {
                "initializationType": self._initialization_type,
                "phase": phase,
                "metrics": {"durationMs": round(duration_ms, 3)},
            }
            level = "INFO" if ahead else "DEBUG"
            return self._ended(now_s, "platform.initReport", record, status, error_type, level=level)
        if status == "success":
            for_snapshot = self._initialization_type == "snap-start"
            return f"INIT_REPORT Init Duration: {duration_ms:.2f} ms" if for_snapshot else None
        error = f"\tError Type: {error_type}" if error_type else ""
        return f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: {phase}\tStatus: {status}{error}"

    def restore_start(self, now_s: float) -> str | None:
        """JSON alone, at DEBUG, as images have no runtime version."""
        if not self._json:
            return None
        return self._event("DEBUG", now_s, "platform.restoreStart", self._environment)

    def restore_runtime_done(self, now_s: float, status: Status, error_type: str | None) -> str | None:
        """JSON alone: the after-restore hooks have ended."""
        if not self._json:
            return None
        return self._ended(now_s, "platform.restoreRuntimeDone", {}, status, error_type)

    def restore_report(self, now_s: float, duration_ms: float, status: Status, error_type: str | None) -> str | None:
        if self._json:
            record = {"metrics": {"durationMs": round(duration_ms, 3)}}
            return self._ended(now_s, "platform.restoreReport", record, status, error_type, level="INFO")
        fields = [f"RESTORE_REPORT Restore Duration: {duration_ms:.2f} ms"]
        if status != "success":
            fields.append(f"Status: {status}")
        if error_type:
            fields.append(f"Error Type: {error_type}")
        return "\t".join(fields)

    def start(self, now_s: float, request_id: str) -> str | None:
        if self._json:
            return self._event("INFO", now_s, "platform.start", {"requestId": request_id, "version": self._version})
        return f"START RequestId: {request_id} Version: {self._version}"

    def runtime_done(
        self,
        now_s: float,
        request_id: str,
        duration_ms: float,
        produced_bytes: int,
        status: Status,
        error_type: str | None,
    ) -> str | None:
        """JSON alone; Text writes END in its place."""
        if not self._json:
            return f"END RequestId: {request_id}"
        metrics = {"durationMs": round(duration_ms, 3), "producedBytes": produced_bytes}
        record = {"requestId": request_id, "metrics": metrics}
        return self._ended(now_s, "platform.runtimeDone", record, status, error_type)

    def timed_out(self, now_s: float, request_id: str, timeout_s: float) -> str | None:
        """The line that Text format shows before END; JSON has the status in runtimeDone and report."""
        if self._json:
            return None
        return f"{iso_time(now_s)} {request_id} Task timed out after {timeout_s:.2f} seconds"

    def exited(self, request_id: str, message: str) -> str | None:
        """The line of a runtime that ended by itself, Text format."""
        if self._json:
            return None
        return f"RequestId: {request_id} Error: {message}\nRuntime.ExitError"

    def report(self, now_s: float, report: Report) -> str | None:
        if self._json:
            metrics: dict[str, Any] = {
                "durationMs": round(report.duration_ms, 3),
                "billedDurationMs": report.billed_duration_ms,
                "memorySizeMB": report.memory_size_mb,
                "maxMemoryUsedMB": report.max_memory_used_mb,
            }
            if report.init_duration_ms is not None:
                metrics["initDurationMs"] = round(report.init_duration_ms, 3)
            if report.restore_duration_ms is not None:
                metrics["restoreDurationMs"] = round(report.restore_duration_ms, 3)
                metrics["billedRestoreDurationMs"] = report.billed_restore_duration_ms
            record = {"requestId": report.request_id, "metrics": metrics}
            return self._ended(now_s, "platform.report", record, report.status, report.error_type, level="INFO")
        fields = [
            f"REPORT RequestId: {report.request_id}",
            f"Duration: {report.duration_ms:.2f} ms",
            f"Billed Duration: {report.billed_duration_ms} ms",
            f"Memory Size: {report.memory_size_mb} MB",
            f"Max Memory Used: {report.max_memory_used_mb} MB",
        ]
        if report.init_duration_ms is not None:
            fields.append(f"Init Duration: {report.init_duration_ms:.2f} ms")
        if report.restore_duration_ms is not None:
            fields.append(f"Restore Duration: {report.restore_duration_ms:.2f} ms")
            fields.append(f"Billed Restore Duration: {report.billed_restore_duration_ms} ms")
        if report.status != "success":
            fields.append(f"Status: {report.status}")
        if report.error_type and report.status != "timeout":
            fields.append(f"Error Type: {report.error_type}")
        return "\t".join(fields) + "\t"


def conditions_line(
    now_s: float,
    request_id: str,
    *,
    limits: str,
    time_scale: float,
    contended_by: Contention,
    major_page_faults: int | None,
) -> str:
    """The lab's own line after REPORT, the same in both formats and at every log level: how it was measured."""
    faults = "null" if major_page_faults is None else major_page_faults
    # Written by hand, as it is written for every invocation; no value in it needs escaping.
    return (
        f'{{"type":"lab.conditions","time":"{iso_time(now_s)}","record":{{"requestId":"{request_id}",'
        f'"limits":"{limits}","timeScale":{time_scale},'
        f'"hostContended":{"true" if contended_by else "false"},'
        f'"contendedBy":"{contended_by}","majorPageFaults":{faults}}}}}'
    )


def application_level(message: str) -> int:
    """Level that Lambda gives a line of the function in JSON format: the "level" of a JSON object that has a time, too.

    The guide: without a valid level, or without a valid timestamp, a line counts as INFO.
    """
    if message.startswith("{") and '"level"' in message:
        try:
            record = strict_json.loads(message)
        except ValueError:
            return _DEFAULT_LEVEL
        if isinstance(record, dict) and isinstance(record.get("level"), str):
            return (
                level_of(record["level"]) if _is_time(record.get("timestamp", record.get("time"))) else _DEFAULT_LEVEL
            )
    return _DEFAULT_LEVEL


def _is_time(value: object) -> bool:
    """Whether this is a time by RFC 3339: date, time and offset from UTC."""
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        return False
    try:
        dt.datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
