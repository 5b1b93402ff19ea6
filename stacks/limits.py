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
# The API with its deployment, stage and gateway response, and one resource per model.
RESOURCES_BESIDE_VARIANTS: Final = 20
MAX_VARIANTS_PER_ENGINE: Final = min(
    (MAX_RESOURCES_PER_STACK - RESOURCES_BESIDE_VARIANTS) // RESOURCES_PER_VARIANT, MAX_OUTPUTS_PER_STACK
)
MAX_ALIASED_VARIANTS: Final = (MAX_RESOURCES_PER_STACK - RESOURCES_BESIDE_VARIANTS) // RESOURCES_PER_ALIASED_VARIANT


def check_limits(configuration: Configuration) -> None:
    """Raise ConfigurationError where the deployment breaks a limit of AWS, or the user's own on concurrency."""
    _check_concurrency(configuration)
    for (group, alias), found in Counter((variant.group, variant.alias) for variant in configuration.variants).items():
        most, each = (
            (MAX_VARIANTS_PER_ENGINE, RESOURCES_PER_VARIANT)
            if alias is None
            else (MAX_ALIASED_VARIANTS, RESOURCES_PER_ALIASED_VARIANT)
        )
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
