"""Run `inference-lab experiments ...` again and again, each time killed at a random moment; then once to its end.

Usage: python -m tests.experiments.killing KILLS SEED RECORDS WORDS...
Prints one line of JSON. Each attempt is a fork of this process, so that the imports are paid for once; a kill is
SIGKILL, which no handler sees.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from core.errors import run_command
from experiments.__main__ import main


def attempt(words: list[str]) -> int:
    """Start one attempt; returns its process id."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(null, descriptor)
        run_command("experiments", lambda: main(words))
    return pid


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.jsonl")) if path.exists() else 0


def ended(pid: int) -> int | None:
    """Wait status of a child that has ended, else None."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return status if done else None


def kill_once(words: list[str], records: Path, source: random.Random) -> str:
    """One attempt, killed somewhere in its beginning or in the middle of its calls; what became of it."""
    before = size(records)
    pid = attempt(words)
    began = time.monotonic()
    in_the_beginning = source.random() < 0.3
    moment = began + source.uniform(0, 1.0) if in_the_beginning else float("inf")
    while (status := ended(pid)) is None:
        now = time.monotonic()
        if now >= moment:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "killed early" if size(records) == before else "killed in the middle"
        if moment == float("inf") and size(records) > before:
            moment = now + source.uniform(0, 0.15)
        time.sleep(0.001)
    return f"ended by itself with {os.waitstatus_to_exitcode(status)}"


def run(kills: int, seed: int, records: Path, words: list[str]) -> None:
    source = random.Random(seed)
    fates: list[str] = []
    while sum(fate.startswith("killed") for fate in fates) < kills and fates[-1:] != ["ended by itself with 0"]:
        fates.append(kill_once(words, records, source))
    _, status = os.waitpid(attempt(words), 0)
    print(json.dumps({"fates": fates, "last": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
