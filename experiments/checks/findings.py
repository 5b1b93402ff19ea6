"""Findings of a check, with advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, TextIO

from core import strict_json
from core.errors import UserError

Level = Literal["ok", "warning", "problem"]
MARKS: Final[dict[Level, str]] = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


@dataclass(frozen=True)
class Finding:
    """One line of a check; `advice` says what to do, and is there whenever the level is not ok."""

    level: Level
    subject: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{MARKS[self.level]}  {self.subject}: {self.found}"
        return f"{line}\n         {self.advice}" if self.advice else line


def has_problem(findings: Sequence[Finding]) -> bool:
    return any(finding.level == "problem" for finding in findings)


def print_findings(findings: Sequence[Finding], file: TextIO, *, all_of_them: bool) -> None:
    for finding in findings:
        if all_of_them or finding.level != "ok":
            print(finding, file=file, flush=True)


def findings_json(findings: Sequence[Finding]) -> str:
    """Return the findings for a program."""
    return strict_json.dumps([asdict(finding) for finding in findings], indent=2)


def guarded(check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what a check finds; what AWS refuses it is a finding too."""
    try:
        return check()
    except UserError as error:
        return [Finding("problem", "asking AWS", error.message, error.hint or "See the message.")]
