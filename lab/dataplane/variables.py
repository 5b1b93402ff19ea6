"""The environment variables of a function, as "configuration-envvars" lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lab.contracts import FunctionConfiguration, Image

_STAND_IN_KEY: Final = "AKIALOCALLAB00000000"  # credentials that reach the lab and nothing else


def function_variables(
    configuration: FunctionConfiguration, image: Image, log_stream: str, defaults: Mapping[str, str]
) -> dict[str, str]:
    """All but what the driver knows (`AWS_LAMBDA_RUNTIME_API`, task root). Reserved names win over the function's own.

    A function with SnapStart gets no names of its logs: an environment that is restored has others.
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
    `_X_AMZN_TRACE_ID` is set by the runtime client for each event. `AWS_EXECUTION_ENV` is not set for images.
    """
    command = tuple(configuration.command or image.command)
    variables = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_ACCESS_KEY_ID": _STAND_IN_KEY,
        "AWS_SECRET_ACCESS_KEY": "local-lab",
        "AWS_SESSION_TOKEN": "local-lab",
        **defaults,
        **image.environment,
        **configuration.environment,
        "_HANDLER": command[-1] if command else "",
        "AWS_REGION": configuration.region,
        "AWS_DEFAULT_REGION": configuration.region,
        "AWS_LAMBDA_FUNCTION_NAME": configuration.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": configuration.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": configuration.initialization,
        "AWS_LAMBDA_LOG_FORMAT": configuration.log_format,
    }
    if configuration.initialization != "snap-start":
        variables["AWS_LAMBDA_LOG_GROUP_NAME"] = configuration.log_group
        variables["AWS_LAMBDA_LOG_STREAM_NAME"] = log_stream
    if configuration.log_format == "JSON":
        variables["AWS_LAMBDA_LOG_LEVEL"] = configuration.application_log_level
    return variables
