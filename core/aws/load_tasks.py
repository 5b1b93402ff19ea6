"""Names of a load on Fargate in the stack, in the bucket, and in a task. No I/O.

A task ships its record files in parts. The key of a part says which file it belongs to and where in it the part begins,
so that nobody has to keep count of what was fetched.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from core.paths import BENCHMARK_TOML

# Outputs of the stack, in this order: what a client needs to run tasks and to fetch what they recorded.
BUCKET_OUTPUT: Final = "LoadBucket"
OUTPUTS: Final = ("LoadCluster", "LoadTaskDefinition", "LoadSubnet", "LoadSecurityGroup", BUCKET_OUTPUT)
CONTAINER: Final = "locust"
MASTER: Final = "master"  # name of the task that Locust's workers connect to
MASTER_PORT: Final = 5557  # Locust's own
# Locust is one process on one core. Fargate sells no less memory with a vCPU.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
TASK_VCPU: Final = 1
TASK_MEMORY_GB: Final = 2
# One process sends so many requests per second on time: measured at 0.7 ms of CPU per request on a core of the machine
# that docs/how-to/load-from-fargate.md names, with two thirds of the core left for TLS and for pauses.
WORKER_RPS: Final = 400.0
RUNS: Final = "runs"
BENCHMARK: Final = BENCHMARK_TOML.name
_PART: Final = re.compile(r"runs/(?P<run>[^/]+)/(?P<attempt>\d+)/(?P<task>[^/]+)/(?P<file>.+)/(?P<offset>\d{15})\.gz")


def workers_for(peak_rps: float) -> int:
    """Return how many workers send a load of this peak on time."""
    return max(1, math.ceil(peak_rps / WORKER_RPS))


def run_prefix(run_id: str) -> str:
    """Return what the keys of a run begin with."""
    return f"{RUNS}/{run_id}/"


def worker_name(number: int) -> str:
    """Return the name of a worker's task, for example `worker-007`."""
    return f"worker-{number:03d}"


@dataclass(frozen=True)
class Part:
    """A piece of one file of one task, compressed with gzip."""

    run_id: str
    attempt: str  # a number
    task: str
    file: str  # relative to the run's directory, for example `client/load-0.jsonl`
    offset: int  # of its first byte in the file

    @property
    def key(self) -> str:
        """Return the key of the object; keys of one file sort by offset."""
        return f"{run_prefix(self.run_id)}{self.attempt}/{self.task}/{self.file}/{self.offset:015d}.gz"

    @classmethod
    def from_key(cls, key: str) -> Part | None:
        """Return the part that a key names, or None for the key of anything else."""
        found = _PART.fullmatch(key)
        if found is None:
            return None
        return cls(found["run"], found["attempt"], found["task"], found["file"], int(found["offset"]))
