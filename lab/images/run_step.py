"""RUN without a shell: `pip install` by uv into the image's own folder, `python` in a base of the build's own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import uv

from core.paths import SETUP
from core.program.processes import start_child
from lab.images.base import PACKAGES
from lab.images.build_plan import BASE_ENVIRONMENT, HOST_ARCHITECTURE, StagePlan
from lab.images.dockerfile import ENGINE_HINT, DockerfileError, Instruction, expand
from lab.images.image_store import TASK_ROOT
from lab.images.stage_state import StageState

_SHELL: Final = re.compile(r"[|;<>`*?()]|\$\(|&(?!&)|&&&")
# Options of pip that have the same meaning for uv, and those that have none here.
_PIP_SHARED: Final = {"--no-deps", "--require-hashes", "--upgrade", "-U", "--pre", "--no-build-isolation"}
_PIP_IGNORED: Final = {"--no-cache-dir", "--quiet", "-q", "--no-input", "--no-compile", "--disable-pip-version-check"}
# How a build names the failure that most people can fix by themselves, and how uv tells it from others.
NO_DOWNLOAD: Final = "the packages of the image cannot be downloaded"
NETWORK_HINT: Final = (
    "Check the network. Behind a proxy, set HTTPS_PROXY. For a mirror, set pip's index-url. "
    "An image that is built once needs no network."
)
_DOWNLOAD_FAILED: Final = re.compile(r"failed to fetch|dns error|error sending request", re.IGNORECASE)
_PIP_VALUES: Final = {"-r", "--requirement", "-c", "--constraint", "--target", "-t", "--only-binary", "--no-binary"}


@dataclass(frozen=True)
class RunStep:
    """One RUN instruction. `python` makes the interpreter on first use; `say` takes progress, a line each."""

    instruction: Instruction
    stage: StagePlan
    state: StageState
    python: Callable[[], Path]
    say: Callable[[str], None]

    def carry_out(self) -> None:
        """Run its commands one after the other. Raises DockerfileError for what is not understood or fails."""
        if self.instruction.text.startswith(("[", "--")):
            raise self._error("RUN in JSON form or with flags is not known", hint=ENGINE_HINT)
        variables = {**self.state.variables, "LAMBDA_TASK_ROOT": str(self.state.root)}
        for command in self.instruction.text.split("&&"):
            match self._words(command.strip(), variables):
                case ["pip" | "pip3", "install", *rest] | ["python" | "python3", "-m", "pip", "install", *rest]:
                    self._install(rest)
                case ["python" | "python3", *rest] if rest:
                    self._run_python(rest, variables)
                case arguments:
                    message = f"RUN {' '.join(arguments)[:80]}: the lab runs `pip install` and `python` only"
                    raise self._error(message, hint=ENGINE_HINT)

    def _error(self, message: str, hint: str = "") -> DockerfileError:
        return DockerfileError(f"line {self.instruction.line}: {message}", hint=hint)

    def _words(self, command: str, variables: Mapping[str, str]) -> list[str]:
        if _SHELL.search(command):
            raise self._error(f"RUN {command[:80]}: of a shell only && and variables are known", hint=ENGINE_HINT)
        try:
            words = shlex.split(expand(command, variables))
        except ValueError as error:
            raise self._error(f"RUN {command[:80]}: {error}") from None
        return [word.replace(TASK_ROOT, str(self.state.root)) for word in words]

    def _run_python(self, arguments: list[str], variables: Mapping[str, str]) -> None:
        environment = {
            **_host_variables(),
            **{name: value for name, value in variables.items() if name not in BASE_ENVIRONMENT},
            "LAMBDA_TASK_ROOT": str(self.state.root),
            "PYTHONPATH": str(self.state.root / PACKAGES),
            # Bytecode of what is copied would be in the image by accident; `python -m compileall` puts it there by
            # intent.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._execute([str(self.python()), *arguments], f"python {' '.join(arguments)}", environment)

    def _install(self, arguments: list[str]) -> None:
        """Carry out `pip install` by uv, into the image's own folder of packages or below LAMBDA_TASK_ROOT."""
        if _foreign(self.stage.platform):
            return  # another machine's packages: an image for it is not run here
        options, target = self._options(arguments)
        command = [uv.find_uv_bin(), "pip", "install", "--link-mode=hardlink", *options]
        command += ["--target", str(target), "--python", str(self.python())]
        if "--no-compile" not in arguments:
            command.append("--compile-bytecode")  # pip does by itself, and without it every cold start would compile
        try:
            unhurried = {"UV_COMPILE_BYTECODE_TIMEOUT": "0"}  # a busy machine takes more than the 60 s of one file
            self._execute(command, f"pip install {' '.join(arguments)}", unhurried | _host_variables() | pip_settings())
        except DockerfileError as error:
            if _DOWNLOAD_FAILED.search(error.message):
                raise DockerfileError(f"{NO_DOWNLOAD}\n{error.message}", hint=NETWORK_HINT) from None
            raise
        (target / ".lock").unlink(missing_ok=True)  # uv's own

    def _options(self, arguments: list[str]) -> tuple[list[str], Path]:
        """Uv's options and requirements for those of pip, and the folder to install into. Raises DockerfileError."""
        options, target = [], self.state.root / PACKAGES
        rest = iter(arguments)
        for word in rest:
            name, separator, value = word.partition("=")
            if name in _PIP_VALUES and (word.startswith("--") or not separator):
                value = value if separator else next(rest, "")
                if name in {"--target", "-t"}:
                    target = self.state.host_path(self.state.working_directory) / value
                else:
                    options += [name, value]
            elif word in _PIP_SHARED or not word.startswith("-"):
                options.append(word)
            elif word not in _PIP_IGNORED:
                raise self._error(f"pip install {word} is not supported", hint=ENGINE_HINT)
        if not target.resolve().is_relative_to(self.state.root.resolve()):
            raise self._error(f"pip install --target {target} lies outside of LAMBDA_TASK_ROOT")
        return options, target

    def _execute(self, command: list[str], said: str, environment: Mapping[str, str]) -> None:
        """Run a program, its output as progress. Raises DockerfileError with the end of it."""
        process = start_child(
            command,
            ends_with=signal.SIGKILL,
            cwd=self.state.host_path(self.state.working_directory),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        tail: list[str] = []
        try:
            for line in process.stdout:
                self.say(line.rstrip("\n"))
                tail = [*tail[-19:], line.rstrip("\n")]
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code != 0:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise self._error(f"RUN {said} {how}:\n  " + "\n  ".join(tail))


def _host_variables() -> dict[str, str]:
    """The host's own, as a build in an engine has the engine's: certificates, proxies, locale."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_", "VIRTUAL_ENV"))}


@cache
def pip_settings() -> dict[str, str]:
    """Return pip's mirror, proxy and certificates as the variables by which uv obeys them, as set-up does."""
    done = subprocess.run([str(SETUP), "variables"], capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _foreign(platform: str) -> bool:
    """Whether programs for this platform cannot run on this host."""
    return bool(platform) and platform.split("/")[1:2] != [HOST_ARCHITECTURE]
