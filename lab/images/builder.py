"""Build an image as a directory: COPY into a folder that represents LAMBDA_TASK_ROOT, RUN by this Python.

What AWS's base image brings (Python and the runtime client) is `lab.images.base` here; the base image itself is not
fetched. `pip install` is carried out by uv into a folder of the image's own, by hard links to uv's cache: an image has
the packages that it asks for and no others, so what it imports and how large it is are those of the image.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Final

from lab.images.base import PACKAGES, make_base
from lab.images.build_plan import BASE_ENVIRONMENT, BuildRequest, Plan, StagePlan, copy_operands
from lab.images.dockerfile import (
    ENGINE_HINT,
    DockerfileError,
    Instruction,
    exec_form,
    expand,
    pairs,
)
from lab.images.image_store import RECORD_FILE, TASK_ROOT, DirectoryImageStore, ImageRecord
from lab.images.run_step import RunStep
from lab.images.stage_state import StageState, check_inside

SNAPSHOT_AFTER_S: Final = 0.5  # a step that took longer is kept, so that it runs once
BASE_ENTRYPOINT: Final = "/lambda-entrypoint.sh"  # of AWS's base images: it starts the runtime client with CMD


def build(
    request: BuildRequest, store: DirectoryImageStore, say: Callable[[str], None] = lambda _: None
) -> ImageRecord:
    """Build the image, or find it built. `say` takes progress, a line each.

    Raises DockerfileError for what is not understood or fails, ImageError where the store cannot be written.
    """
    plan = Plan(request)
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
        (image / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
        if not request.use_cache:
            # Programs that run from the old folder keep running from it, under another name.
            _move_away(store.content(identity))
        store.publish(image, store.content(identity))
    return record


def _move_away(folder: Path) -> None:
    if folder.is_dir():
        folder.rename(folder.with_name(f"{folder.name}.{time.time_ns()}"))


class _Builder:
    """Carries out the stages that the image needs, each once."""

    def __init__(self, plan: Plan, folder: Path, store: DirectoryImageStore, say: Callable[[str], None]) -> None:
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

    def root_of(self, stage: StagePlan) -> Path:
        """The finished root of an earlier stage."""
        if stage.name not in self._made:
            root = self.folder / f"stage-{stage.name}" / "root"
            root.parent.mkdir()
            self.execute(stage, root)
            self._made[stage.name] = root
        return self._made[stage.name]

    def execute(self, stage: StagePlan, root: Path) -> StageState:
        """Carry out a stage in `root`, from the last of its steps that is kept."""
        state = StageState(root=root, key="")
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
            is_kept = number <= resume and instruction.name in {"RUN", "COPY"}
            self.say(f"Step {number + 1}/{total} : {instruction}{' (cached)' if is_kept else ''}")
            state.key = stage.keys[number]
            begun = time.monotonic()
            if not is_kept:
                _apply(instruction, stage, state, self)
            if instruction.name == "RUN" and not is_kept and time.monotonic() - begun > SNAPSHOT_AFTER_S:
                self._keep(stage, number, state)
        return state

    def _keep(self, stage: StagePlan, number: int, state: StageState) -> None:
        snapshot = self.folder / "snapshot"
        snapshot.mkdir()
        _copy_tree(state.root, snapshot / "root", stage, after=number)
        if not self.plan.request.use_cache:
            _move_away(self.store.step(state.key))
        self.store.publish(snapshot, self.store.step(state.key))
        shutil.rmtree(snapshot, ignore_errors=True)


def _copy_tree(source: Path, destination: Path, stage: StagePlan, *, after: int) -> None:
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


def _apply(instruction: Instruction, stage: StagePlan, state: StageState, builder: _Builder) -> None:
    match instruction.name:
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
            check_inside(str(state.working_directory), instruction.line)
            state.host_path(state.working_directory).mkdir(parents=True, exist_ok=True)
        case "COPY":
            _copy(instruction, state, builder)
        case "RUN":
            RunStep(instruction, stage, state, builder.python, builder.say).carry_out()
        case "CMD":
            state.command = tuple(exec_form(instruction))
        case "ENTRYPOINT":
            _check_entrypoint(instruction)
        case "USER":
            pass  # Lambda runs every image as its own unprivileged user, whatever USER says
        case "VOLUME":
            pass  # Lambda mounts none


def _check_entrypoint(instruction: Instruction) -> None:
    if exec_form(instruction) != [BASE_ENTRYPOINT]:
        raise DockerfileError(
            f"line {instruction.line}: an ENTRYPOINT other than {BASE_ENTRYPOINT} is not known", hint=ENGINE_HINT
        )


def _copy(instruction: Instruction, state: StageState, builder: _Builder) -> None:
    operands = copy_operands(instruction, state.variables)
    target_text = str(PurePosixPath(state.working_directory) / operands.destination)
    check_inside(target_text, instruction.line)
    into_folder = operands.destination.endswith("/") or operands.destination in {".", ""} or len(operands.sources) > 1
    target = state.host_path(target_text)
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
    check_inside(str(PurePosixPath("/") / source), line)
    root = builder.root_of(builder.plan.stage(stage, line))
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
