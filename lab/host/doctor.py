"""`inference-lab lab doctor`: which limits this machine can enforce, and how to enable the rest."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from core.errors import EXIT_CHECK_FAILED, EXIT_OK
from core.paths import NODE_COMMANDS
from core.variants import MEMORY_MB_PER_VCPU
from lab.drivers.process import ProcessDriver
from lab.host.load import read_cpus
from lab.host.resources import available_memory_mb, host_cpus
from lab.images.engine import ENGINE_VARIABLE, EngineError, engine_socket, find_engine

_LOOK_S: Final = 0.5
_BUSY_SHARE: Final = 0.1
Grade = Literal["ok", "limited", "missing"]
_MARKS: Final[dict[Grade, str]] = {"ok": "ok     ", "limited": "limited", "missing": "missing"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and how to improve it ("" if nothing is wrong)."""

    subject: str
    grade: Grade
    found: str
    advice: str = ""


def examine(*, as_json: bool = False) -> int:
    """Print the findings; exit code 2 where something that a deployment needs is missing."""
    findings = [*asyncio.run(_limits()), _cpus(), _load(), _memory(), _cdk(), _engine()]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{_MARKS[finding.grade]}  {finding.subject}: {finding.found}")
            if finding.advice:
                print(f"         {finding.advice}")
    return EXIT_CHECK_FAILED if any(finding.grade == "missing" for finding in findings) else EXIT_OK


async def _limits() -> list[Finding]:
    """Start the driver of environments, which tries its limits out, and ask it."""
    with tempfile.TemporaryDirectory(prefix="lab-doctor-") as directory:
        driver = ProcessDriver(state_directory=Path(directory))
        await driver.start()
        try:
            limits, notes = driver.limits, list(driver.notes)
        finally:
            await driver.close()
    advice = " ".join(notes)
    findings = [
        _limit("CPU share", limits.cpu, "memory / 1769 vCPU, period 20 ms"),
        _limit("memory limit", limits.memory, "a process over its memory is killed"),
        _limit("freezing between calls", limits.freezer, "an idle environment uses no CPU"),
    ]
    if advice:
        grade: Grade = "ok" if all(finding.grade == "ok" for finding in findings) else "limited"
        findings.append(Finding("notes", grade, advice, "" if grade == "ok" else how_to_get_limits()))
    return findings


def _limit(subject: str, mechanism: str, meaning: str) -> Finding:
    if mechanism == "none":
        return Finding(subject, "limited", "not enforced; every record will say so", how_to_get_limits())
    return Finding(subject, "ok", f"{mechanism} ({meaning})")


def how_to_get_limits() -> str:
    """Return what to do on this machine so that a lab can enforce CPU share and memory."""
    if sys.platform != "linux":
        return f"{platform.system()} has no cgroups: run the lab in Linux, for example in a virtual machine."
    return (
        "Run the lab as root; or in a delegated cgroup: "
        "systemd-run --user --scope -p Delegate=yes inference-lab lab serve; or in a container with --privileged."
    )


def _cpus() -> Finding:
    cpus = len(host_cpus())
    found = (
        f"{cpus}: enough for functions that are owed {cpus} vCPU together ({cpus * MEMORY_MB_PER_VCPU} MB of memory)"
    )
    if cpus < 2:
        return Finding("CPUs", "limited", found, "Give the machine two CPUs: a Lambda guest shows two.")
    return Finding("CPUs", "ok", f"{found}; samples beyond that are marked host_contended")


def _load() -> Finding:
    """What runs on this machine now, by half a second of the kernel's accounting."""
    before = read_cpus()
    if before is None:
        return Finding("load", "limited", "the system does not say what runs; close other programs before measuring")
    time.sleep(_LOOK_S)
    after = read_cpus()
    assert after is not None  # the system said so a moment ago
    busy_s = after.busy_s - before.busy_s
    busy_cpus = busy_s / _LOOK_S
    share = busy_s / max(1e-9, busy_s + after.idle_s - before.idle_s)
    found = f"{busy_cpus:.1f} of {len(host_cpus())} CPUs in use by other programs"
    if share > _BUSY_SHARE:
        return Finding(
            "load",
            "limited",
            found,
            "Stop them before you measure, above all if a lab starts now: samples are marked host_contended only while "
            "all CPUs are taken, and a shared cache slows a function earlier.",
        )
    return Finding("load", "ok", found)


def _memory() -> Finding:
    memory_mb = available_memory_mb()
    if memory_mb is None:
        return Finding("memory", "limited", "the system does not say how much is free")
    found = f"{memory_mb / 1024:.1f} GB free"
    if memory_mb < 4096:
        return Finding("memory", "limited", found, "Functions of 3008 MB may not fit; free some, or drop the size.")
    return Finding("memory", "ok", found)


def _cdk() -> Finding:
    command = NODE_COMMANDS / "cdk"
    if command.exists() or shutil.which("cdk"):
        return Finding("CDK command line", "ok", str(command if command.exists() else shutil.which("cdk")))
    return Finding("CDK command line", "missing", "not installed", "Run `make setup`.")


def _engine() -> Finding:
    try:
        program, version = find_engine()
        socket_path = engine_socket(program)
    except EngineError as error:
        # No deployment needs one, so nothing is missing.
        found = f"{error.message}; images are built and run as directories, which needs none"
        return Finding("container engine", "ok", found, error.hint if ENGINE_VARIABLE in os.environ else "")
    return Finding(
        "container engine", "ok", f"{program} {version} at {socket_path} (only --driver container needs one)"
    )
