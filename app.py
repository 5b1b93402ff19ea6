"""Composition root of what `cdk deploy` deploys; `benchmark.toml` says what that is.

`-c profile=NAME`, or else BENCHMARK_PROFILE, chooses a profile. Synthesis calls no AWS API and needs no Docker.
"""

from __future__ import annotations

import os

import aws_cdk as cdk
import cdk_nag

from core import strict_json
from core.configuration import Configuration, read_configuration
from core.errors import ConfigurationError, run_command
from core.paths import REPOSITORY
from core.variants import DEPLOYMENT_TAG
from stacks.deployment import InferenceLab
from stacks.limits import check_limits, check_region


def application(outdir: str | None = None) -> cdk.App:
    """Return an app with the settings of cdk.json, which the command line finds in its own folder alone.

    Its synthesis fails where a rule of cdk-nag is neither kept nor acknowledged with a reason.
    """
    settings = strict_json.loads((REPOSITORY / "cdk.json").read_text(encoding="utf-8"))
    app = cdk.App(context=settings["context"], analytics_reporting=settings["versionReporting"], outdir=outdir)
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app), cdk_nag.ServerlessChecks(app))
    return app


def build(app: cdk.App, configuration: Configuration) -> InferenceLab:
    """Put the stack into `app`. Raises ConfigurationError where the matrix is too large to deploy."""
    check_limits(configuration)
    tags = {"project": "lambda-inference-lab", DEPLOYMENT_TAG: configuration.function.name_prefix}
    stack = InferenceLab(app, configuration.names.stack, configuration=configuration, tags=tags)
    # Those of each resource: CloudFormation hands a stack's own on to most types, not to all.
    for name, value in tags.items():
        cdk.Tags.of(app).add(name, value)
    return stack


def main() -> None:
    """Synthesize the app, as the CDK command line asks."""
    app = application()
    configuration = read_configuration(profile=app.node.try_get_context("profile"))
    check_region(configuration, os.environ.get("CDK_DEFAULT_REGION", ""))  # set by the CDK command line
    build(app, configuration)
    try:
        app.synth()
    # jsii hands over every exception of the construct library as RuntimeError with its text, and nothing else.
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
        hint = "Keep the rule, or acknowledge it with its reason next to the construct (stacks/acknowledgements.py)."
        raise ConfigurationError(str(error), hint=hint) from None


if __name__ == "__main__":
    run_command("app.py", main)
