"""What a long command says while it works: on a terminal a line that changes, elsewhere nothing but notes."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status


class Progress:
    """Says on standard error what is going on; use it as a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status: Status | None = None

    def say(self, text: str) -> None:
        """The step that begins now; shown on a terminal alone."""
        if self._status is not None:
            self._status.update(text)

    def note(self, text: str) -> None:
        """Something to be read afterwards too."""
        if self._status is not None:
            self._console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("connecting")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
