"""Build an image as a directory: COPY into a folder that stands for LAMBDA_TASK_ROOT, RUN by this interpreter.

What AWS's base image brings (Python and the runtime client) is the lab's own interpreter here, and `pip install` checks
that it has what the image would get: a function then runs with the same packages in both. The base image itself is not
fetched.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform as host_platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from core.processes import ending_with_this_process
from lab.images.dockerfile import ENGINE_HINT, DockerfileError, Instruction, exec_form, expand, pairs, parse, words
from lab.images.dockerignore import matcher
from lab.images.image_store import TASK_ROOT, DirectoryImageStore, ImageRecord

FORMAT: Final = "1"  # part of every key: raise it when a change of this module changes what is built
BASE_ENTRYPOINT: Final = "/lambda-entrypoint.sh"  # of AWS's base images: it starts the runtime client with CMD
BASE_ENVIRONMENT: Final = {
    "LAMBDA_TASK_ROOT": TASK_ROOT,
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
}
SNAPSHOT_AFTER_S: Final = 0.5  # a step that took longer is kept, so that it runs once
_SHELL: Final = re.compile(r"[|;<>`*?()]|\$\(|&(?!&)|&&&")
_PIP_FLAGS: Final = {"--no-cache-dir", "--no-deps", "--no-compile", "--upgrade", "-U", "--quiet", "-q", "--no-input"}


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
    instructions = _read(request.dockerfile)
    context = _Context(request.context, request.dockerfile)
    plan = _Plan(request, instructions, context)
    identity = f"sha256:{plan.keys[-1]}"
    if request.use_cache and (found := store.read_content(identity)):
        say(f"Using cache: {identity}")
        return found
    with store.building(plan.keys[-1]) as folder:
        # Another build may have made it while this one waited.
        if request.use_cache and (found := store.read_content(identity)):
            return found
        image = folder / "image"
        state = _State(root=image / "root", key="")
        image.mkdir()
        _execute(plan, state, folder, store, say)
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
    """Keys of the steps: each says all that the image's content depends on up to there.

    What the command line and the Dockerfile say, the content of what is copied, the interpreter and its packages.
    """

    def __init__(self, request: BuildRequest, instructions: tuple[Instruction, ...], context: _Context) -> None:
        self.request = request
        self.instructions = instructions
        self.context = context
        self.keys: list[str] = []
        declared: dict[str, str] = {}
        key = _digest(FORMAT, request.platform, sys.version, host_platform.machine(), *_installed())
        for instruction in instructions:
            parts = [instruction.name, instruction.text]
            if instruction.name == "ARG":
                name, value = self.argument(instruction, declared)
                declared[name] = value
                parts.append(value)
            if instruction.name == "COPY":
                sources, _ = copy_operands(instruction, declared)
                for source in sources:
                    for relative, path in context.files(source, instruction.line).items():
                        mode = "x" if path.stat().st_mode & 0o100 else "-"
                        parts += [relative, mode, hashlib.sha256(path.read_bytes()).hexdigest()]
            key = _digest(key, *parts)
            self.keys.append(key)
        unknown = sorted(set(request.arguments) - set(declared))
        self.warning = f"[Warning] One or more build-args {unknown} were not consumed" if unknown else ""

    def argument(self, instruction: Instruction, declared: Mapping[str, str]) -> tuple[str, str]:
        """Name and value of an ARG: from the command line, else its default, else what an earlier line declared."""
        name, separator, default = words(instruction)[0].partition("=")
        if name in self.request.arguments:
            return name, self.request.arguments[name]
        return name, expand(default, declared) if separator else declared.get(name, "")


def _digest(*parts: str) -> str:
    checksum = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        checksum.update(len(encoded).to_bytes(8, "big") + encoded)
    return checksum.hexdigest()


def _installed() -> list[str]:
    """Name and version of every installed distribution, as their folders' names say: cheap, and any upgrade shows."""
    return sorted(path.name for path in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))


def _execute(plan: _Plan, state: _State, folder: Path, store: DirectoryImageStore, say: Callable[[str], None]) -> None:
    if plan.warning:
        say(plan.warning)
    resume = -1
    if plan.request.use_cache:
        steps = range(len(plan.keys) - 1, -1, -1)
        resume = next((number for number in steps if (store.step(plan.keys[number]) / "root").is_dir()), -1)
    if resume >= 0:
        _copy_tree(store.step(plan.keys[resume]) / "root", state.root, plan, after=resume)
    else:
        state.root.mkdir()
    total = len(plan.instructions)
    for number, instruction in enumerate(plan.instructions):
        done = number <= resume
        cached = " (cached)" if done and instruction.name in {"RUN", "COPY"} else ""
        say(f"Step {number + 1}/{total} : {instruction}{cached}")
        state.key = plan.keys[number]
        begun = time.monotonic()
        _apply(instruction, plan, state, say, done=done)
        if instruction.name == "RUN" and not done and time.monotonic() - begun > SNAPSHOT_AFTER_S:
            snapshot = folder / "snapshot"
            snapshot.mkdir()
            _copy_tree(state.root, snapshot / "root", plan, after=number)
            if not plan.request.use_cache:
                _move_away(store.step(state.key))
            store.publish(snapshot, store.step(state.key))
            shutil.rmtree(snapshot, ignore_errors=True)


def _copy_tree(source: Path, destination: Path, plan: _Plan, *, after: int) -> None:
    """Copy what a step left; by hard links where only COPY is still to come, which replaces files and changes none.

    A model is then on disk once. A later RUN could write into a file, and with it into the kept step.
    """
    more = any(instruction.name == "RUN" for instruction in plan.instructions[after + 1 :])
    shutil.copytree(source, destination, symlinks=True, copy_function=shutil.copy2 if more else os.link)


def _apply(instruction: Instruction, plan: _Plan, state: _State, say: Callable[[str], None], *, done: bool) -> None:
    name, line = instruction.name, instruction.line
    match name:
        case "FROM":
            state.arguments.clear()  # those before FROM hold for it alone
        case "ARG":
            key, value = plan.argument(instruction, state.variables)
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
                _copy(instruction, plan.context, state)
        case "RUN":
            if not done:
                _run(instruction, plan, state, say)
        case "CMD":
            state.command = tuple(exec_form(instruction))
        case "ENTRYPOINT":
            if exec_form(instruction) != [BASE_ENTRYPOINT]:
                raise DockerfileError(
                    f"line {line}: an ENTRYPOINT other than {BASE_ENTRYPOINT} is not known", hint=ENGINE_HINT
                )
        case "USER":
            pass  # Lambda runs every image as its own unprivileged user, whatever USER says


def copy_operands(instruction: Instruction, variables: Mapping[str, str]) -> tuple[list[str], str]:
    """Sources and destination of a COPY. Raises DockerfileError."""
    line = instruction.line
    operands = exec_form(instruction) if instruction.text.startswith("[") else words(instruction)
    flags = [word for word in operands if word.startswith("--")]
    unknown = [flag for flag in flags if not re.match(r"--(chmod|chown)=|--link$", flag)]
    if unknown:
        raise DockerfileError(f"line {line}: COPY {unknown[0]} is not known", hint=ENGINE_HINT)
    known = {**BASE_ENVIRONMENT, **variables}
    paths = [expand(word, known) for word in operands if word not in flags]
    if len(paths) < 2:
        raise DockerfileError(f"line {line}: COPY needs a source and a destination")
    return paths[:-1], paths[-1]


def _copy(instruction: Instruction, context: _Context, state: _State) -> None:
    sources, destination = copy_operands(instruction, state.variables)
    target_text = str(PurePosixPath(state.working_directory) / destination)
    _inside(target_text, instruction.line)
    into_folder = destination.endswith("/") or destination in {".", ""} or len(sources) > 1
    target = _host_path(target_text, state)
    if len(sources) > 1 and not (destination.endswith("/") or destination == "."):
        raise DockerfileError(f"line {instruction.line}: COPY of several sources needs a destination that ends in /")
    for source in sources:
        for relative, path in context.files(source, instruction.line).items():
            to = target / relative
            if not relative and (into_folder or target.is_dir()):
                to = target / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.unlink(missing_ok=True)  # it may be a hard link: see _copy_tree
            shutil.copy2(path, to)


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


def _run(instruction: Instruction, plan: _Plan, state: _State, say: Callable[[str], None]) -> None:
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
                _check_packages(rest, plan, state, line)
            case ["python" | "python3", *rest] if rest:
                _run_python(rest, here, state, line, say)
            case _:
                raise DockerfileError(
                    f"line {line}: RUN {' '.join(arguments)[:80]}: the lab runs `pip install -r FILE`, which it "
                    "answers by what its own interpreter has, and `python SCRIPT`",
                    hint=ENGINE_HINT,
                )


def _run_python(
    arguments: list[str], variables: dict[str, str], state: _State, line: int, say: Callable[[str], None]
) -> None:
    directory = _host_path(str(state.working_directory), state)
    environment = {
        # The host's own, as a build in an engine has the engine's: certificates, proxies, locale.
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_"))},
        **{name: value for name, value in variables.items() if name not in BASE_ENVIRONMENT},
        "LAMBDA_TASK_ROOT": str(state.root),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.Popen(
        [sys.executable, *arguments],
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
            say(output)
            tail = [*tail[-19:], output]
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code != 0:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise DockerfileError(f"line {line}: RUN python {' '.join(arguments)} {how}:\n  " + "\n  ".join(tail))


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for raw in process.stdout:
        yield raw.rstrip("\n")


def _check_packages(arguments: list[str], plan: _Plan, state: _State, line: int) -> None:
    """Answer `pip install` by what this interpreter has. Raises DockerfileError that names every unmet pin."""
    wanted: list[tuple[str, str]] = []  # requirement and where it stands
    rest = iter(arguments)
    for word in rest:
        if word in {"-r", "--requirement"} or word.startswith("--requirement="):
            name = word.partition("=")[2] or next(rest, "")
            wanted += _read_requirements(_host_path(str(state.working_directory / name), state), name, line)
        elif word in _PIP_FLAGS:
            continue
        elif word.startswith("-"):
            raise DockerfileError(f"line {line}: pip install {word} is not known", hint=ENGINE_HINT)
        else:
            wanted.append((word, f"line {line}"))
    if _foreign(plan.request.platform):
        return  # another machine's packages: this interpreter cannot have them, and an image for it is not run here
    unmet = [problem for text, where in wanted if (problem := _unmet(text, where))]
    if unmet:
        raise DockerfileError(
            f"line {line}: pip install: the lab's interpreter ({sys.executable}) lacks what the image would get:\n  "
            + "\n  ".join(unmet),
            hint="Install the same versions there (the project's requirements.txt pins them) or change these.",
        )


def _read_requirements(path: Path, name: str, line: int) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise DockerfileError(f"line {line}: pip install -r {name}: the file has not been copied") from None
    found = []
    for number, raw in enumerate(text.splitlines(), start=1):
        requirement = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if requirement.startswith("-"):
            raise DockerfileError(f"{name}:{number}: the option {requirement[:40]} is not known", hint=ENGINE_HINT)
        if requirement:
            found.append((requirement, f"{name}:{number}"))
    return found


def _unmet(text: str, where: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        return f"{where}: {text!r} is no requirement: {error}"
    if requirement.marker is not None and not requirement.marker.evaluate():
        return ""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{where}: {requirement.name}{requirement.specifier} is not installed"
    if version not in requirement.specifier:
        return f"{where}: {requirement.name}{requirement.specifier} is wanted, {version} is installed"
    return ""


def _foreign(platform: str) -> bool:
    """Whether an image for this platform cannot run on this host."""
    if not platform:
        return False
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(host_platform.machine(), host_platform.machine())
    return platform.split("/")[1:2] != [machine]
