"""Show the progress of a long command: on a terminal a line that changes, elsewhere only notes."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.status import Status


class Progress(Status):
    """Says on standard error what is going on; use it as a context manager."""

    def __init__(self) -> None:
        super().__init__("connecting", console=Console(stderr=True))

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def say(self, text: str) -> None:
        """The step that begins now; shown on a terminal alone."""
        self.update(text)

    def note(self, text: str) -> None:
        """Something to be read afterwards too."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
