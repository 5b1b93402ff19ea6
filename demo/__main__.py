"""`inference-lab demo`: start a lab, deploy with the CDK CLI, measure, collect, report, check the result."""

from __future__ import annotations

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from core.aws.cloud import lab_status
from core.configuration import PATH_VARIABLE, PROFILE_VARIABLE, configuration_path, read_configuration
from core.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError, run_command
from core.paths import COLLECT, NODE_COMMANDS, REPOSITORY
from core.program.command_line import Parser, add_results_option
from core.program.interruption import raise_on_signals
from core.program.progress import Progress, duration_text
from core.run.run_directory import RunDirectory, new_run_id
from demo.checks import check_run
from demo.deploying import deployed_so_far
from demo.processes import in_the_background, run_step, running_lab
from lab.cli import client_environment
from lab.host.doctor import how_to_get_limits
from lab.images.run_step import NETWORK_HINT, NO_DOWNLOAD
from lab.settings import DEFAULT_STATE, STATE_VARIABLE

PYTHON: Final = sys.executable
STEPS: Final = 4
DEFAULT_PROFILE: Final = "demo"
# What the steps of the default profile take from a fresh clone on 2 CPUs; a later demo finds the images built. Nobody
# measured other profiles.
STEPS_S: Final = {DEFAULT_PROFILE: (3.0, 85.0, 150.0, 20.0)}


def build_parser() -> Parser:
    parser = Parser(
        prog="inference-lab demo",
        description="Run the whole job on this machine: start a lab, deploy, measure, collect, report, check.",
    )
    parser.add_argument(
        "--profile", default=DEFAULT_PROFILE, help=f"profile of benchmark.toml (default: {DEFAULT_PROFILE})"
    )
    add_results_option(parser)
    return parser


def main() -> int:
    arguments = build_parser().parse_args()
    raise_on_signals()

    configuration = read_configuration(profile=arguments.profile)
    run = RunDirectory(arguments.results / new_run_id())
    logs = arguments.results / "logs" / run.run_id
    logs.mkdir(parents=True)
    steps = Steps(STEPS_S.get(arguments.profile, ()))

    steps.begin("starting the lab")
    serve = [PYTHON, "-m", "lab", "serve", "--port", "0"]
    with running_lab(serve, _environment(arguments.profile), logs / "lab.log") as url:
        environment = {**_environment(arguments.profile), **client_environment(url)}
        say_if_sizes_are_not_comparable(url)
        steps.begin(f"deploying {len(configuration.variants)} functions to {url}, building their images")
        # The report's simulation compiles once per machine: 15 s that would follow the measurement.
        with in_the_background([PYTHON, "-m", "simulation"], environment):
            _deploy(environment, logs / "cdk.log", len(configuration.container_images), then_s=steps.then_s)
        steps.begin("measuring cold starts, warm calls and load")
        results = ["--results", str(arguments.results), "--run", run.run_id]
        run_step([PYTHON, "-m", "experiments", "run", "--verbose", *results], environment)
        steps.begin("collecting logs and metrics, writing the report")
        run_step([PYTHON, str(COLLECT), *results], environment)
    problems = check_run(run, configuration)
    for problem in problems:
        print(f"check failed: {problem}", file=sys.stderr)
    print(_next_steps(run.report_path))
    steps.end()
    return EXIT_CHECK_FAILED if problems else EXIT_OK


class Steps:
    """Says on standard error what happens now, and about how long it and what follows still take."""

    def __init__(self, expected_s: Sequence[float] = ()) -> None:
        """`expected_s`: what each step takes; without it, nothing is said about what is left."""
        self._began = time.monotonic()
        self._expected_s = expected_s
        self._number = 0

    @property
    def then_s(self) -> float:
        """What the steps after this one are expected to take; 0 if nobody knows."""
        return sum(self._expected_s[self._number :])

    def begin(self, text: str) -> None:
        left = f", about {duration_text(self.then_s)} left" if self.then_s else ""
        self._number += 1
        print(f"[{self._number}/{STEPS}] {text}  ({self._elapsed()} so far{left})", file=sys.stderr)

    def end(self) -> None:
        print(f"done in {self._elapsed()}", file=sys.stderr)

    def _elapsed(self) -> str:
        return duration_text(time.monotonic() - self._began)


def _deploy(environment: Mapping[str, str], log: Path, image_count: int, *, then_s: float) -> None:
    """Run `cdk bootstrap` and `cdk deploy`, and show how far they are; `then_s` is what the steps after it take."""
    # Not in cdk.out: a person's own CDK command in this folder would be in the way.
    common = ["--ci", "--output", str(Path(environment[STATE_VARIABLE]) / "cdk.out")]
    run_step([_cdk(), "bootstrap", *common], environment, log=log, working_directory=REPOSITORY)
    bootstrap_size = log.stat().st_size
    with Progress(verbose=True) as progress:
        progress.phase("deploying", 1.0, then_s=then_s)

        def watch() -> None:
            printed = log.read_bytes()[bootstrap_size:].decode(errors="replace")
            found = deployed_so_far(printed, image_count)
            progress.at(found.share, found.doing)

        deploy = ["deploy", "--require-approval", "never", "--asset-build-concurrency", "2"]
        try:
            run_step([_cdk(), *deploy, *common], environment, log=log, watch=watch, working_directory=REPOSITORY)
        except UserError:
            # Set-up does not fetch the engines: a person who only deploys to AWS needs none of them here.
            if NO_DOWNLOAD in log.read_text(errors="replace"):
                raise UserError(f"{NO_DOWNLOAD}: {log} says why", hint=NETWORK_HINT) from None
            raise


def say_if_sizes_are_not_comparable(url: str) -> None:
    """Say on standard error, before anything is measured, which limits this lab does not enforce, and what to do."""
    limits = lab_status(url).limits
    if not limits.memory_sizes_are_comparable:
        print(
            f"Nothing enforces {' and '.join(limits.not_enforced)} here, so memory sizes are not compared. "
            f"{how_to_get_limits()}",
            file=sys.stderr,
        )


def _next_steps(report: Path) -> str:
    return f"""
Next:
  1. Open the report: {report.resolve().as_uri()}
  2. Set your own goal and traffic: docs/how-to/tune-the-goal.md
  3. Try your own model: docs/how-to/your-own-model.md
  4. Deploy to AWS: docs/how-to/aws.md has the commands, the permissions, and what it costs"""


def _environment(profile: str) -> dict[str, str]:
    """Return the variables of our children; those that point them at the lab are added once it has an address."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    inherited["PATH"] = f"{Path(PYTHON).parent}{os.pathsep}{inherited.get('PATH', '')}"
    # One state directory for every demo: the second one finds the images of the first.
    inherited.setdefault(STATE_VARIABLE, str(DEFAULT_STATE / "demo"))
    # Some of them work in another folder.
    return {**inherited, PROFILE_VARIABLE: profile, PATH_VARIABLE: str(configuration_path().resolve())}


def _cdk() -> str:
    command = NODE_COMMANDS / "cdk"
    if not command.exists():
        found = shutil.which("cdk")
        raise UserError(
            f"the CDK command line is not at {command}"
            + (f" (there is one at {found}, of a version unknown)" if found else ""),
            hint="Run `make setup`.",
        )
    return str(command)


if __name__ == "__main__":
    run_command("demo", main)
