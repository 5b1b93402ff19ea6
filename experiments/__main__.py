"""`inference-lab experiments`: measure a deployment, on AWS or in a lab."""

from __future__ import annotations

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, cast

from pydantic import ValidationError

from core.aws.cloud import Cloud, cloud_errors
from core.aws.load_tasks import WORKER_RPS, workers_for
from core.configuration import Configuration, read_configuration
from core.errors import EXIT_CHECK_FAILED, EXIT_OK, ConfigurationError, RecordError, UserError, run_command
from core.program.command_line import PROFILE_HELP, Parser, add_results_option, bounded, number
from core.program.interruption import raise_on_signals
from core.run.records import Experiment
from core.run.stages import SEARCH
from experiments.checks.findings import findings_json, has_problem, print_findings
from experiments.checks.preflight import check_everything
from experiments.runner import Request, find_existing, measure, show_estimate, show_plan

EXPERIMENTS: Final[tuple[Experiment, ...]] = ("cold", "warm", "load")
PURPOSES: Final = {
    "run": "measure cold, warm, and load, one after the other",
    "cold": "measure cold starts with the protocols of [experiments.cold]",
    "warm": "measure sequential calls of the REST endpoint",
    "load": "run an open-model load test of each variant (loadtests/locustfile.py)",
    "swapping": "vary CPU share and memory independently, for the paper's claim C11 (lab only)",
    "estimate": "print what a deployment costs per month at rest, and what each experiment adds",
    "preflight": "check everything that a run needs without measuring",
    "cleanup": "switch off what an interrupted run left on, and list what still costs money",
}

_PLAN_AS_JSON: Final = "with --dry-run: print JSON instead of a table"
JSON_OF: Final = {
    **dict.fromkeys(("run", *EXPERIMENTS), _PLAN_AS_JSON),
    "estimate": "print JSON instead of tables",
    "preflight": "print JSON instead of lines",
    "cleanup": "print JSON instead of lines, at the end",
}


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="inference-lab experiments", description="Measure a deployment, on AWS or in a lab.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, purpose in PURPOSES.items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        command.add_argument("--profile", help=PROFILE_HELP)
        command.add_argument("-v", "--verbose", action="store_true", help="log more on standard error")
        add_results_option(command)
        if name in JSON_OF:
            command.add_argument("--json", action="store_true", help=JSON_OF[name])
        if name == "cleanup":
            command.add_argument(
                "--images",
                action="store_true",
                help="delete the images that the runs of --results have called and no function uses",
            )
            continue
        command.add_argument(
            "--models", nargs="+", metavar="MODEL", help="measure these models only (default: all of [matrix])"
        )
        command.add_argument(
            "--memory-mb",
            nargs="+",
            type=int,
            metavar="MB",
            help="measure these memory sizes only (default: all of [matrix])",
        )
        if name in ("preflight", "estimate"):
            continue
        which = command.add_mutually_exclusive_group()
        which.add_argument(
            "--run",
            metavar="RUN",
            help="name of a new run, or of a run to add to (`latest` works; default: a new name)",
        )
        which.add_argument(
            "--resume",
            metavar="RUN",
            help="resume an interrupted run (`latest` works); unlike --run, it never starts a new one",
        )
        if name != "swapping":  # it runs in a lab alone, where nothing is paid
            command.add_argument(
                "--max-usd",
                type=number,
                metavar="USD",
                help="refuse a plan, or stop a run, that costs more (default: experiments.max_usd)",
            )
        if name in ("run", "load"):
            command.add_argument(
                "--on",
                choices=("this-machine", "fargate"),
                default="this-machine",
                help="load: where it is sent from; Fargate tasks need `operations.load_tasks`",
            )
            command.add_argument(
                "--workers",
                type=bounded(int, "a number of workers; give 1 or more", 1),
                metavar="N",
                help=f"load: Fargate tasks that send it (default: one per {WORKER_RPS:g} requests/s of its peak)",
            )
        if name in ("run", "warm"):
            _add_until_options(command)
        if name in ("run", "load"):
            command.add_argument(
                "--find-rate",
                action="store_true",
                help="load: search the highest rate of Poisson arrivals that keeps [goal], up to end_rps",
            )
        command.add_argument(
            "--dry-run", action="store_true", help="print calls, duration, and cost without calling anything"
        )
    return parser


def _add_until_options(command: argparse.ArgumentParser) -> None:
    until = command.add_mutually_exclusive_group()
    until.add_argument(
        "--until-decided",
        action="store_true",
        help="warm: sample each variant until it is shown to meet [goal], to fail it, or to cost more than one "
        "that meets it",
    )
    until.add_argument(
        "--until-ci",
        type=percent,
        metavar="PERCENT",
        help="warm: sample until the median's interval has this half-width, for example 3%%",
    )


def _workers(chosen: argparse.Namespace, configuration: Configuration) -> int:
    """Return the Fargate tasks that are to send the load; 0 is this machine. Raises ConfigurationError."""
    on, asked = getattr(chosen, "on", "this-machine"), getattr(chosen, "workers", None)
    if on == "fargate":
        if configuration.experiments.load.shape == SEARCH:
            raise ConfigurationError(
                "a search for the highest rate cannot be sent from Fargate: its next rate depends on the last answers",
                hint="Leave --on fargate away, or choose another shape in [experiments.load].",
            )
        return asked or workers_for(configuration.experiments.load.peak_rps)
    if asked is not None:
        raise ConfigurationError(
            f"--workers {asked} has no effect on this machine",
            hint="Add --on fargate. Several processes here: `locust -f loadtests/locustfile.py --processes N`.",
        )
    return 0


def percent(text: str) -> float:
    """`3%` or `3` as 3. Raises ArgumentTypeError."""
    return number(text.strip().removesuffix("%"))


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = build_parser().parse_args(arguments)
    raise_on_signals()
    try:
        # What an AWS client says where nobody expected it to.
        with cloud_errors():
            return _obey(chosen)
    except BrokenPipeError:
        raise  # a reader that went away
    except OSError as error:
        raise UserError(
            str(error), hint="Check that --results is a writable directory with free space. What was measured is kept."
        ) from None


def _obey(chosen: argparse.Namespace) -> int:
    if chosen.command == "cleanup":
        from experiments.checks.cleanup import clean_up  # noqa: PLC0415 - no other command needs it

        return clean_up(
            read_configuration(profile=chosen.profile), chosen.results, remove_images=chosen.images, as_json=chosen.json
        )
    if chosen.command in ("preflight", "estimate"):
        configuration = narrowed(read_configuration(profile=chosen.profile), chosen)
        if chosen.command == "preflight":
            return _preflight(configuration, as_json=chosen.json)
        return show_estimate(configuration, EXPERIMENTS, as_json=chosen.json)
    experiments = {"run": EXPERIMENTS, "swapping": ("warm",)}.get(chosen.command, (chosen.command,))
    configuration = _configuration(chosen)
    as_json = getattr(chosen, "json", False)
    request = Request(
        experiments=cast("tuple[Experiment, ...]", experiments),
        configuration=configuration,
        results=chosen.results,
        run_name=chosen.resume or chosen.run or "",
        verbose=chosen.verbose,
        as_json=as_json,
        workers=_workers(chosen, configuration),
    )
    if chosen.command == "swapping":
        from experiments.protocols.swapping import measure_swapping  # noqa: PLC0415 - no other command needs it

        return measure_swapping(request, dry_run=chosen.dry_run)
    if chosen.dry_run:
        return show_plan(request)
    if as_json:
        raise UserError("--json without --dry-run", hint="A run writes results/RUN/; --json prints a plan.")
    return measure(request)


def _preflight(configuration: Configuration, *, as_json: bool) -> int:
    began = time.monotonic()
    findings = check_everything(Cloud(), configuration, EXPERIMENTS)
    if as_json:
        print(findings_json(findings))
    else:
        print_findings(findings, sys.stdout, all_of_them=True)
    print(f"checked in {time.monotonic() - began:.1f} s", file=sys.stderr)
    return EXIT_CHECK_FAILED if has_problem(findings) else EXIT_OK


def _configuration(chosen: argparse.Namespace) -> Configuration:
    """Return the configuration of a new run, or of the run to resume, whose plan must not change."""
    existing = find_existing(chosen.resume or chosen.run or "", chosen.results)
    if existing is None:
        if chosen.resume:
            raise RecordError(
                f"run {chosen.resume!r} is not in {chosen.results.resolve()}", hint="`ls results/` lists the runs."
            )
        return narrowed(read_configuration(profile=chosen.profile), chosen)
    manifest = existing.read_manifest()
    try:
        began_with = Configuration.model_validate(manifest.configuration)
    except ValidationError as error:
        raise RecordError(
            f"{existing.manifest_path} holds a configuration of another version: {error.errors()[0]['msg']}",
            hint="Resume with the version that started the run, or start a new run.",
        ) from None
    if chosen.profile is not None and chosen.profile != manifest.profile:
        raise ConfigurationError(
            f"run {existing.run_id} has profile {manifest.profile!r}, --profile is {chosen.profile!r}",
            hint="A run keeps the plan it started with. Omit --profile, or start a new run.",
        )
    asked = narrowed(began_with, chosen)
    # What --until-ci or --until-decided asked for stays asked for; the file need not say it.
    asked_then = {key: getattr(began_with.experiments.warm, key) for key in ("until_ci_percent", "until_decided")}
    asked_then_of_load = {"shape": SEARCH} if began_with.experiments.load.shape == SEARCH else {}
    present = _changed(
        read_configuration(profile=manifest.profile),
        {"experiments": {"warm": asked_then, "load": asked_then_of_load}},
    )
    if changed := plan_differences(began_with, asked) or plan_differences(began_with, present):
        raise ConfigurationError(
            f"run {existing.run_id} started with another {changed[0]}",
            hint="A run keeps its plan; only --max-usd may change. Undo the change, or start a new run.",
        )
    return asked


def plan_differences(before: Configuration, after: Configuration) -> list[str]:
    """Keys in which two configurations plan different measurements; `after` may have variants that are not measured."""
    differences = []
    tables: dict[str, set[str]] = {table: set() for table in ("function", "gateway", "experiments", "matrix")}
    if before.experiments.load.shape == SEARCH:
        tables["goal"] = {"limit_ms", "max_bad_share"}  # what the search keeps
    if "provisioned" in before.matrix.starts:
        tables["provisioned"] = set()
    for table, keys in tables.items():
        was, becomes = before.model_dump()[table], after.model_dump()[table]
        for key, value in was.items():
            if keys and key not in keys:
                continue
            same = (
                set(value) <= set(becomes[key])
                if key in ("models", "memory_sizes_mb", "architectures")
                else value == becomes[key]
            )
            if not same and key != "max_usd":
                differences.append(f"{table}.{key}")
    return differences


def narrowed(configuration: Configuration, chosen: argparse.Namespace) -> Configuration:
    """Apply the options that change the plan, from --models to --find-rate. Raises ConfigurationError."""
    changes: dict[str, dict[str, Any]] = {"matrix": {}, "experiments": {}}
    for option, key in (("models", "models"), ("memory_mb", "memory_sizes_mb")):
        asked = getattr(chosen, option, None)
        if not asked:
            continue
        there = getattr(configuration.matrix, key)
        if unknown := [value for value in asked if value not in there]:
            raise ConfigurationError(
                f"--{option.replace('_', '-')} {unknown[0]}: not in the matrix; allowed: {', '.join(map(str, there))}",
                hint="Only what benchmark.toml names is deployed.",
            )
        changes["matrix"][key] = asked
    if getattr(chosen, "max_usd", None) is not None:
        changes["experiments"]["max_usd"] = chosen.max_usd
    if getattr(chosen, "until_ci", None) is not None:
        changes["experiments"]["warm"] = {"until_ci_percent": chosen.until_ci, "until_decided": False}
    if getattr(chosen, "find_rate", False):
        changes["experiments"]["load"] = {"shape": SEARCH}
    if getattr(chosen, "until_decided", False):
        changes["experiments"]["warm"] = {"until_ci_percent": 0.0, "until_decided": True}
    return _changed(configuration, changes)


def _changed(configuration: Configuration, changes: dict[str, dict[str, Any]]) -> Configuration:
    values = configuration.model_dump()
    for table, keys in changes.items():
        for key, value in keys.items():
            if isinstance(value, dict):
                values[table][key].update(value)
            else:
                values[table][key] = value
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise UserError(
            f"{key} is {detail['input']!r}: {detail['msg']}",
            hint="docs/reference/configuration.md lists the allowed values.",
        ) from None


if __name__ == "__main__":
    run_command("experiments", main)
