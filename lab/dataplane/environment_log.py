"""What one execution environment leaves behind: its log stream, the reports of its invocations, their metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.run.records import LimitsInForce
from lab.contracts import FunctionConfiguration, LogEvent, LogSink, MetricSink
from lab.dataplane.function_output import OutputSplitter
from lab.dataplane.invocation import Invocation
from lab.dataplane.platform_log import (
    Phase,
    PlatformLog,
    Report,
    Status,
    application_level,
    conditions_line,
    level_of,
)
from lab.dataplane.rules import billed_duration_ms, log_stream_name

NAMESPACE: Final = "AWS/Lambda"


@dataclass(frozen=True)
class Measured:
    """What was measured of an invocation: its end on the monotonic clock, the environment's memory, page faults."""

    ended_at: float
    peak_mb: float
    major_page_faults: int | None


class EnvironmentLog:
    """Writes the log stream of one environment in the format of its function."""

    def __init__(
        self, environment_id: str, configuration: FunctionConfiguration, logs: LogSink, metrics: MetricSink
    ) -> None:
        self.stream = log_stream_name(environment_id, time.time(), configuration.version)
        self._configuration = configuration
        self._logs = logs
        self._metrics = metrics
        self._lines = PlatformLog(configuration, environment_id)
        # Only JSON format has levels.
        is_json = configuration.log_format == "JSON"
        self._least_level = level_of(configuration.application_log_level) if is_json else 0
        self.output = OutputSplitter()
        self._last_timestamp_ms = 0

    # -- the function's own lines

    def write_application(self, messages: Sequence[str], invocation: Invocation | None) -> None:
        """Write lines of the function, those below its log level left out."""
        least = self._least_level
        self.write([message for message in messages if least <= 0 or application_level(message) >= least], invocation)

    # -- the platform's lines

    def write(self, lines: Sequence[str | None], invocation: Invocation | None) -> None:
        """Write lines now; None means a line that this format or level does not have."""
        now_ms = max(self._last_timestamp_ms, int(time.time() * 1000))
        self._last_timestamp_ms = now_ms
        events = [LogEvent(now_ms, line) for line in lines if line is not None]
        if not events:
            return
        self._logs.put(self._configuration.log_group, self.stream, events)
        if invocation is not None and invocation.wants_tail:
            invocation.lines.extend(event.message for event in events)

    def init_started(self, phase: Phase, invocation: Invocation | None) -> None:
        self.write([self._lines.init_start(time.time(), phase)], invocation)

    def init_ended(
        self, phase: Phase, duration_ms: float, status: Status, error_type: str | None, invocation: Invocation | None
    ) -> None:
        now_s = time.time()
        self.write(
            [
                self._lines.init_runtime_done(now_s, phase, status, error_type),
                self._lines.init_report(now_s, phase, duration_ms, status, error_type),
            ],
            invocation,
        )

    def restore_started(self, invocation: Invocation) -> None:
        self.write([self._lines.restore_start(time.time())], invocation)

    def restore_ended(self, duration_ms: float, status: Status, error_type: str | None, invocation: Invocation) -> None:
        now_s = time.time()
        done = self._lines.restore_runtime_done(now_s, status, error_type)
        self.write([done, self._lines.restore_report(now_s, duration_ms, status, error_type)], invocation)

    def started(self, invocation: Invocation) -> None:
        self.write([self._lines.start(time.time(), invocation.request_id)], invocation)

    def timed_out(self, invocation: Invocation) -> None:
        line = self._lines.timed_out(time.time(), invocation.request_id, self._configuration.timeout_s)
        self.write([line], invocation)

    def exited(self, invocation: Invocation, reason: str) -> None:
        self.write([self._lines.exited(invocation.request_id, reason)], invocation)

    def report(self, invocation: Invocation, measured: Measured, limits: LimitsInForce, *, time_scale: float) -> Report:
        """Write END, REPORT and the lab's conditions of an invocation that has ended; returns the report."""
        now_s = time.time()
        duration_ms = self._duration_ms(invocation, measured)
        memory_mb, used_mb = self._configuration.memory_mb, math.ceil(measured.peak_mb)
        report = Report(
            request_id=invocation.request_id,
            duration_ms=duration_ms,
            billed_duration_ms=billed_duration_ms(duration_ms, invocation.init_ms)
            + (invocation.billed_restore_ms or 0),
            memory_size_mb=memory_mb,
            max_memory_used_mb=used_mb if limits.memory == "none" else min(used_mb, memory_mb),
            init_duration_ms=invocation.init_ms,
            restore_duration_ms=invocation.restore_ms,
            billed_restore_duration_ms=invocation.billed_restore_ms,
            status=invocation.status,
            error_type=invocation.error_type,
        )
        conditions = conditions_line(
            now_s,
            invocation.request_id,
            limits=limits.mechanism,
            time_scale=time_scale,
            contended_by=invocation.contended,
            major_page_faults=measured.major_page_faults,
        )
        done = self._lines.runtime_done(
            now_s,
            invocation.request_id,
            duration_ms,
            invocation.produced_bytes,
            invocation.status,
            invocation.error_type,
        )
        self.write([done, self._lines.report(now_s, report), conditions], invocation)
        return report

    def count(self, invocation: Invocation, measured: Measured) -> None:
        """Put the metrics of an invocation that has ended."""
        self._metrics.put(
            NAMESPACE,
            {"FunctionName": self._configuration.name},
            time.time(),
            (
                ("Invocations", "Count", 1.0),
                ("Errors", "Count", 1.0 if invocation.is_function_error else 0.0),
                ("Duration", "Milliseconds", self._duration_ms(invocation, measured)),
                ("ConcurrentExecutions", "Count", float(invocation.concurrency)),
                *self._provisioned_metrics(),
            ),
        )

    def _provisioned_metrics(self) -> Sequence[tuple[str, str, float]]:
        """https://docs.aws.amazon.com/lambda/latest/dg/monitoring-concurrency.html."""
        if not self._configuration.provisioned:
            return ()
        ahead = self._configuration.initialization == "provisioned-concurrency"
        name = "ProvisionedConcurrencyInvocations" if ahead else "ProvisionedConcurrencySpilloverInvocations"
        return ((name, "Count", 1.0),)

    def _duration_ms(self, invocation: Invocation, measured: Measured) -> float:
        if invocation.status == "timeout":
            return self._configuration.timeout_s * 1000  # where Lambda stops; killing takes us a little longer
        return (measured.ended_at - invocation.started_at) * 1000
