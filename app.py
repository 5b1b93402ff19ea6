"""Composition root of what `cdk deploy` deploys; `benchmark.toml` says what that is.

`-c profile=NAME`, or else BENCHMARK_PROFILE, chooses a profile. Synthesis calls no AWS API and needs no Docker.
"""

from __future__ import annotations

import aws_cdk as cdk

from core.configuration import Configuration, read_configuration
from core.errors import run_command
from stacks.endpoints import EndpointsStack
from stacks.functions import FunctionsStack
from stacks.limits import check_fits_one_stack
from stacks.monitoring import MonitoringStack
from stacks.schedules import SchedulesStack


def build(app: cdk.App, configuration: Configuration) -> None:
    """Put the four stacks into `app`. Raises ConfigurationError where the matrix is too large to deploy."""
    check_fits_one_stack(configuration)
    names = configuration.names
    functions = FunctionsStack(app, names.stack("Functions"), configuration=configuration)
    endpoints = EndpointsStack(app, names.stack("Endpoints"), configuration=configuration)
    schedules = SchedulesStack(app, names.stack("Schedules"), configuration=configuration)
    MonitoringStack(app, names.stack("Monitoring"), configuration=configuration)
    # The others name the functions instead of importing exports (docs/adr/0020); the order has to be said.
    endpoints.add_stack_dependency(functions)
    schedules.add_stack_dependency(functions)
    cdk.Tags.of(app).add("project", "lambda-inference-lab")
    cdk.Tags.of(app).add("deployment", configuration.function.name_prefix)


def main() -> None:
    """Synthesise the app, as the CDK command line asks."""
    app = cdk.App()
    build(app, read_configuration(profile=app.node.try_get_context("profile")))
    app.synth()


if __name__ == "__main__":
    run_command("app.py", main)
