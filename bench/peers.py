"""Programs that the project is compared with."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uv

from bench.http_clients import KeptConnection
from bench.measurement import RAW
from core.errors import UserError
from core.program.processes import end_child, start_child
from lab.images.run_step import pip_settings

# AWS's Runtime Interface Emulator is published inside this wheel.
SAM_CLI: Final = "aws-sam-cli==1.170.0"
RIE_PATH: Final = "/2015-03-31/functions/function/invocations"
_CACHE: Final = RAW / "peers"


class PeerMissingError(UserError):
    """The peer cannot be had here; the message says why."""


def install_peer(requirement: str, directory: Path, *options: str) -> None:
    """Install a peer's packages into a folder of its own, as set-up installs ours. Raises PeerMissingError."""
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(directory)]
    done = subprocess.run(
        [*command, *options, requirement],
        env={**os.environ, **pip_settings()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PeerMissingError(f"{requirement} could not be installed: {done.stderr.strip()[-300:]}")


def emulator() -> Path:
    """AWS's Runtime Interface Emulator, downloaded once. Raises PeerMissingError."""
    machine = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise PeerMissingError(f"AWS's emulator does not run on {sys.platform} {platform.machine()}")
    binary = _CACHE / f"aws-lambda-rie-{machine}"
    if not binary.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            install_peer(SAM_CLI, Path(directory), "--no-deps")
            shutil.copy(Path(directory) / "samcli" / "local" / "rapid" / binary.name, binary)
        binary.chmod(0o755)
    return binary


@contextlib.contextmanager
def running_emulator(task_root: Path) -> Iterator[tuple[int, int]]:
    """The emulator in front of a real runtime client on this handler; gives its port and process id.

    Raises PeerMissingError.
    """
    binary = emulator()
    port, runtime_port = _free_port(), _free_port()
    process = start_child(
        [
            *(str(binary), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
            *(sys.executable, "-m", "awslambdaric", "handler.handler"),
        ],
        cwd=task_root,
        env={**os.environ, "LAMBDA_TASK_ROOT": str(task_root), "AWS_LAMBDA_FUNCTION_TIMEOUT": "60"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for_port(port, process)
        connection = KeptConnection(port, RIE_PATH)
        connection.call()
        connection.close()
        yield port, process.pid
    finally:
        end_child(process, within_s=10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PeerMissingError(f"the emulator ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise PeerMissingError("the emulator did not listen within 30 s")
