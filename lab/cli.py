"""The command line of the lab: serve, env, urls, doctor, docker, try."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core import strict_json
from core.aws.endpoint import ENDPOINT_VARIABLE
from core.configuration import Configuration, read_configuration
from core.errors import EXIT_OK
from core.paths import REPOSITORY
from core.program.command_line import PROFILE_HELP, Parser
from lab.settings import DEFAULT_REGION, DRIVERS, MECHANISMS, lab_settings

DOCKER_SHIM: Final = REPOSITORY / "lab" / "bin" / "docker"
# What a shell may hold from work with AWS, and must not be sent anywhere or chosen instead.
_FOREIGN_VARIABLES: Final = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")
_LOCAL_NAMES: Final = ("localhost", ".localhost", "127.0.0.1", "::1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Everything after `docker` belongs to docker, options that look like ours too.
    if arguments[:1] == ["docker"]:
        from lab.images import docker_cli  # noqa: PLC0415 - each command loads what it needs

        return docker_cli.main(arguments[1:])
    if arguments[:1] == ["try"]:
        # A separate program: it calls experiments and analysis, which the lab must not import.
        os.execv(sys.executable, [sys.executable, "-m", "trial", *arguments[1:]])  # noqa: S606 - no shell is wanted
    parsed = build_parser().parse_args(arguments)
    if parsed.command in {"serve", "doctor"}:
        from lab.limits import scope  # noqa: PLC0415 - as above

        if getattr(parsed, "limits", None) in {None, "auto", "cgroup-v2"}:
            scope.enter(arguments)
    if parsed.command == "env":
        return _print_environment(parsed)
    if parsed.command == "urls":
        return _print_urls(parsed)
    if parsed.command == "doctor":
        from lab.host.doctor import examine  # noqa: PLC0415 - as above

        return examine(as_json=parsed.json)
    _serve(parsed)
    return EXIT_OK


def client_environment(url: str) -> dict[str, str]:
    """The variables that point boto3 and the CDK command line at a lab."""
    return {
        ENDPOINT_VARIABLE: url,
        # Stand-ins: the lab checks no signature, and nothing real is sent to it.
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_REGION": DEFAULT_REGION,
        "AWS_DEFAULT_REGION": DEFAULT_REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": _no_proxy(),
        "no_proxy": _no_proxy(),
        "CDK_DOCKER": str(DOCKER_SHIM),
        "LAB_PYTHON": sys.executable,
    }


def _no_proxy() -> str:
    known = [name for name in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if name]
    return ",".join(dict.fromkeys([*known, *_LOCAL_NAMES]))


def _print_environment(parsed: argparse.Namespace) -> int:
    settings = lab_settings(read_configuration(), port=parsed.port)
    print(f"unset {' '.join(_FOREIGN_VARIABLES)}")
    for name, value in client_environment(settings.url).items():
        print(f"export {name}={shlex.quote(value)}")
    return EXIT_OK


def _print_urls(parsed: argparse.Namespace) -> int:
    from lab.urls import deployed_urls  # noqa: PLC0415 - each command loads what it needs

    port = lab_settings(read_configuration(), port=parsed.port).port
    found = deployed_urls(port)
    if parsed.json:
        print(strict_json.dumps([{"name": name, "url": url} for name, url in found], indent=2))
        return EXIT_OK
    for name, url in found:
        print(f"{url}  {name}")
    if not found:
        print("lab: no REST API is deployed; run `cdk deploy`", file=sys.stderr)
    return EXIT_OK


def _serve(parsed: argparse.Namespace) -> None:
    configuration = read_configuration(profile=parsed.profile)
    settings = lab_settings(
        configuration,
        port=parsed.port,
        state_directory=parsed.state,
        driver=parsed.driver,
        limits=parsed.limits,
        time_scale=parsed.time_scale,
        idle_minutes=parsed.idle_minutes,
        init_burst_vcpu=parsed.init_burst_vcpu,
        account_concurrency=parsed.account_concurrency,
        log_retention_invocations=parsed.log_retention_invocations,
    )
    from lab.server import serve  # noqa: PLC0415 - moto takes a second to load; a wrong argument should not wait for it

    serve(settings)


def _directory(text: str) -> Path:
    """A path; an empty one, as an unset variable leaves it, would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def build_parser() -> Parser:
    parser = Parser(
        prog="inference-lab lab",
        description="A Lambda on this machine: the CDK app deploys to it, and the same functions run in it.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{serve,env,urls,doctor,docker,try}")

    def command(name: str, purpose: str, more: str = "", **options: Any) -> argparse.ArgumentParser:
        described = f"{purpose[0].upper()}{purpose[1:]}. {more}".rstrip()
        added: argparse.ArgumentParser = commands.add_parser(name, help=purpose, description=described, **options)
        return added

    _add_serve_options(command("serve", "start a lab in the foreground; it prints `ready URL` and stops with Ctrl-C"))
    env = command(
        "env",
        'print the exports that point a shell at a lab: eval "$(inference-lab lab env)"',
        "They set the lab's address, placeholder credentials, the region, NO_PROXY, and CDK_DOCKER, and unset your "
        "AWS profile. To talk to AWS again, open a new shell.",
    )
    urls = command("urls", "print the addresses of the REST APIs that are deployed to a lab")
    for one in (env, urls):
        one.add_argument("--port", type=int, help=f"port of the lab (default: {_defaults().lab.port})")
    doctor = command("doctor", "show which limits this machine can enforce, and how to enable the rest")
    for one in (urls, doctor):
        one.add_argument("--json", action="store_true", help="print JSON instead of lines")
    command("try", "find what any folder with a Dockerfile needs and costs", add_help=False)
    command(
        "docker",
        "build images for the CDK command line (CDK_DOCKER), with docker's arguments",
        "`images`, `rmi`, and `image prune` are for you: docs/reference/containers.md shows them.",
        add_help=False,
    )
    return parser


def _add_serve_options(serve: argparse.ArgumentParser) -> None:
    defaults = _defaults().lab
    add = serve.add_argument
    add("--port", type=int, help=f"loopback port; 0: any free one (default: {defaults.port})")
    add("--profile", help=PROFILE_HELP)
    add(
        "--state",
        type=_directory,
        metavar="DIRECTORY",
        help="where logs and metrics are kept across restarts (default: LAB_STATE, else .lab/PORT)",
    )
    add(
        "--driver", choices=DRIVERS, default="auto", help="how execution environments run (default: auto, as processes)"
    )
    add(
        "--limits",
        choices=MECHANISMS,
        help=f"what enforces CPU share and memory limit on processes (default: {defaults.limits})",
    )
    add(
        "--time-scale",
        type=float,
        metavar="FACTOR",
        help=f"divide schedule intervals, idle time, and retry delays by this (default: {defaults.time_scale:g})",
    )
    add(
        "--idle-minutes",
        type=float,
        metavar="MINUTES",
        help="minutes after which an idle environment is reclaimed, before --time-scale divides them "
        f"(default: {defaults.idle_minutes:g})",
    )
    add(
        "--init-burst-vcpu",
        type=float,
        metavar="VCPU",
        help=f"least CPU during the init phase, at any memory size (default: {defaults.init_burst_vcpu:g} vCPU)",
    )
    add(
        "--account-concurrency",
        type=int,
        metavar="N",
        help="most execution environments at once; 0: as many as this host's memory holds "
        f"(default: {defaults.account_concurrency})",
    )
    add(
        "--log-retention-invocations",
        type=int,
        metavar="N",
        help=f"keep logs and metrics of this many invocations (default: {defaults.log_retention_invocations:,})",
    )


def _defaults() -> Configuration:
    return read_configuration(profile="")
