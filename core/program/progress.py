"""How far a run is: a bar with what is left on a terminal, occasional lines when asked for, silence otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

LINE_EVERY_S: Final = 30.0


class Progress:
    """Phases of a run, one after another; written to standard error."""

    def __init__(self, *, verbose: bool = False, terminal: bool | None = None) -> None:
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._verbose = verbose
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[then]}"),
            console=Console(stderr=True),
            transient=True,
            disable=not self._terminal,
        )
        self._task: Task | None = None
        self._last_line = 0.0

    def phase(self, name: str, total: float, *, then_s: float = 0.0) -> None:
        """Begin a phase of `total` units; `then_s` is what the phases after it are expected to take."""
        self.end_phase()
        self._last_line = time.monotonic()
        then = f"then about {duration_text(then_s)}" if then_s >= 1 else ""
        self._bars.add_task(name, total=total, state="", then=then)
        self._task = self._bars.tasks[-1]
        self._line(f"{name}: begins")

    def advance(self, units: float = 1.0, state: str = "") -> None:
        if self._task is not None:
            self.at(self._task.completed + units, state)

    def at(self, done: float, state: str = "") -> None:
        """So many units of the phase are done."""
        task = self._task
        if task is None:
            return
        fields = {"state": state} if state else {}
        self._bars.update(task.id, completed=done, **fields)  # type: ignore[arg-type]  # fields are free text
        now, total = time.monotonic(), task.total or 0.0
        if now - self._last_line >= LINE_EVERY_S and done > 0:
            self._last_line = now
            left_s = (task.elapsed or 0.0) * max(0.0, total - done) / done
            self._line(f"{task.description}: {100 * done / total:.0f}% {state}, about {duration_text(left_s)} left")

    def end_phase(self) -> None:
        if self._task is not None:
            self._line(f"{self._task.description}: {duration_text(self._task.elapsed or 0.0)}")
            self._bars.remove_task(self._task.id)
            self._task = None

    def say(self, text: str) -> None:
        """Something a person should know now, whether or not they watch the bar."""
        if self._terminal:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr)

    def _line(self, text: str) -> None:
        if self._verbose and not self._terminal:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.end_phase()
        self._bars.stop()


def duration_text(seconds: float) -> str:
    """Return a duration in the units a person would use."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
