"""Children of the demo: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from core.cloud import LAB_STATUS_PATH
from core.errors import CloudError, UserError
from core.processes import ending_with_this_process

STOP_PATIENCE_S: Final = 20.0


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches the demo alone, which then stops its children in order.
    # Progress bars still find the terminal by standard error.
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=ending_with_this_process(),  # noqa: PLW1509 - it only calls prctl
    )


def _stop(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    if process.poll() is not None:
        return
    process.send_signal(first)
    try:
        process.wait(STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_step(command: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None) -> None:
    """Run one command to its end; with `log`, its output goes there and its last lines are shown when it fails.

    Raises UserError when the command fails.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        process = _start(command, environment, output)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _stop(process, signal.SIGINT)
            raise
        finally:
            _stop(process, signal.SIGTERM)
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log else ""
        raise UserError(
            f"`{' '.join(command[:4])}` ended with exit code {code}" + (f"\n{tail}" if tail else ""),
            hint=f"Its whole output is in {log}." if log else "What it printed above says why.",
        )


@contextlib.contextmanager
def running_lab(command: Sequence[str], url: str, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Start a lab, wait until it answers, stop it at the end. Raises UserError when it does not come up."""
    with log.open("ab") as output:
        process = _start(command, environment, output)
        try:
            _wait_until_up(process, url, log)
            yield
        finally:
            _stop(process, signal.SIGTERM)


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise UserError(f"the lab ended with exit code {process.returncode}\n{tail}", hint=f"See {log}.")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}{LAB_STATUS_PATH}", timeout=2).close()  # noqa: S310 - our own loopback address
            return
        time.sleep(0.1)
    raise CloudError(f"the lab did not answer at {url} within 60 s", hint=f"See {log}.")
