"""One Fargate task of a load: fetch the run, run Locust, bring its records to the bucket, and end.

`python -m loadtests.task --bucket B --run ID --attempt 1 --name worker-003 --limit-s 900 -- --worker ...`: what follows
`--` is Locust's. Records are shipped every few seconds while Locust runs, so that a task that is killed loses no more
than these.
"""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core.aws.cloud import Cloud, cloud_errors
from core.aws.load_tasks import BENCHMARK, Part, run_prefix
from core.configuration import PATH_VARIABLE
from core.errors import EXIT_ERROR, CloudError, run_command
from core.paths import LOCUSTFILE, RESULTS_DIRECTORY
from core.program.command_line import Parser
from core.program.processes import end_child, start_child
from core.run.run_directory import MANIFEST_FILE, RunDirectory
from core.run.stages import STAGES_FILE

SHIP_EVERY_S: Final = 5.0
# Locust gives up what is under way and sends its workers away in this time.
STOP_PATIENCE_S: Final = 30.0
LARGEST_PART_BYTES: Final = 64 * 1024 * 1024
FASTEST: Final = 1  # of gzip's levels: a core is what Locust needs


class Shipper:
    """Sends the whole lines of a run's growing files to the bucket, each once."""

    def __init__(self, cloud: Cloud, bucket: str, run: RunDirectory, *, attempt: str, task: str) -> None:
        self._client = cloud.client("s3")
        self._bucket = bucket
        self._run = run
        self._attempt = attempt
        self._task = task
        self._offsets: dict[Path, int] = {}

    def ship(self) -> None:
        """Send what has been written since the last time. Raises CloudError; what was not sent stays due."""
        for path in (*self._run.client_paths(), self._run.root / STAGES_FILE):
            while path.exists() and self._ship_part(path):
                pass

    def _ship_part(self, path: Path) -> bool:
        """Send the next part of a file, and return whether there was one."""
        offset = self._offsets.get(path, 0)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(LARGEST_PART_BYTES)
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            return False
        name = path.relative_to(self._run.root).as_posix()
        part = Part(self._run.run_id, self._attempt, self._task, name, offset)
        with cloud_errors():
            self._client.put_object(Bucket=self._bucket, Key=part.key, Body=gzip.compress(data, FASTEST))
        self._offsets[path] = offset + len(data)
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task, and return Locust's exit code, or 1 where the time limit ended it."""
    own, locust = _parse(arguments)
    cloud = Cloud()
    run = _fetch_run(cloud, own.bucket, own.run)
    shipper = Shipper(cloud, own.bucket, run, attempt=own.attempt, task=own.name)
    # Locust puts the run below its working directory, as on any machine.
    process = start_child(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", *locust],
        env={**os.environ, PATH_VARIABLE: str(Path(BENCHMARK).resolve())},
        stdin=subprocess.DEVNULL,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.terminate())
    ended = _wait(process, shipper, limit_s=own.limit_s)
    shipper.ship()
    return ended


def _parse(arguments: Sequence[str] | None) -> tuple[Namespace, list[str]]:
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    parser = Parser(prog="python -m loadtests.task", description=__doc__)
    parser.add_argument("--bucket", required=True, help="bucket that has the run and takes the records")
    parser.add_argument("--run", required=True, help="id of the run")
    parser.add_argument("--attempt", required=True, help="number of the attempt, part of the keys")
    parser.add_argument("--name", required=True, help="name of this task, part of the keys")
    parser.add_argument("--limit-s", required=True, type=float, help="time after which the task ends, done or not")
    return parser.parse_args(words[:cut]), words[cut + 1 :]


def _fetch_run(cloud: Cloud, bucket: str, run_id: str) -> RunDirectory:
    """Fetch the manifest and benchmark.toml; with the run's directory in place, Locust keeps the records in it."""
    client = cloud.client("s3")
    run = RunDirectory(RESULTS_DIRECTORY / run_id)
    run.client_directory.mkdir(parents=True, exist_ok=True)
    for name, path in ((MANIFEST_FILE, run.manifest_path), (BENCHMARK, Path(BENCHMARK))):
        with cloud_errors():
            answer = client.get_object(Bucket=bucket, Key=f"{run_prefix(run_id)}{name}")
            path.write_bytes(answer["Body"].read())
    return run


def _wait(process: subprocess.Popen[Any], shipper: Shipper, *, limit_s: float) -> int:
    """Ship records until Locust has ended, or end it at the limit."""
    deadline = time.monotonic() + limit_s
    late = False
    while True:
        try:
            code = process.wait(SHIP_EVERY_S)
        except subprocess.TimeoutExpired:
            code = None
        if code is not None:
            return EXIT_ERROR if late else code
        try:
            shipper.ship()
        except CloudError as error:
            print(f"loadtests.task: {error.message}; trying again", file=sys.stderr, flush=True)
        if time.monotonic() > deadline:
            late = True
            print(f"loadtests.task: the limit of {limit_s:g} s is reached", file=sys.stderr, flush=True)
            end_child(process, within_s=STOP_PATIENCE_S)


if __name__ == "__main__":
    run_command("loadtests.task", main)
