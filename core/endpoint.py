"""The one variable that says where everything runs: AWS_ENDPOINT_URL, a lab's address, or AWS where it is unset."""

from __future__ import annotations

import os
from typing import Final

ENDPOINT_VARIABLE: Final = "AWS_ENDPOINT_URL"


def endpoint_url() -> str | None:
    """Return the lab's address, or None for AWS."""
    return os.environ.get(ENDPOINT_VARIABLE) or None
