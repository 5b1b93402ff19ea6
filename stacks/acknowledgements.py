"""Rules of cdk-nag that a part of the deployment does not follow, each with its reason next to what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aws_cdk as cdk
from constructs import IConstruct

NO_TRACING: Final = "Tracing would add to the latency that is measured."


def acknowledge(scope: IConstruct, reasons: Mapping[str, str]) -> None:
    """Acknowledge rules, by `PACK::PACK-RULE`, for a construct and everything in it."""
    cdk.Validations.of(scope).acknowledge(
        *(cdk.Acknowledgment(id=rule, reason=reason) for rule, reason in reasons.items())
    )
