"""The seam to CloudWatch Logs, as far as an experiment looks into them while it runs."""

from __future__ import annotations

import itertools
import time
from typing import Final

from core.aws.cloud import Cloud, cloud_errors
from core.configuration import Configuration
from core.variants import Variant
from experiments.checks.spend import billed_ms_in

# Pages without a hit carry a token too; this many in a row settle that nothing is there.
MAX_EMPTY_PAGES: Final = 20
ASK_EVERY_S: Final = 1.0  # FilterLogEvents takes some requests a second in an account and region


class FunctionLogs:
    """The log groups of one configuration's functions."""

    def __init__(self, cloud: Cloud, configuration: Configuration) -> None:
        self._names = configuration.names
        self._client = cloud.client("logs")

    def billed_since(self, variant: Variant, since: float) -> list[float]:
        """Billed milliseconds of every call that was reported since a moment, in the order of their reports."""
        billed = []
        with cloud_errors():
            pages = self._client.get_paginator("filter_log_events").paginate(
                logGroupName=self._names.log_group(variant), startTime=int(since * 1000)
            )
            try:
                for page in pages:
                    billed += [ms for event in page["events"] if (ms := billed_ms_in(event["message"])) is not None]
            except self._client.exceptions.ResourceNotFoundException:
                return []
        return billed

    def wait_for_report(self, variant: Variant, since: float, *, until: float) -> float | None:
        """Billed milliseconds of the first call reported since a moment; None where none is by another moment."""
        while True:
            if billed_ms := self.billed_since(variant, since):
                return billed_ms[0]
            if time.time() >= until:
                return None
            time.sleep(ASK_EVERY_S)

    def called_since(self, variant: Variant, since: float) -> bool:
        """Whether the function logged anything since a moment."""
        with cloud_errors():
            pages = self._client.get_paginator("filter_log_events").paginate(
                logGroupName=self._names.log_group(variant), startTime=int(since * 1000), limit=1
            )
            try:
                return any(page["events"] for page in itertools.islice(pages, MAX_EMPTY_PAGES))
            except self._client.exceptions.ResourceNotFoundException:
                return False

    def ever_called(self, variant: Variant) -> bool:
        """Whether the log group holds any stream; none is made before the first call."""
        with cloud_errors():
            try:
                page = self._client.describe_log_streams(logGroupName=self._names.log_group(variant), limit=1)
            except self._client.exceptions.ResourceNotFoundException:
                return False
        return bool(page["logStreams"])
