"""How large a matrix may be before AWS refuses a part of its stack. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import Final

from core.configuration import Configuration
from core.errors import ConfigurationError

# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MAX_RESOURCES_PER_STACK: Final = 500
MAX_OUTPUTS_PER_STACK: Final = 200  # one output per function, which the endpoints and the schedules refer to
# Endpoints, the largest part: resource, method and permission per variant.
RESOURCES_PER_VARIANT: Final = 3
# With an alias it is the functions: function, log group, version, alias, and its event invoke configuration.
RESOURCES_PER_ALIASED_VARIANT: Final = 5
RESOURCES_TO_SCALE: Final = 2  # a scalable target, and the policy of target tracking
# The API with its deployment, stage and gateway response, and one resource per model.
RESOURCES_BESIDE_VARIANTS: Final = 20
MAX_VARIANTS_PER_ENGINE: Final = min(
    (MAX_RESOURCES_PER_STACK - RESOURCES_BESIDE_VARIANTS) // RESOURCES_PER_VARIANT, MAX_OUTPUTS_PER_STACK
)


def most_aliased(resources: int) -> int:
    """Return how many variants fit that need so many resources each among the functions."""
    return (MAX_RESOURCES_PER_STACK - RESOURCES_BESIDE_VARIANTS) // resources


# The guide's "Supported Regions": all commercial regions but these. It does not say which have it for container images.
# https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
WITHOUT_SNAPSTART: Final = {"ap-southeast-6": "New Zealand", "ap-east-2": "Taipei"}


def check_region(configuration: Configuration, region: str) -> None:
    """Raise ConfigurationError where a start mode is not available in the region; "" where no region is known."""
    if "snapstart" in configuration.matrix.starts and region in WITHOUT_SNAPSTART:
        raise ConfigurationError(
            f"key `matrix.starts` has snapstart, which AWS does not offer in {region} ({WITHOUT_SNAPSTART[region]})",
            hint="Use another region, or leave it out.",
        )


def check_limits(configuration: Configuration) -> None:
    """Raise ConfigurationError where the deployment breaks a limit of AWS, or the user's own on concurrency."""
    _check_concurrency(configuration)
    for (group, start), found in Counter((variant.group, variant.start) for variant in configuration.variants).items():
        most, each = MAX_VARIANTS_PER_ENGINE, RESOURCES_PER_VARIANT
        if start != "on_demand":
            is_scaled = start == "provisioned" and configuration.provisioned.is_scaled
            each = RESOURCES_PER_ALIASED_VARIANT + (RESOURCES_TO_SCALE if is_scaled else 0)
            most = most_aliased(each)
        if found > most:
            raise ConfigurationError(
                f"key `matrix` makes {found} functions of {group}; at most {most} fit, since each "
                f"takes {each} of the {MAX_RESOURCES_PER_STACK} resources of a CloudFormation stack",
                hint="Use fewer memory sizes, or deploy in parts with another `function.name_prefix` for each.",
            )


def _check_concurrency(configuration: Configuration) -> None:
    table, functions = configuration.function, len(configuration.variants)
    if not table.max_concurrency:
        return
    if not table.reserved_concurrency:
        raise ConfigurationError(
            f"key `function.max_concurrency` is {table.max_concurrency}, and `function.reserved_concurrency` is 0, "
            "which lets every function use all the concurrency of the account",
            hint=f"Reserve at most {table.max_concurrency // functions} for each of {functions} functions.",
        )
    if table.reserved_concurrency * functions > table.max_concurrency:
        raise ConfigurationError(
            f"{functions} functions x `function.reserved_concurrency` {table.reserved_concurrency} = "
            f"{table.reserved_concurrency * functions}, above `function.max_concurrency` {table.max_concurrency}",
            hint="Reserve less, deploy fewer functions, or raise the limit.",
        )
