"""The command line of the lab: serve, env, urls, doctor, docker, try."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from core.command_line import Parser
from core.configuration import Configuration, read_configuration
from core.errors import EXIT_OK
from core.paths import REPOSITORY
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
        # A program of its own: it calls experiments and analysis, which the lab must not know.
        os.execv(sys.executable, [sys.executable, "-m", "trial", *arguments[1:]])  # noqa: S606 - no shell is wanted
    parsed = _parser().parse_args(arguments)
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
        "AWS_ENDPOINT_URL": url,
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


def _parser() -> Parser:
    defaults = _defaults()
    parser = Parser(
        prog="python -m lab",
        description="A Lambda on this machine: the CDK app deploys to it, the same functions run in it.",
        epilog="docker: what the CDK command line calls to build images (CDK_DOCKER); takes docker's own arguments.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{serve,env,urls,doctor,docker,try}")

    serve = commands.add_parser("serve", help="start a lab; prints one line `ready URL`, stops with Ctrl-C")
    serve.add_argument("--port", type=int, help=f"loopback port, 0 for any free one (default {defaults.lab.port})")
    serve.add_argument("--profile", help="profile of benchmark.toml (default: BENCHMARK_PROFILE, else none)")
    serve.add_argument(
        "--state",
        type=_directory,
        help="directory for logs and metrics, kept over restarts (default .lab/PORT, or LAB_STATE)",
    )
    serve.add_argument(
        "--driver", choices=DRIVERS, default="auto", help="how environments run (default auto: as processes)"
    )
    serve.add_argument(
        "--limits",
        choices=MECHANISMS,
        help=f"what enforces CPU share and memory on processes (default {defaults.lab.limits})",
    )
    serve.add_argument(
        "--time-scale", type=float, help="shortens schedule intervals, idle time and retry delays alike (default 1)"
    )
    serve.add_argument("--idle-minutes", type=float, help="an idle environment is reclaimed after this, before scaling")
    serve.add_argument(
        "--init-burst-vcpu", type=float, help="least CPU during the init phase, whatever the memory size"
    )
    serve.add_argument(
        "--account-concurrency", type=int, help="concurrent environments; 0: as many as this host's memory holds"
    )
    serve.add_argument(
        "--log-retention-invocations", type=int, help="logs and metrics of older invocations are forgotten"
    )

    env = commands.add_parser("env", help='print the exports that point a shell at a lab: eval "$(python -m lab env)"')
    env.add_argument("--port", type=int, help=f"the lab's port (default {defaults.lab.port})")

    urls = commands.add_parser("urls", help="print the addresses of the REST APIs that are deployed to a lab")
    urls.add_argument("--port", type=int, help=f"the lab's port (default {defaults.lab.port})")

    doctor = commands.add_parser("doctor", help="what this machine can enforce, and how to get more")
    doctor.add_argument("--json", action="store_true", help="as JSON")

    commands.add_parser(
        "try", help="what any folder with a Dockerfile needs and costs (see try --help)", add_help=False
    )
    commands.add_parser("docker", help="stand-in for docker, for the CDK command line", add_help=False)
    return parser


def _defaults() -> Configuration:
    return read_configuration(profile="")
