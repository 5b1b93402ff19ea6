"""The state directory of a lab: one lab at a time holds it, and a kill of the lab frees it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from core.errors import UserError


class StateDirectory:
    """A locked directory. The kernel drops the lock with the process, so a kill -9 leaves nothing to clean up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Lock it. Raises UserError where another lab holds it or it cannot be written."""
        lock = self.path / "lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(
                f"the state directory {self.path} cannot be used: {error.strerror}",
                hint="Name another with --state.",
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise UserError(
                f"another lab holds {self.path}" + (f" (process {holder})" if holder else ""),
                hint="Stop that lab, or start this one with another --state (and --port).",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
