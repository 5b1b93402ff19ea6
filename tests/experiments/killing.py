"""Run `inference-lab experiments ...` again and again, each time killed at a random moment; then once to its end.

Usage: python -m tests.experiments.killing KILLS SEED RECORDS WORDS...
Prints one line of JSON. Each attempt is a fork of this process, so that the imports are paid for once; a kill is
SIGKILL, which no handler sees.

A relay lets a few calls of each attempt reach the lab and holds the next one. So however quick or slow the machine is,
no attempt comes to the end of a load that has more calls.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
import urllib.parse
from dataclasses import asdict, dataclass
from pathlib import Path

from core.aws.endpoint import ENDPOINT_VARIABLE
from core.errors import run_command
from experiments.__main__ import main
from tests.experiments.relay import Relay

CALL = re.compile(rb"GET /_aws/execute-api/|POST /\S+/invocations ")
MOST_CALLS = 15  # of one attempt


@dataclass(frozen=True)
class Fate:
    """What became of one attempt."""

    end: str
    under_way: int  # calls that reached the lab and have no record
    in_load: bool


class Calls:
    """A `stop_at` of a relay: True for the first call after `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.passed = 0

    def __call__(self, data: bytes) -> bool:
        calls = len(CALL.findall(data))
        if self.passed + calls > self._most:
            return True
        self.passed += calls
        return False


def attempt(words: list[str], **variables: str) -> int:
    """Start one attempt; returns its process id."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(null, descriptor)
        os.environ.update(variables)
        run_command("experiments", lambda: main(words))
    return pid


def recorded(path: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in path.glob("*.jsonl"))


def ended(pid: int) -> int | None:
    """Wait status of a child that has ended, else None."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return status if done else None


def kill_once(words: list[str], records: Path, source: random.Random) -> Fate:
    """One attempt: killed in its beginning, just after a record of it, or while a call of it is held."""
    before = recorded(records)
    how = source.choice(("beginning", "beginning", "record", "record", "record", "call", "call"))
    calls = Calls(source.randint(2, MOST_CALLS) if how == "call" else MOST_CALLS)
    target = urllib.parse.urlsplit(os.environ[ENDPOINT_VARIABLE]).port
    assert target is not None
    relay = Relay(target, calls)
    pid = attempt(words, **{ENDPOINT_VARIABLE: relay.url})
    moment = time.monotonic() + source.uniform(0, 1.0) if how == "beginning" else float("inf")
    with relay:
        while (status := ended(pid)) is None:
            now = time.monotonic()
            if now >= moment or relay.is_stopped:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            if how == "record" and moment == float("inf") and recorded(records) > before:
                moment = now + source.uniform(0, 0.03)
            time.sleep(0.001)
    made = recorded(records) - before
    end = "killed in the middle" if made else "killed early"
    if status is not None:
        end = f"ended by itself with {os.waitstatus_to_exitcode(status)}"
    return Fate(end, calls.passed - made, any(records.glob("load*.jsonl")))


def run(kills: int, seed: int, records: Path, words: list[str]) -> None:
    source = random.Random(seed)
    fates: list[Fate] = []
    while sum(fate.end.startswith("killed") for fate in fates) < kills:
        fates.append(kill_once(words, records, source))
        if fates[-1].end == "ended by itself with 0":
            break
    _, status = os.waitpid(attempt(words), 0)
    print(json.dumps({"fates": [asdict(fate) for fate in fates], "last": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
