"""Build an image as a directory: COPY into a folder that stands for LAMBDA_TASK_ROOT, RUN by this Python.

What AWS's base image brings (Python and the runtime client) is `lab.images.base` here; the base image itself is not
fetched. `pip install` is carried out by uv into a folder of the image's own, by hard links to uv's cache: an image has
the packages that it asks for and no others, so what it imports and how large it is are those of the image.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform as host_platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import uv

from core.processes import ending_with_this_process
from lab.images.base import PACKAGES, make_base
from lab.images.dockerfile import (
    ENGINE_HINT,
    DockerfileError,
    Instruction,
    Stage,
    exec_form,
    expand,
    pairs,
    parse,
    split_stages,
    words,
)
from lab.images.dockerignore import matcher
from lab.images.image_store import TASK_ROOT, DirectoryImageStore, ImageRecord

FORMAT: Final = "2"  # part of every key: raise it when a change of this module changes what is built
BASE_ENTRYPOINT: Final = "/lambda-entrypoint.sh"  # of AWS's base images: it starts the runtime client with CMD
BASE_ENVIRONMENT: Final = {
    "LAMBDA_TASK_ROOT": TASK_ROOT,
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
}
SNAPSHOT_AFTER_S: Final = 0.5  # a step that took longer is kept, so that it runs once
_SHELL: Final = re.compile(r"[|;<>`*?()]|\$\(|&(?!&)|&&&")
# Options of pip that have the same meaning for uv, and those that have none here.
_PIP_SHARED: Final = {"--no-deps", "--require-hashes", "--upgrade", "-U", "--pre", "--no-build-isolation"}
_PIP_IGNORED: Final = {"--no-cache-dir", "--quiet", "-q", "--no-input", "--no-compile", "--disable-pip-version-check"}
_PIP_VALUES: Final = {"-r", "--requirement", "-c", "--constraint", "--target", "-t", "--only-binary", "--no-binary"}


@dataclass(frozen=True)
class BuildRequest:
    """What `docker build` was asked for."""

    context: Path
    dockerfile: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""  # "linux/amd64"; "" for the host's
    use_cache: bool = True


@dataclass
class _State:
    """What instructions have made so far."""

    root: Path  # stands for LAMBDA_TASK_ROOT
    key: str
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: dict(BASE_ENVIRONMENT))
    labels: dict[str, str] = field(default_factory=dict)
    working_directory: PurePosixPath = field(default_factory=lambda: PurePosixPath(TASK_ROOT))
    command: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        return {**self.arguments, **self.environment}


def build(
    request: BuildRequest, store: DirectoryImageStore, say: Callable[[str], None] = lambda _: None
) -> ImageRecord:
    """Build the image, or find it built. `say` takes progress, a line each.

    Raises DockerfileError for what is not understood or fails, ImageError where the store cannot be written.
    """
    plan = _read_plan(request)
    identity = f"sha256:{plan.final.keys[-1]}"
    if request.use_cache and (found := store.read_content(identity)):
        say(f"Using cache: {identity}")
        return found
    with store.building(plan.final.keys[-1]) as folder:
        # Another build may have made it while this one waited.
        if request.use_cache and (found := store.read_content(identity)):
            return found
        image = folder / "image"
        image.mkdir()
        builder = _Builder(plan, folder, store, say)
        state = builder.execute(plan.final, image / "root")
        record = ImageRecord(
            id=identity,
            command=state.command,
            environment={key: value for key, value in state.environment.items() if key not in BASE_ENVIRONMENT},
            working_directory="" if str(state.working_directory) == TASK_ROOT else str(state.working_directory),
            labels=state.labels,
            platform=request.platform,
        )
        (image / "image.json").write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
        if not request.use_cache:
            # What runs from the old folder goes on running from it, under another name.
            _move_away(store.content(identity))
        store.publish(image, store.content(identity))
    return record


def _read_plan(request: BuildRequest) -> _Plan:
    before, stages = split_stages(_read(request.dockerfile))
    context = _Context(request.context, request.dockerfile)
    return _Plan(request, before, stages, context)


def _read(path: Path) -> tuple[Instruction, ...]:
    try:
        return parse(path.read_text(encoding="utf-8"), origin=path.name)
    except OSError as error:
        raise DockerfileError(f"{path} cannot be read: {error.strerror}", hint="Name it with --file.") from None
    except UnicodeDecodeError:
        raise DockerfileError(f"{path} is not UTF-8 text") from None


def _move_away(folder: Path) -> None:
    if folder.is_dir():
        folder.rename(folder.with_name(f"{folder.name}.{time.time_ns()}"))


class _Context:
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


class _Plan:
    """The stages with the keys of their steps.

    A key says all that the content depends on up to its step: what the command line and the Dockerfile say, the content
    of what is copied, the interpreter.
    """

    def __init__(
        self, request: BuildRequest, before: tuple[Instruction, ...], stages: tuple[Stage, ...], context: _Context
    ) -> None:
        self.request = request
        self.context = context
        host = f"linux/{_HOST_ARCHITECTURE}"
        self.outer = {"BUILDPLATFORM": host, "TARGETPLATFORM": request.platform or host}
        consumed: set[str] = set()
        for instruction in before:
            name, value = self.argument(instruction, self.outer)
            self.outer[name] = value
            consumed.add(name)
        self.stages: dict[str, _StagePlan] = {}
        for number, stage in enumerate(stages):
            made = _StagePlan(self, stage)
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


class _StagePlan:
    """One stage: its instructions, the key after each, and whether its programs run on this machine."""

    def __init__(self, plan: _Plan, stage: Stage) -> None:
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

    def _copied(self, plan: _Plan, instruction: Instruction) -> list[str]:
        operands = copy_operands(instruction, self.declared)
        if operands.stage:
            return [_stage_named(plan, operands.stage, instruction.line).keys[-1]]
        parts = []
        for source in operands.sources:
            for relative, path in plan.context.files(source, instruction.line).items():
                mode = "x" if path.stat().st_mode & 0o100 else "-"
                parts += [relative, mode, hashlib.sha256(path.read_bytes()).hexdigest()]
        return parts


def _stage_named(plan: _Plan, name: str, line: int) -> _StagePlan:
    found = plan.stages.get(name.lower())
    if found is None:
        raise DockerfileError(f"line {line}: COPY --from={name}: no earlier stage has this name", hint=ENGINE_HINT)
    return found


def _digest(*parts: str) -> str:
    checksum = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        checksum.update(len(encoded).to_bytes(8, "big") + encoded)
    return checksum.hexdigest()


class _Builder:
    """Carries out the stages that the image needs, each once."""

    def __init__(self, plan: _Plan, folder: Path, store: DirectoryImageStore, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.folder = folder
        self.store = store
        self.say = say
        self._made: dict[str, Path] = {}
        self._python: Path | None = None
        if plan.warning:
            say(plan.warning)

    def python(self) -> Path:
        """The interpreter of RUN: a base of this build's own."""
        if self._python is None:
            self._python = make_base(self.folder / "base")
        return self._python

    def root_of(self, stage: _StagePlan) -> Path:
        """The finished root of an earlier stage."""
        if stage.name not in self._made:
            root = self.folder / f"stage-{stage.name}" / "root"
            root.parent.mkdir()
            self.execute(stage, root)
            self._made[stage.name] = root
        return self._made[stage.name]

    def execute(self, stage: _StagePlan, root: Path) -> _State:
        """Carry out a stage in `root`, from the last of its steps that is kept."""
        state = _State(root=root, key="")
        resume = -1
        if self.plan.request.use_cache:
            steps = range(len(stage.keys) - 1, -1, -1)
            resume = next((number for number in steps if (self.store.step(stage.keys[number]) / "root").is_dir()), -1)
        if resume >= 0:
            _copy_tree(self.store.step(stage.keys[resume]) / "root", root, stage, after=resume)
        else:
            root.mkdir()
        total = len(stage.instructions)
        for number, instruction in enumerate(stage.instructions):
            done = number <= resume
            cached = " (cached)" if done and instruction.name in {"RUN", "COPY"} else ""
            self.say(f"Step {number + 1}/{total} : {instruction}{cached}")
            state.key = stage.keys[number]
            begun = time.monotonic()
            _apply(instruction, stage, state, self, done=done)
            if instruction.name == "RUN" and not done and time.monotonic() - begun > SNAPSHOT_AFTER_S:
                self._keep(stage, number, state)
        return state

    def _keep(self, stage: _StagePlan, number: int, state: _State) -> None:
        snapshot = self.folder / "snapshot"
        snapshot.mkdir()
        _copy_tree(state.root, snapshot / "root", stage, after=number)
        if not self.plan.request.use_cache:
            _move_away(self.store.step(state.key))
        self.store.publish(snapshot, self.store.step(state.key))
        shutil.rmtree(snapshot, ignore_errors=True)


def _copy_tree(source: Path, destination: Path, stage: _StagePlan, *, after: int) -> None:
    """Copy what a step left; by hard links where only COPY is still to come, which replaces files and changes none.

    A model is then on disk once. A later RUN could write into a file, and with it into the kept step. Installed
    packages are always linked: they are links to uv's cache already.
    """
    more = any(instruction.name == "RUN" for instruction in stage.instructions[after + 1 :])

    def copy(source: str, destination: str) -> None:
        if more and f"/{PACKAGES}/" not in source:
            shutil.copy2(source, destination)
        else:
            os.link(source, destination)

    shutil.copytree(source, destination, symlinks=True, copy_function=copy)


def _apply(instruction: Instruction, stage: _StagePlan, state: _State, builder: _Builder, *, done: bool) -> None:
    name, line = instruction.name, instruction.line
    match name:
        case "FROM":
            state.arguments.clear()  # those before FROM hold for it alone
        case "ARG":
            key, value = builder.plan.argument(instruction, state.variables)
            state.arguments[key] = value
        case "ENV":
            state.environment.update(pairs(instruction, state.variables))
        case "LABEL":
            state.labels.update(pairs(instruction, state.variables))
        case "WORKDIR":
            state.working_directory /= expand(instruction.text, state.variables)
            _inside(str(state.working_directory), line)
            _host_path(str(state.working_directory), state).mkdir(parents=True, exist_ok=True)
        case "COPY":
            if not done:
                _copy(instruction, state, builder)
        case "RUN":
            if not done:
                _run(instruction, stage, state, builder)
        case "CMD":
            state.command = tuple(exec_form(instruction))
        case "ENTRYPOINT":
            if exec_form(instruction) != [BASE_ENTRYPOINT]:
                raise DockerfileError(
                    f"line {line}: an ENTRYPOINT other than {BASE_ENTRYPOINT} is not known", hint=ENGINE_HINT
                )
        case "USER":
            pass  # Lambda runs every image as its own unprivileged user, whatever USER says


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


def _copy(instruction: Instruction, state: _State, builder: _Builder) -> None:
    operands = copy_operands(instruction, state.variables)
    target_text = str(PurePosixPath(state.working_directory) / operands.destination)
    _inside(target_text, instruction.line)
    into_folder = operands.destination.endswith("/") or operands.destination in {".", ""} or len(operands.sources) > 1
    target = _host_path(target_text, state)
    if len(operands.sources) > 1 and not (operands.destination.endswith("/") or operands.destination == "."):
        raise DockerfileError(f"line {instruction.line}: COPY of several sources needs a destination that ends in /")
    for source in operands.sources:
        for relative, path in _copy_sources(operands.stage, source, instruction.line, builder).items():
            to = target / relative
            if not relative and (into_folder or target.is_dir()):
                to = target / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.unlink(missing_ok=True)  # it may be a hard link: see _copy_tree
            shutil.copy2(path, to)


def _copy_sources(stage: str, source: str, line: int, builder: _Builder) -> dict[str, Path]:
    """Files that COPY takes from `source`, by their path below it; a single file by "". Raises DockerfileError."""
    if not stage:
        return builder.plan.context.files(source, line)
    _inside(str(PurePosixPath("/") / source), line)
    root = builder.root_of(_stage_named(builder.plan, stage, line))
    path = root / os.path.relpath(os.path.normpath(source), TASK_ROOT)
    if path.is_file():
        return {"": path}
    if not path.is_dir():
        raise DockerfileError(f"line {line}: COPY --from={stage} {source}: the stage did not make it")
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {
        str(PurePosixPath(file.relative_to(path))): file
        for file in files
        if PACKAGES not in file.relative_to(root).parts
    }


def _inside(path: str, line: int) -> None:
    normal = os.path.normpath(path)
    if normal != TASK_ROOT and not normal.startswith(f"{TASK_ROOT}/"):
        raise DockerfileError(
            f"line {line}: {path} lies outside of LAMBDA_TASK_ROOT ({TASK_ROOT}), which is all of an image that the "
            "lab keeps",
            hint=f"Copy below ${{LAMBDA_TASK_ROOT}}. {ENGINE_HINT}",
        )


def _host_path(path: str, state: _State) -> Path:
    return state.root / os.path.relpath(os.path.normpath(path), TASK_ROOT)


def _run(instruction: Instruction, stage: _StagePlan, state: _State, builder: _Builder) -> None:
    line, text = instruction.line, instruction.text
    if text.startswith(("[", "--")):
        raise DockerfileError(f"line {line}: RUN in JSON form or with flags is not known", hint=ENGINE_HINT)
    here = {**state.variables, "LAMBDA_TASK_ROOT": str(state.root)}
    for command in text.split("&&"):
        if _SHELL.search(command):
            raise DockerfileError(
                f"line {line}: RUN {command.strip()[:80]}: of a shell only && and variables are known", hint=ENGINE_HINT
            )
        try:
            arguments = [
                word.replace(TASK_ROOT, str(state.root)) for word in shlex.split(expand(command.strip(), here))
            ]
        except ValueError as error:
            raise DockerfileError(f"line {line}: RUN {command.strip()[:80]}: {error}") from None
        match arguments:
            case ["pip" | "pip3", "install", *rest] | ["python" | "python3", "-m", "pip", "install", *rest]:
                _install(rest, stage, state, line, builder)
            case ["python" | "python3", *rest] if rest:
                _run_python(rest, here, state, line, builder)
            case _:
                raise DockerfileError(
                    f"line {line}: RUN {' '.join(arguments)[:80]}: the lab runs `pip install` and `python` only",
                    hint=ENGINE_HINT,
                )


def _run_python(arguments: list[str], variables: dict[str, str], state: _State, line: int, builder: _Builder) -> None:
    environment = {
        **_host_variables(),
        **{name: value for name, value in variables.items() if name not in BASE_ENVIRONMENT},
        "LAMBDA_TASK_ROOT": str(state.root),
        "PYTHONPATH": str(state.root / PACKAGES),
        # Bytecode of what is copied would be in the image by accident; `python -m compileall` puts it there by intent.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    directory = _host_path(str(state.working_directory), state)
    _carry_out(
        [str(builder.python()), *arguments], f"python {' '.join(arguments)}", directory, environment, line, builder
    )


def _host_variables() -> dict[str, str]:
    """The host's own, as a build in an engine has the engine's: certificates, proxies, locale."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_", "VIRTUAL_ENV"))}


def _carry_out(
    command: list[str], said: str, directory: Path, environment: dict[str, str], line: int, builder: _Builder
) -> None:
    """Run a program of a RUN line, its output as progress. Raises DockerfileError with the end of it."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=ending_with_this_process(signal.SIGKILL),  # noqa: PLW1509 - it only calls prctl
    )
    tail: list[str] = []
    try:
        for output in _lines(process):
            builder.say(output)
            tail = [*tail[-19:], output]
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code != 0:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise DockerfileError(f"line {line}: RUN {said} {how}:\n  " + "\n  ".join(tail))


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for raw in process.stdout:
        yield raw.rstrip("\n")


def _install(arguments: list[str], stage: _StagePlan, state: _State, line: int, builder: _Builder) -> None:
    """Carry out `pip install` by uv, into the image's own folder of packages or below LAMBDA_TASK_ROOT."""
    if _foreign(stage.platform):
        return  # another machine's packages: an image for it is not run here
    directory = _host_path(str(state.working_directory), state)
    command, target = [uv.find_uv_bin(), "pip", "install", "--link-mode=hardlink"], state.root / PACKAGES
    compile_too = "--no-compile" not in arguments
    rest = iter(arguments)
    for word in rest:
        name, separator, value = word.partition("=")
        if name in _PIP_VALUES and (word.startswith("--") or not separator):
            value = value if separator else next(rest, "")
            if name in {"--target", "-t"}:
                target = directory / value
            else:
                command += [name, value]
        elif word in _PIP_SHARED:
            command.append(word)
        elif word.startswith("-") and word not in _PIP_IGNORED:
            raise DockerfileError(f"line {line}: pip install {word} is not supported", hint=ENGINE_HINT)
        elif word not in _PIP_IGNORED:
            command.append(word)
    if not target.resolve().is_relative_to(state.root.resolve()):
        raise DockerfileError(f"line {line}: pip install --target {target} lies outside of LAMBDA_TASK_ROOT")
    command += ["--target", str(target), "--python", str(builder.python())]
    if compile_too:
        command.append("--compile-bytecode")  # pip does by itself, and without it every cold start would compile
    _carry_out(command, f"pip install {' '.join(arguments)}", directory, _host_variables(), line, builder)
    (target / ".lock").unlink(missing_ok=True)  # uv's own


_HOST_ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(
    host_platform.machine(), host_platform.machine()
)


def _foreign(platform: str) -> bool:
    """Whether programs for this platform cannot run on this host."""
    return bool(platform) and platform.split("/")[1:2] != [_HOST_ARCHITECTURE]
