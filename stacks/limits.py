"""How large a matrix may be before CloudFormation refuses its stacks. No I/O."""

from __future__ import annotations

from typing import Final

from core.configuration import Configuration
from core.errors import ConfigurationError

# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MAX_RESOURCES_A_STACK: Final = 500
# Functions: log group, function, invoke configuration. Endpoints: resource, method, permission.
RESOURCES_A_VARIANT: Final = 3
# Role and policy, or the API with its deployment, stage, gateway responses and one resource a model.
RESOURCES_BESIDE_VARIANTS: Final = 20
MAX_VARIANTS: Final = (MAX_RESOURCES_A_STACK - RESOURCES_BESIDE_VARIANTS) // RESOURCES_A_VARIANT


def check_fits_one_stack(configuration: Configuration) -> None:
    """Raise ConfigurationError where the matrix has more variants than one stack can hold."""
    found = len(configuration.variants)
    if found > MAX_VARIANTS:
        raise ConfigurationError(
            f"key `matrix` makes {found} functions; at most {MAX_VARIANTS} fit into one CloudFormation stack",
            hint="Take fewer memory sizes, or deploy in parts with another `function.name_prefix` for each.",
        )
