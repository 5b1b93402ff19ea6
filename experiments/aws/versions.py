"""The seam to Lambda's versions, aliases, and provisioned concurrency, of functions that callers reach by an alias."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import WaiterError

from core.aws.cloud import Cloud, cloud_errors
from core.errors import CloudError
from core.variants import ALIAS

MARK: Final = "BENCHMARK_NONCE "  # begins the description of a version that a run published
# Taking a snapshot lasts minutes, as init may take 130 s of it.
# https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html
SNAPSHOT_WAIT: Final = {"Delay": 1, "MaxAttempts": 900}


# Provisioned environments are initialized in minutes, each of which may take as long.
# https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
PROVISIONED_WITHIN_S: Final = 900.0
ASK_EVERY_S: Final = 0.5


class Versions:
    """Published versions of functions that have the alias `core.variants.ALIAS`."""

    def __init__(self, cloud: Cloud) -> None:
        self._client = cloud.client("lambda")

    def publish(self, name: str, nonce: str, before_alias: Callable[[str], None] = lambda _version: None) -> None:
        """Publish what is configured now, let the alias name it, and delete the version that a run published before.

        `before_alias` is told of the version while no caller reaches it. Raises CloudError where the version cannot
        be called, for example because its snapshot is missing.
        """
        with cloud_errors():
            before = self._ours(name)
            published = self._client.publish_version(FunctionName=name, Description=f"{MARK}{nonce}")
            version = published["Version"]
            self._wait(name, version)
            before_alias(version)
            self._client.update_alias(FunctionName=name, Name=ALIAS, FunctionVersion=version)
            self._delete(name, [one for one in before if one != version])

    def remove(self, name: str) -> bool:
        """Let the alias name the deployed version again, delete those of runs; says whether there were any."""
        with cloud_errors():
            ours = self._ours(name)
            if not ours:
                return False
            deployed = [version for version, description in self._all(name).items() if not description.startswith(MARK)]
            if not deployed:
                raise CloudError(f"function {name} has no version of the deployment", hint="Run `cdk deploy` again.")
            self._client.update_alias(FunctionName=name, Name=ALIAS, FunctionVersion=deployed[-1])
            self._delete(name, ours)
        return True

    def provisioned_status(self, name: str) -> tuple[str, str]:
        """Return the status of the alias's provisioned concurrency, and why it failed: READY, IN_PROGRESS, or FAILED.

        The status is "" where the alias has none.
        """
        with cloud_errors():
            try:
                found = self._client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=ALIAS)
            except self._client.exceptions.ProvisionedConcurrencyConfigNotFoundException:
                return "", ""
        return found["Status"], found.get("StatusReason", "")

    def await_provisioned(self, name: str) -> None:
        """Wait until the alias has its provisioned environments. Raises CloudError where it gets none."""
        deadline = time.monotonic() + PROVISIONED_WITHIN_S
        while True:
            status, reason = self.provisioned_status(name)
            if status == "READY":
                return
            if status != "IN_PROGRESS" or time.monotonic() > deadline:
                found = f"{status}: {reason}" if reason else status or "not configured"
                raise CloudError(
                    f"provisioned concurrency of {name} is {found}",
                    hint="Its log group has the output of its init. Without it, leave it out of matrix.starts.",
                )
            time.sleep(ASK_EVERY_S)

    def _wait(self, name: str, version: str) -> None:
        try:
            self._client.get_waiter("published_version_active").wait(
                FunctionName=name, Qualifier=version, WaiterConfig=SNAPSHOT_WAIT
            )
        except WaiterError as error:
            last: Any = error.last_response or {}
            reason = last.get("StateReason") or error
            self._delete(name, [version])
            raise CloudError(
                f"version {version} of {name} did not become active: {reason}",
                hint="Its log group has the output of its init. A region may lack SnapStart for container images; "
                "leave it out of matrix.starts then.",
            ) from None

    def _delete(self, name: str, versions: list[str]) -> None:
        # Lambda charges for a snapshot for as long as its version exists.
        for version in versions:
            self._client.delete_function(FunctionName=name, Qualifier=version)

    def _ours(self, name: str) -> list[str]:
        return [version for version, description in self._all(name).items() if description.startswith(MARK)]

    def _all(self, name: str) -> Mapping[str, str]:
        """Descriptions by version, in ascending order."""
        pages = self._client.get_paginator("list_versions_by_function").paginate(FunctionName=name)
        found = {one["Version"]: one.get("Description", "") for page in pages for one in page["Versions"]}
        return {version: found[version] for version in sorted(found.keys() - {"$LATEST"}, key=int)}
