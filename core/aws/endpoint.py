"""Where everything runs: AWS, or the lab that AWS_ENDPOINT_URL names, with what only a lab has."""

from __future__ import annotations

import os
from typing import Final

ENDPOINT_VARIABLE: Final = "AWS_ENDPOINT_URL"
# What a lab adds to AWS's interfaces.
LAB_STATUS_PATH: Final = "/_lab/status"
REST_API_PATH: Final = "/_aws/execute-api/"  # then the API's id and its stage
VCPU_VARIABLE: Final = "LAB_VCPU"  # of a function: its CPU share, apart from its memory size; AWS ignores it


def endpoint_url() -> str | None:
    """Return the lab's address, or None for AWS."""
    return os.environ.get(ENDPOINT_VARIABLE) or None
