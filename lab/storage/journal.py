"""A journal: records appended to a file in one system call, read in order by another process.

What was appended outlives a kill of the process that wrote it, as it is the kernel's from then on. Segments keep the
file short: the writer begins a new one when the last has grown long, the reader deletes what it is done with.

A record is 4 bytes length, then `marshal` of (command or None, content).
"""

from __future__ import annotations

import contextlib
import marshal
import os
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

_LENGTH_BYTES: Final = 4
_SEGMENT_BYTES: Final = 8 * 1024 * 1024
_READ_BYTES: Final = 1024 * 1024

RECORDS_A_TURN: Final = 4  # about a twentieth of a millisecond of the reader's work

Record = tuple[str | None, Any]
# Stands for a record that is damaged, as a power cut can leave it: no writer has a command of this name.
DAMAGED: Final[Record] = ("", None)

# A kernel that preempts lazily (Linux, from 6.13 on) lets a program compute until it enters the kernel, or until the
# next tick. What the lab wakes on the same CPU meanwhile waits for milliseconds, which is several invokes.
give_way: Final = getattr(os, "sched_yield", lambda: None)


class Position(NamedTuple):
    """How far a journal has been read: the number of a segment and the bytes of it."""

    segment: int
    offset: int


def segment_path(journal: str, number: int) -> str:
    return f"{journal}.{number:06d}"


def segments(journal: str) -> list[int]:
    """Numbers of the segments that are there, ascending."""
    path = Path(journal)
    found = (entry.name.removeprefix(f"{path.name}.") for entry in path.parent.glob(f"{path.name}.*"))
    return sorted(int(number) for number in found if number.isdecimal())


class JournalWriter:
    """Appends records. May be used by several threads; a record is whole or not there."""

    def __init__(self, journal: str, segment: int) -> None:
        """Begin segment number `segment`, which is not there yet. Raises OSError."""
        self._journal = journal
        self._segment = segment
        self._lock = threading.Lock()
        self._descriptor = self._open()
        self._written = 0
        self._backlog = bytearray()  # what the disk did not take, to go first

    def append(self, record: Record) -> None:
        """Write one record. Raises OSError where the disk takes nothing: the record is kept in memory, to go first."""
        body = marshal.dumps(record)
        data = len(body).to_bytes(_LENGTH_BYTES, "big") + body
        with self._lock:
            if self._backlog or len(data) > _SEGMENT_BYTES:
                self._backlog += data
                self._write_backlog()
                return
            try:
                taken = os.write(self._descriptor, data)
            except OSError:
                self._backlog += data
                raise
            self._written += taken
            if taken < len(data):
                self._backlog += data[taken:]
                self._write_backlog()
            elif self._written > _SEGMENT_BYTES:
                self._begin_next()

    def write_backlog(self) -> None:
        """Try again to write what the disk did not take. Raises OSError."""
        with self._lock:
            self._write_backlog()

    def close(self) -> None:
        """What is appended afterwards stays in memory: the descriptor's number may be another file's by then."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _write_backlog(self) -> None:
        while self._backlog:
            taken = os.write(self._descriptor, self._backlog)
            self._written += taken
            del self._backlog[:taken]
        if self._written > _SEGMENT_BYTES:
            self._begin_next()

    def _begin_next(self) -> None:
        previous = self._descriptor
        self._segment += 1
        try:
            self._descriptor = self._open()
        except OSError:  # no more files, or no more disk: keep the old one
            self._segment -= 1
            return
        self._written = 0
        os.close(previous)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(segment_path(self._journal, self._segment), flags, 0o600)


class JournalReader:
    """Reads records from a position on, over the ends of segments."""

    def __init__(self, journal: str, position: Position) -> None:
        self._journal = journal
        self.position = position
        self._descriptor = -1

    def read(self) -> list[Record]:
        """Records that are whole, about 1 MB of them at most; `position` is behind them afterwards."""
        while True:
            records, used = self._read_here()
            if records:
                self.position = Position(self.position.segment, self.position.offset + used)
                return records
            if not self._go_to_next():
                return []

    def forget_read(self) -> None:
        """Delete the segments before the position."""
        for number in segments(self._journal):
            if number < self.position.segment:
                with contextlib.suppress(OSError):
                    Path(segment_path(self._journal, number)).unlink()

    def go_back(self, position: Position) -> None:
        """Read again from here."""
        self.close()
        self.position = position

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_here(self) -> tuple[list[Record], int]:
        """The next records of this segment, and how many bytes they take."""
        data = last = self._take()
        records, used = _parse(data)
        while not records and len(last) == _READ_BYTES:
            # One record longer than what is read at once.
            last = self._take(len(data))
            data += last
            records, used = _parse(data)
        return records, used

    def _take(self, beyond: int = 0) -> bytes:
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(
                    segment_path(self._journal, self.position.segment), os.O_RDONLY | os.O_CLOEXEC
                )
            except FileNotFoundError:
                return b""
        return os.pread(self._descriptor, _READ_BYTES, self.position.offset + beyond)

    def _go_to_next(self) -> bool:
        """Go to the next segment after reading this one to its end; False if there is none."""
        later = [number for number in segments(self._journal) if number > self.position.segment]
        if not later:
            return False
        # The writer may have added to this one between our reading it and its beginning the next.
        if not self._read_here()[0]:
            # What is left, if anything, is half a record: its writer was killed.
            self.close()
            self.position = Position(later[0], 0)
        return True


def _parse(data: bytes) -> tuple[list[Record], int]:
    """The whole records at the start of `data`, and how many bytes they take."""
    records: list[Record] = []
    start = 0
    while start + _LENGTH_BYTES <= len(data):
        begin = start + _LENGTH_BYTES
        end = begin + int.from_bytes(data[start:begin], "big")
        if end > len(data):
            break
        try:
            records.append(marshal.loads(data[begin:end]))  # noqa: S302 - a file of our own writing
        except (ValueError, EOFError, TypeError):
            records.append(DAMAGED)
        start = end
        if len(records) % RECORDS_A_TURN == 0:
            give_way()
    return records, start
