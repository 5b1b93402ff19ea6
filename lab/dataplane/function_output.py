"""From what a function writes to log messages: lines of stdout and stderr, and the runtime client's framed messages.

A frame is what AWS's runtime clients write to the file descriptor named by `_LAMBDA_TELEMETRY_LOG_FD`: 4 bytes type,
4 bytes length, 8 bytes time in microseconds, then the message, which may have many lines and stays one event. The lab
hands the function the same pipe for stdout, stderr and frames, so that the order in which it wrote them is kept.
"""

from __future__ import annotations

from typing import Final

from lab.dataplane.rules import MAX_LOG_EVENT_BYTES

_FRAME_MARK: Final = b"\xa5\x5a\x00"  # 0xa5 never starts a character in UTF-8
_FRAME_HEADER_BYTES: Final = 16
_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024  # a longer one is no frame but a function that writes bytes at random


class OutputSplitter:
    """Cuts a stream of bytes into messages; holds an unfinished one back until its end or `flush`."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Messages that are complete with `data`, in order."""
        pending = self._rest + data if self._rest else data
        messages: list[str] = []
        start = 0
        while start < len(pending):
            if pending.startswith(_FRAME_MARK, start):
                end = self._frame_end(pending, start)
                if end is None:
                    break
                if end > 0:
                    _append(messages, pending[start + _FRAME_HEADER_BYTES : end].rstrip(b"\n"))
                    start = end
                    continue
            newline = pending.find(b"\n", start)
            mark = pending.find(_FRAME_MARK, start + 1, newline if newline >= 0 else len(pending))
            if mark >= 0:
                _append(messages, pending[start:mark])
                start = mark
            elif newline >= 0:
                _append(messages, pending[start:newline])
                start = newline + 1
            elif len(pending) - start >= MAX_LOG_EVENT_BYTES:
                _append(messages, pending[start : start + MAX_LOG_EVENT_BYTES])
                start += MAX_LOG_EVENT_BYTES
            else:
                break
        self._rest = pending[start:]
        return messages

    def flush(self) -> list[str]:
        """What is left without its end of line: an invocation or the process has ended."""
        rest, self._rest = self._rest, b""
        messages: list[str] = []
        if rest.startswith(_FRAME_MARK):
            rest = rest[_FRAME_HEADER_BYTES:]
        if rest:
            _append(messages, rest)
        return messages

    @staticmethod
    def _frame_end(pending: bytes, start: int) -> int | None:
        """End of the frame at `start`; None if more has to come, 0 if it is none."""
        if len(pending) < start + 8:
            return None
        length = int.from_bytes(pending[start + 4 : start + 8], "big")
        if length > _MAX_FRAME_BYTES:
            return 0
        end = start + _FRAME_HEADER_BYTES + length
        return end if len(pending) >= end else None


def _append(messages: list[str], raw: bytes) -> None:
    """Add a message, cut to the longest event that CloudWatch takes; empty lines are no events."""
    if raw.endswith(b"\r"):
        raw = raw[:-1]
    messages.extend(
        raw[start : start + MAX_LOG_EVENT_BYTES].decode("utf-8", "replace")
        for start in range(0, len(raw), MAX_LOG_EVENT_BYTES)
    )
