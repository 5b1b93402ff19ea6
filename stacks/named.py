"""Functions by their name: what stacks that use the functions, and do not own them, refer to."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

from core.configuration import Configuration
from core.variants import Variant


def function_arn(stack: cdk.Stack, configuration: Configuration, variant: Variant) -> str:
    """ARN of the variant's function in the account and region of `stack`."""
    return stack.format_arn(
        service="lambda",
        resource="function",
        resource_name=configuration.names.function(variant),
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def named_function(stack: cdk.Stack, configuration: Configuration, variant: Variant) -> lambda_.IFunction:
    """The variant's function, which another stack deploys, as a construct below `stack`."""
    return lambda_.Function.from_function_attributes(
        stack,
        f"{variant.model.capitalize()}{variant.engine.capitalize()}{variant.memory_mb}",
        function_arn=function_arn(stack, configuration, variant),
        same_environment=True,
    )
