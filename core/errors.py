"""Errors a user can act on, and the exit codes of every command."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_CHECK_FAILED: Final = 2
EXIT_INTERRUPTED: Final = 130


class UserError(Exception):
    """An error that the user can fix: what was found, what was expected, what to do.

    `hint` is the last of the three; it is printed on its own line.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigurationError(UserError):
    """`benchmark.toml` holds a value that is not allowed."""


class DeploymentError(UserError):
    """The deployed stacks are missing or differ from the configuration."""


class CloudError(UserError):
    """AWS, or the lab in its place, refused or did not answer."""


class RecordError(UserError):
    """A run's directory is missing, incomplete or of another schema version."""


def leave_at_once(*_: object) -> NoReturn:
    """Handle a signal by ending the process with the exit code of an interruption."""
    os._exit(EXIT_INTERRUPTED)


def run_command(program: str, command: Callable[[], int | None]) -> NoReturn:
    """Run a command's body and leave with its exit code; a `UserError` is printed without a traceback."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = command()
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(EXIT_ERROR) from None
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # A reader such as `head` went away; that is not an error of ours.
        sys.stderr.close()
        raise SystemExit(EXIT_OK) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"{program}: the disk is full{where}\n  Free some space, then run the command again.", file=sys.stderr)
        raise SystemExit(EXIT_ERROR) from None
    raise SystemExit(EXIT_OK if code is None else code)
