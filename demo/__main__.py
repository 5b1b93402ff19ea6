"""`python -m demo`: start a lab, deploy with the CDK CLI, measure, collect, report, check the result."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Final

from core.command_line import Parser
from core.configuration import PROFILE_VARIABLE, read_configuration
from core.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError, run_command
from core.paths import COLLECT, NODE_COMMANDS
from core.run_directory import RESULTS_DIRECTORY, RunDirectory, new_run_id
from demo.checks import check_run
from demo.processes import free_port, run_step, running_lab
from lab.cli import client_environment
from lab.settings import DEFAULT_STATE, STATE_VARIABLE

PYTHON: Final = sys.executable


def main() -> int:
    parser = Parser(prog="demo", description=__doc__)
    parser.add_argument("--profile", default="demo", help="profile of benchmark.toml (default: demo)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS_DIRECTORY, help="where runs are kept (default: results/)"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _as_interrupt)

    configuration = read_configuration(profile=arguments.profile)
    run = RunDirectory(arguments.results / new_run_id())
    logs = arguments.results / "logs" / run.run_id
    logs.mkdir(parents=True)
    url = f"http://localhost:{free_port()}"
    environment = _environment(url, arguments.profile)
    started = time.monotonic()

    def say(step: int, text: str) -> None:
        print(f"[{step}/5] {text}  ({time.monotonic() - started:.0f} s so far)", file=sys.stderr)

    say(1, f"starting the lab at {url}")
    serve = [PYTHON, "-m", "lab", "serve", "--port", url.rsplit(":", 1)[1]]
    with running_lab(serve, url, environment, logs / "lab.log"):
        say(
            2, f"deploying {len(configuration.variants)} functions with the CDK CLI (the first time exports the models)"
        )
        for command in (["bootstrap"], ["deploy", "--require-approval", "never"]):
            run_step([_cdk(), *command, "--ci"], environment, log=logs / "cdk.log")
        say(3, "measuring: cold, warm, load")
        measure = ["-m", "experiments", "run", "--profile", arguments.profile, "--results", str(arguments.results)]
        run_step([PYTHON, *measure, "--run", run.run_id], environment)
        say(4, "collecting logs and metrics, writing the report")
        collect = [
            str(COLLECT),
            "--results",
            str(arguments.results),
            "--run",
            run.run_id,
        ]
        run_step([PYTHON, *collect], environment)
    say(5, "checking the result")
    problems = check_run(run, configuration)
    for problem in problems:
        print(f"check failed: {problem}", file=sys.stderr)
    print(f"report: {run.report_path.resolve()}")
    return EXIT_CHECK_FAILED if problems else EXIT_OK


def _environment(url: str, profile: str) -> dict[str, str]:
    """The variables that `python -m lab env` prints, for our own children."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    inherited["PATH"] = f"{Path(PYTHON).parent}{os.pathsep}{inherited.get('PATH', '')}"
    # One state directory for every demo: the second one finds the images of the first.
    inherited.setdefault(STATE_VARIABLE, str(DEFAULT_STATE / "demo"))
    return {**inherited, **client_environment(url), PROFILE_VARIABLE: profile}


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


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_command("demo", main)
