"""What a build will do: the stages of a Dockerfile with a key for each step. Reads files, runs nothing."""

from __future__ import annotations

import hashlib
import platform as host_platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from lab.images.dockerfile import (
    ENGINE_HINT,
    DockerfileError,
    Instruction,
    Stage,
    exec_form,
    expand,
    parse,
    split_stages,
    words,
)
from lab.images.dockerignore import matcher
from lab.images.image_store import TASK_ROOT

FORMAT: Final = "2"  # part of every key: raise it when a change of this folder changes what is built
BASE_ENVIRONMENT: Final = {
    "LAMBDA_TASK_ROOT": TASK_ROOT,
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
}
HOST_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(host_platform.machine(), host_platform.machine())


@dataclass(frozen=True)
class BuildRequest:
    """What `docker build` was asked for."""

    context: Path
    dockerfile: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""  # "linux/amd64"; "" for the host's
    use_cache: bool = True


def _read(path: Path) -> tuple[Instruction, ...]:
    try:
        return parse(path.read_text(encoding="utf-8"), origin=path.name)
    except OSError as error:
        raise DockerfileError(f"{path} cannot be read: {error.strerror}", hint="Name it with --file.") from None
    except UnicodeDecodeError:
        raise DockerfileError(f"{path} is not UTF-8 text") from None


class Context:
    """The build context less what .dockerignore leaves out."""

    def __init__(self, directory: Path, dockerfile: Path) -> None:
        self.directory = directory.resolve()
        own = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        path = own if own.exists() else self.directory / ".dockerignore"
        self._ignored = matcher(path.read_text(encoding="utf-8") if path.exists() else "")

    def files(self, source: str, line: int) -> dict[str, Path]:
        """Files that COPY takes from `source`, by their path below it; a single file by "". Raises DockerfileError."""
        relative = PurePosixPath(source.lstrip("/"))
        if ".." in relative.parts:
            raise DockerfileError(f"line {line}: COPY {source} leaves the build context")
        path = self.directory / relative
        if any(character in source for character in "*?["):
            raise DockerfileError(f"line {line}: COPY {source}: patterns are not known", hint=ENGINE_HINT)
        if path.is_dir():
            return {
                str(PurePosixPath(file.relative_to(path))): file
                for file in sorted(path.rglob("*"))
                if file.is_file() and not self._ignored(file.relative_to(self.directory).as_posix())
            }
        if not path.is_file() or self._ignored(relative.as_posix()):
            raise DockerfileError(f"line {line}: COPY {source}: it is not in the build context {self.directory}")
        return {"": path}


class Plan:
    """The stages with the keys of their steps.

    A key says all that the content depends on up to its step: what the command line and the Dockerfile say, the content
    of what is copied, the interpreter.
    """

    def __init__(self, request: BuildRequest) -> None:
        """Read the Dockerfile and .dockerignore. Raises DockerfileError."""
        before, stages = split_stages(_read(request.dockerfile))
        self.request = request
        self.context = Context(request.context, request.dockerfile)
        host = f"linux/{HOST_ARCHITECTURE}"
        self.outer = {"BUILDPLATFORM": host, "TARGETPLATFORM": request.platform or host}
        consumed: set[str] = set()
        for instruction in before:
            name, value = self.argument(instruction, self.outer)
            self.outer[name] = value
            consumed.add(name)
        self.stages: dict[str, StagePlan] = {}
        for number, stage in enumerate(stages):
            made = StagePlan(self, stage)
            self.stages |= {stage.name: made, str(number): made}
            consumed |= made.declared.keys()
        self.final = made
        unknown = sorted(set(request.arguments) - consumed)
        self.warning = f"[Warning] One or more build-args {unknown} were not consumed" if unknown else ""

    def argument(self, instruction: Instruction, declared: Mapping[str, str]) -> tuple[str, str]:
        """Name and value of an ARG: from the command line, else its default, else what an earlier line declared."""
        name, separator, default = words(instruction)[0].partition("=")
        if name in self.request.arguments:
            return name, self.request.arguments[name]
        return name, expand(default, declared) if separator else declared.get(name, self.outer.get(name, ""))

    def stage(self, name: str, line: int) -> StagePlan:
        """The stage that `COPY --from` of this line names. Raises DockerfileError."""
        found = self.stages.get(name.lower())
        if found is None:
            raise DockerfileError(f"line {line}: COPY --from={name}: no earlier stage has this name", hint=ENGINE_HINT)
        return found


class StagePlan:
    """One stage: its instructions, the key after each, and whether its programs run on this machine."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        self.name = stage.name
        self.instructions = stage.instructions
        self.platform = expand(stage.platform, plan.outer) or plan.request.platform
        self.keys: list[str] = []
        self.declared: dict[str, str] = {}
        key = _digest(FORMAT, self.platform, sys.version, host_platform.machine())
        for instruction in stage.instructions:
            parts = [instruction.name, instruction.text]
            if instruction.name == "ARG":
                name, value = plan.argument(instruction, self.declared)
                self.declared[name] = value
                parts.append(value)
            if instruction.name == "COPY":
                parts += self._copied(plan, instruction)
            key = _digest(key, *parts)
            self.keys.append(key)

    def _copied(self, plan: Plan, instruction: Instruction) -> list[str]:
        operands = copy_operands(instruction, self.declared)
        if operands.stage:
            return [plan.stage(operands.stage, instruction.line).keys[-1]]
        parts = []
        for source in operands.sources:
            for relative, path in plan.context.files(source, instruction.line).items():
                mode = "x" if path.stat().st_mode & 0o100 else "-"
                parts += [relative, mode, hashlib.sha256(path.read_bytes()).hexdigest()]
        return parts


def _digest(*parts: str) -> str:
    checksum = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        checksum.update(len(encoded).to_bytes(8, "big") + encoded)
    return checksum.hexdigest()


@dataclass(frozen=True)
class CopyOperands:
    """What a COPY names."""

    sources: tuple[str, ...]
    destination: str
    stage: str = ""  # of --from; "" for the build context


def copy_operands(instruction: Instruction, variables: Mapping[str, str]) -> CopyOperands:
    """Sources and destination of a COPY. Raises DockerfileError."""
    line = instruction.line
    operands = exec_form(instruction) if instruction.text.startswith("[") else words(instruction)
    flags = [word for word in operands if word.startswith("--")]
    unknown = [flag for flag in flags if not re.match(r"--(chmod|chown|from)=|--link$", flag)]
    if unknown:
        raise DockerfileError(f"line {line}: COPY {unknown[0]} is not supported", hint=ENGINE_HINT)
    known = {**BASE_ENVIRONMENT, **variables}
    paths = [expand(word, known) for word in operands if word not in flags]
    if len(paths) < 2:
        raise DockerfileError(f"line {line}: COPY needs a source and a destination")
    stage = next((flag.partition("=")[2] for flag in flags if flag.startswith("--from=")), "")
    return CopyOperands(tuple(paths[:-1]), paths[-1], stage)
