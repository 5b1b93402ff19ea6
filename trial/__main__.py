"""Find what a function of your own needs and costs, in about five minutes and without editing a file.

Builds the folder's Dockerfile, runs the function in a lab of its own at each memory size, and prints the smallest size
that runs, the knee, cold and warm times with intervals, and USD per million calls.
"""

from __future__ import annotations

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core import strict_json
from core.aws.cloud import Cloud, cloud_errors
from core.configuration import MACHINES, read_configuration
from core.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError, run_command
from core.money.prices import read_prices
from core.program.command_line import Parser, bounded, seconds
from core.program.progress import Progress
from core.variants import MAX_MEMORY_MB, MAX_TIMEOUT_S, MIN_MEMORY_MB, Variant
from demo.processes import run_step, running_lab
from experiments.aws.lambda_control import LambdaControl
from lab.cli import client_environment
from trial.estimating import answers, facts, sizes_of, table
from trial.measuring import configured, measure

SIZES_MB: Final = (128, 256, 512, 1024, 1769, 3008)
REPOSITORY_NAME: Final = "try"
ARCHITECTURE: Final = MACHINES.get(platform.machine(), platform.machine())


def main(arguments: Sequence[str] | None = None) -> int:
    """Try a folder and print what was found."""
    chosen = build_parser().parse_args(arguments)
    folder: Path = chosen.folder.resolve()
    if not (folder / "Dockerfile").is_file():
        raise UserError(f"{folder} has no Dockerfile", hint="Name the folder that `docker build` takes.")
    payload = _event(chosen.event)
    configuration = configured(read_configuration(profile=""), _name(folder), timeout_s=chosen.timeout_s)
    variants = [Variant(_name(folder), "own", ARCHITECTURE, size) for size in sorted(set(chosen.memory_mb or SIZES_MB))]
    with tempfile.TemporaryDirectory(prefix="lab-try-") as scratch, Progress(verbose=True) as progress:
        log = Path(scratch) / "lab.log"
        serve = [sys.executable, "-m", "lab", "serve", "--port", "0", "--state", str(Path(scratch) / "state")]
        progress.say(f"building {folder}")
        with running_lab(serve, os.environ, log) as url:
            os.environ.update(client_environment(url))
            cloud = Cloud()
            control = LambdaControl(cloud, configuration)
            image = _push(cloud, folder, chosen.build_arg, Path(scratch) / "build.log")
            _create(cloud, control, variants, image, timeout_s=chosen.timeout_s)
            endpoint = cloud.endpoint_facts()
            progress.phase("trying", chosen.seconds)
            began = time.monotonic()

            def say(text: str) -> None:
                progress.at(min(1 + time.monotonic() - began, 0.95 * chosen.seconds), text)

            calls = list(measure(control, variants, payload, deadline=began + chosen.seconds, say=say))
    limits = f"limits in force: CPU {endpoint.limits.cpu}, memory {endpoint.limits.memory}"
    measured_on = f"Measured in the lab on {endpoint.host}: not a cloud figure; {limits}"
    sizes = sizes_of(calls, read_prices())
    if chosen.json:
        print(strict_json.dumps({"folder": str(folder), "measured_on": measured_on, **facts(sizes)}, indent=2))
    else:
        print(f"{folder}. {measured_on}.\n\n{table(sizes)}\n", *(f"- {line}" for line in answers(sizes)), sep="\n")
    if not endpoint.limits.memory_sizes_are_comparable:
        print(
            f"\nNothing enforces {' and '.join(endpoint.limits.not_enforced)} here: memory sizes differ only in name.",
            file=sys.stderr,
        )
    return EXIT_OK if any(call.outcome == "ok" for call in calls) else EXIT_CHECK_FAILED


def build_parser() -> Parser:
    parser = Parser(prog="inference-lab lab try", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder with a Dockerfile, as `docker build` takes it")
    parser.add_argument("--event", type=Path, metavar="FILE", help="JSON that each call sends (default: {})")
    parser.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="build argument, as for `docker build`; may be repeated",
    )
    parser.add_argument(
        "--memory-mb",
        type=bounded(int, f"from {MIN_MEMORY_MB} to {MAX_MEMORY_MB}", MIN_MEMORY_MB, MAX_MEMORY_MB),
        nargs="+",
        metavar="MB",
        help=f"memory sizes to try (default: {' '.join(map(str, SIZES_MB))})",
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=240.0,
        metavar="S",
        help="stop measuring after this many seconds (default: 240)",
    )
    parser.add_argument(
        "--timeout-s",
        type=bounded(int, f"from 1 to {MAX_TIMEOUT_S}", 1, MAX_TIMEOUT_S),
        default=60,
        metavar="S",
        help="timeout of the function in seconds, 1 to 900 (default: 60)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _event(path: Path | None) -> bytes:
    """Read the event. Raises UserError where it is not JSON."""
    if path is None:
        return b"{}"
    try:
        return strict_json.dumps(strict_json.loads(path.read_text(encoding="utf-8"))).encode()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not an event: {error}", hint="Name a file with one JSON document.") from None


def _name(folder: Path) -> str:
    """A name for the function that Lambda takes, from the folder's."""
    return re.sub(r"[^a-z0-9]", "", folder.name.lower())[:20] or "function"


def _push(cloud: Cloud, folder: Path, build_arguments: Sequence[str], log: Path) -> str:
    """Build the image as the CDK command line does, and return its address."""
    with cloud_errors():
        repository = cloud.client("ecr").create_repository(repositoryName=REPOSITORY_NAME)["repository"]
    image = f"{repository['repositoryUri']}:1"
    given = [word for argument in build_arguments for word in ("--build-arg", argument)]
    for words in (["build", *given, "--tag", image, str(folder)], ["push", image]):
        run_step([sys.executable, "-m", "lab", "docker", *words], os.environ, log=log)
    return image


def _create(cloud: Cloud, control: LambdaControl, variants: Sequence[Variant], image: str, *, timeout_s: int) -> None:
    """Create a function per size."""
    functions: Any = cloud.client("lambda")
    with cloud_errors():
        role = cloud.client("iam").create_role(RoleName=REPOSITORY_NAME, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        for variant in variants:
            functions.create_function(
                FunctionName=control.function_name(variant),
                Role=role,
                PackageType="Image",
                Code={"ImageUri": image},
                MemorySize=variant.memory_mb,
                Timeout=timeout_s,
            )


if __name__ == "__main__":
    run_command("lab try", main)
