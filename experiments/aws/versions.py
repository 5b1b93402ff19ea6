"""The seam to Lambda's versions and aliases: a forced update of a function that callers reach by its alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import WaiterError

from core.cloud import Cloud, cloud_errors
from core.errors import CloudError
from core.variants import ALIAS

MARK: Final = "BENCHMARK_NONCE "  # begins the description of a version that a run published
# Taking a snapshot lasts minutes, as init may take 130 s of it.
# https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html
SNAPSHOT_WAIT: Final = {"Delay": 1, "MaxAttempts": 900}


class Versions:
    """Published versions of functions that have the alias `core.variants.ALIAS`."""

    def __init__(self, cloud: Cloud) -> None:
        self._client = cloud.client("lambda")

    def publish(self, name: str, nonce: str) -> None:
        """Publish what is configured now, let the alias name it, and delete the version that a run published before.

        Raises CloudError where the version gets no snapshot.
        """
        with cloud_errors():
            before = self._ours(name)
            published = self._client.publish_version(FunctionName=name, Description=f"{MARK}{nonce}")
            version = published["Version"]
            self._wait(name, version)
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
                f"version {version} of {name} got no snapshot: {reason}",
                hint="Its log group has the output of its init. Without SnapStart, leave it out of matrix.starts.",
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
