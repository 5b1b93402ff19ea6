"""Children of the demo: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from core.errors import UserError
from core.program.processes import end_child, start_child

STOP_PATIENCE_S: Final = 20.0


def _start(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes] | int | None,
    errors: IO[bytes] | int | None,
    working_directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches the demo alone, which then stops its children in order.
    # Progress bars still find the terminal by standard error.
    return start_child(
        command,
        cwd=working_directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )


@contextlib.contextmanager
def in_the_background(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Run a command that nothing depends on while the block runs, and wait for its end after it."""
    process = _start(command, environment, subprocess.DEVNULL, subprocess.DEVNULL)
    try:
        yield
        process.wait()
    finally:
        end_child(process, within_s=STOP_PATIENCE_S)


def run_step(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    log: Path | None = None,
    watch: Callable[[], None] = lambda: None,
    working_directory: Path | None = None,
) -> None:
    """Run one command to its end; with `log`, its output goes there and its last lines are shown when it fails.

    `watch` is called twice a second while the command runs. Raises UserError when the command fails.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        process = _start(command, environment, output, output, working_directory)
        code: int | None = None
        try:
            while code is None:
                watch()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(0.5)
        finally:
            # Not SIGINT: a Python that has just started, and imports, would answer with a traceback.
            end_child(process, within_s=STOP_PATIENCE_S)
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log else ""
        raise UserError(
            f"`{' '.join(command[:4])}` ended with exit code {code}" + (f"\n{tail}" if tail else ""),
            hint=f"Its whole output is in {log}." if log else "What it printed above says why.",
        )


@contextlib.contextmanager
def running_lab(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Start a lab and stop it at the end; yield its address once it answers. Raises UserError if it does not start."""
    with log.open("ab") as errors:
        process = _start(command, environment, subprocess.PIPE, errors)
        try:
            assert process.stdout is not None
            word, _, url = process.stdout.readline().decode().strip().partition(" ")  # "" once it has ended
            if word != "ready":
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise UserError(f"the lab ended with exit code {process.wait()}\n{tail}", hint=f"See {log}.")
            yield url
        finally:
            end_child(process, within_s=STOP_PATIENCE_S)
