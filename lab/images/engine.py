"""The seam to a container engine: Docker or Podman, by their command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from core import strict_json
from core.errors import UserError
from lab.images.image_store import ImageRecord

ENGINE_VARIABLE: Final = "LAB_ENGINE"
BUILD_NETWORK_VARIABLE: Final = "LAB_BUILD_NETWORK"
ENGINES: Final = ("docker", "podman")


class EngineError(UserError):
    """The container engine is not there or refused."""


class Engine:
    """One engine. `program` is "docker" or "podman", found on PATH."""

    def __init__(self, program: str) -> None:
        self.program = program

    def build(
        self, context: Path, dockerfile: Path, arguments: Mapping[str, str], platform: str, *, use_cache: bool
    ) -> ImageRecord:
        """Build and return what was built. Raises EngineError; the engine's own output goes to stderr."""
        words = [self.program, "build", "--file", str(dockerfile), "--quiet"]
        for key, value in arguments.items():
            words += ["--build-arg", f"{key}={value}"]
        if platform:
            words += ["--platform", platform]
        if not use_cache:
            words.append("--no-cache")
        # A machine whose engine has no bridge network (many CI machines) builds on the host's.
        network = os.environ.get(BUILD_NETWORK_VARIABLE)
        if network:
            words += ["--network", network]
        built = self._output([*words, str(context)], "build").strip().splitlines()
        return self.describe(built[-1])

    def tag(self, source: str, target: str) -> None:
        self._output([self.program, "tag", source, target], "tag")

    def has(self, reference: str) -> bool:
        words = [self.program, "image", "inspect", reference]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def describe(self, reference: str) -> ImageRecord:
        """Raises EngineError where there is no such image."""
        found: dict[str, Any] = strict_json.loads(
            self._output([self.program, "image", "inspect", reference], "inspect")
        )[0]
        configuration = found["Config"]
        identity = found["Id"] if found["Id"].startswith("sha256:") else f"sha256:{found['Id']}"
        return ImageRecord(
            id=identity,
            command=tuple(configuration.get("Cmd") or ()),
            environment=dict(word.split("=", 1) for word in configuration.get("Env") or ()),
            working_directory=configuration.get("WorkingDir") or "",
            labels=configuration.get("Labels") or {},
            platform=f"{found.get('Os', 'linux')}/{found.get('Architecture', '')}",
            engine=self.program,
        )

    def _output(self, words: Sequence[str], what: str) -> str:
        try:
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        except OSError:
            raise EngineError(f"{self.program} is not on PATH", hint=_HOW) from None
        if done.returncode != 0:
            raise EngineError(f"{self.program} {what} failed with exit code {done.returncode}; its output is above")
        return done.stdout


_PATIENCE_S: Final = 30.0
_HOW: Final = "Install Docker or Podman and start it, or unset LAB_ENGINE to let the lab build without one."


def find_engine() -> tuple[str, str]:
    """A running engine's name and version; raises EngineError with the reason if there is none.

    LAB_ENGINE names it, else Docker and then Podman are tried.
    """
    wanted = os.environ.get(ENGINE_VARIABLE, "")
    reasons = []
    for program in (wanted,) if wanted else ENGINES:
        if program not in ENGINES:
            raise EngineError(f"{ENGINE_VARIABLE} is {program!r}; allowed: {', '.join(ENGINES)}")
        if shutil.which(program) is None:
            reasons.append(f"{program} is not on PATH")
            continue
        words = [program, "version", "--format", "{{.Server.Version}}" if program == "docker" else "{{.Version}}"]
        version, complaint = _ask(words)
        if version:
            return program, version
        reasons.append(f"{program}: {complaint}")
    raise EngineError(f"no container engine runs ({'; '.join(reasons)})", hint=_HOW)


def _ask(words: Sequence[str]) -> tuple[str, str]:
    """Return what an engine answers, or "" and why it does not."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_PATIENCE_S:g} s"
    if done.returncode == 0 and done.stdout.strip():
        return done.stdout.strip(), ""
    return "", (done.stderr.strip() or "does not answer").splitlines()[-1]


def engine_socket(program: str) -> str:
    """Path of the socket on which the engine answers its API. Raises EngineError where that is no local socket."""
    address = os.environ.get("DOCKER_HOST" if program == "docker" else "CONTAINER_HOST", "")
    if not address and program == "podman":
        words = ["podman", "info", "--format", "{{.Host.RemoteSocket.Path}}"]
        address, _ = _ask(words)
    path = (address or "/var/run/docker.sock").removeprefix("unix://")
    if "://" in path:
        raise EngineError(f"{program} is at {address}; the lab needs one on this machine", hint="Unset DOCKER_HOST.")
    if not Path(path).is_socket():
        raise EngineError(
            f"{program} has no socket at {path}",
            hint="Start the engine; for Podman: systemctl --user start podman.socket",
        )
    return path
