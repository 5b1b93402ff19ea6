"""Read a Dockerfile: the subset that a Lambda image for Python needs. Pure; what is not in the subset is refused."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from core import strict_json
from core.errors import UserError

KNOWN: Final = ("FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "CMD", "ENTRYPOINT", "LABEL", "USER", "VOLUME")
ENGINE_HINT: Final = (
    "The lab reads a subset of Dockerfiles. Where Docker or Podman runs, `inference-lab lab serve --driver container` "
    "builds and runs any image."
)

_VARIABLE: Final = re.compile(r"\\(.)|\$(\w+)|\$\{(\w+)(?:(:[-+])([^}]*))?\}|(\$)")
_FROM: Final = re.compile(r"(?:--platform=(\S+)\s+)?(\S+)(?:\s+AS\s+([A-Za-z][\w.-]*))?", re.IGNORECASE)
_DIRECTIVE: Final = re.compile(r"^#\s*(\w+)\s*=\s*(.*)$")


class DockerfileError(UserError):
    """The Dockerfile is wrong, or asks for something that the lab does not know."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, the rest of it with continuation lines joined, the line it began on."""

    name: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.name} {self.text}"


@dataclass(frozen=True)
class Stage:
    """One stage: what FROM says of it, and its instructions from FROM on."""

    name: str  # of `AS`, else its number
    platform: str  # the text of `--platform`; "" where it has none
    instructions: tuple[Instruction, ...]


def parse(text: str, *, origin: str = "Dockerfile") -> tuple[Instruction, ...]:
    """The instructions in order. Raises DockerfileError that names the line."""
    instructions: list[Instruction] = []
    pending = ""
    began = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        stripped = raw.strip()
        if stripped.startswith("#"):
            directive = _DIRECTIVE.match(stripped)
            if directive and directive[1].lower() == "escape" and not instructions and not pending:
                raise DockerfileError(f"{origin}:{number}: the directive `escape` is not known", hint=ENGINE_HINT)
            continue
        if not stripped:
            continue
        began = began or number
        if stripped.endswith("\\"):
            pending += stripped[:-1].rstrip() + " "
            continue
        instructions.append(_instruction(pending + stripped, origin, began))
        pending, began = "", 0
    if pending:
        raise DockerfileError(f"{origin}:{began}: the last line ends in a backslash; what it goes on to is missing")
    _check_order(instructions, origin)
    return tuple(instructions)


def _instruction(joined: str, origin: str, line: int) -> Instruction:
    name, _, rest = joined.partition(" ")
    name, rest = name.upper(), rest.strip()
    if name not in KNOWN:
        raise DockerfileError(
            f"{origin}:{line}: instruction {name[:40]!r} is not known; allowed: {', '.join(KNOWN)}", hint=ENGINE_HINT
        )
    if not rest:
        raise DockerfileError(f"{origin}:{line}: {name} has no argument")
    if name in {"RUN", "COPY"} and re.search(r"<<-?[\"']?\w", rest):
        raise DockerfileError(f"{origin}:{line}: here-documents are not known", hint=ENGINE_HINT)
    return Instruction(name, rest, line)


def _check_order(instructions: list[Instruction], origin: str) -> None:
    first = next((number for number, instruction in enumerate(instructions) if instruction.name == "FROM"), None)
    if first is None:
        raise DockerfileError(f"{origin} has no FROM", hint="Name the base image first, as in `FROM ${BASE_IMAGE}`.")
    for instruction in instructions[:first]:
        if instruction.name != "ARG":
            raise DockerfileError(f"{origin}:{instruction.line}: {instruction.name} stands before FROM")


def split_stages(instructions: tuple[Instruction, ...]) -> tuple[tuple[Instruction, ...], tuple[Stage, ...]]:
    """The ARGs before the first FROM, and the stages. Raises DockerfileError that names the line."""
    starts = [number for number, instruction in enumerate(instructions) if instruction.name == "FROM"]
    stages: list[Stage] = []
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        instruction = instructions[start]
        match = _FROM.fullmatch(instruction.text)
        if match is None:
            raise DockerfileError(f"line {instruction.line}: FROM {instruction.text[:60]} is not understood")
        platform, image, name = match.groups()
        if image in {stage.name for stage in stages}:
            raise DockerfileError(
                f"line {instruction.line}: a stage that starts from another one ({image}) is not supported",
                hint=ENGINE_HINT,
            )
        stages.append(Stage((name or str(len(stages))).lower(), platform or "", instructions[start:end]))
    return instructions[: starts[0]], tuple(stages)


def expand(text: str, variables: Mapping[str, str]) -> str:
    r"""Replace $NAME, ${NAME}, ${NAME:-default} and ${NAME:+value}; an unknown name is empty, `\$` a dollar sign.

    As https://docs.docker.com/reference/dockerfile/#environment-replacement has it; a default is not expanded again.
    """

    def replace(match: re.Match[str]) -> str:
        escaped, plain, braced, operator, word, lone = match.groups()
        if escaped is not None:
            return "$" if escaped == "$" else f"\\{escaped}"
        if lone is not None:
            return "$"
        value = variables.get(plain or braced, "")
        if operator == ":-":
            return value or str(word)
        if operator == ":+":
            return str(word) if value else ""
        return value

    return _VARIABLE.sub(replace, text)


def pairs(instruction: Instruction, variables: Mapping[str, str]) -> dict[str, str]:
    """Keys and values of ENV or LABEL: `A=1 B="two words"`, or the old `A one value`. Raises DockerfileError."""
    text = instruction.text
    first = text.split(maxsplit=1)[0]
    if "=" not in first:
        key, _, value = text.partition(" ")
        if not value:
            raise DockerfileError(f"line {instruction.line}: {instruction.name} {key} has no value")
        return {key: expand(value.strip(), variables)}
    found: dict[str, str] = {}
    for word in words(instruction):
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise DockerfileError(f"line {instruction.line}: {instruction.name}: {word!r} is no KEY=VALUE")
        # Names of earlier lines hold within one instruction: ENV A=1 B=$A takes the A of before.
        found[key] = expand(value, variables)
    return found


def words(instruction: Instruction) -> list[str]:
    """The instruction's words, quotes resolved. Raises DockerfileError for a quote that is not closed."""
    try:
        return shlex.split(instruction.text)
    except ValueError as error:
        raise DockerfileError(f"line {instruction.line}: {instruction.name}: {error}") from None


def exec_form(instruction: Instruction) -> list[str]:
    """The list of CMD, ENTRYPOINT or COPY in JSON form. Raises DockerfileError for the shell form."""
    try:
        value = strict_json.loads(instruction.text)
    except ValueError:
        value = None
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise DockerfileError(
            f"line {instruction.line}: {instruction.name} {instruction.text[:60]} is not a JSON list of strings",
            hint=f'Write it as {instruction.name} ["handler.handler"]; a shell would not run in a Lambda image.',
        )
    return value
