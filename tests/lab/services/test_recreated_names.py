"""A name that was deleted and given again answers like one that was never used."""

from __future__ import annotations

import contextlib
import itertools
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import botocore.exceptions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab_support import Lab

UNIQUE = itertools.count()
NOT_COMPARED = {
    "ResponseMetadata", "RevisionId", "LastModified", "CreationDate", "LastModificationDate", "creationTime",
    "createdAt", "StackId", "ChangeSetId", "CreationTime", "LastUpdatedTime", "id", "value", "createdDate",
    "lastUpdatedDate", "Location", "eventId", "ingestionTime", "timestamp", "apiId", "deploymentId",
}  # fmt: skip


class Kind(ABC):
    """One kind of named resource; `version` is all that its content varies by."""

    service: ClassVar[str]

    def __init__(self, lab: Lab) -> None:
        self.client = lab.client(self.service)

    @abstractmethod
    def create(self, name: str, version: int) -> None: ...

    @abstractmethod
    def update(self, name: str, version: int) -> None: ...

    @abstractmethod
    def delete(self, name: str) -> None: ...

    @abstractmethod
    def read(self, name: str) -> Any: ...


class StackKind(Kind):
    """Through change sets of one name, as `cdk deploy` does it."""

    service = "cloudformation"

    def _deploy(self, name: str, version: int, kind: str) -> None:
        where = {"StackName": name, "ChangeSetName": "cdk-deploy-change-set"}
        self.client.delete_change_set(**where)
        group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": f"/{name}", "RetentionInDays": version}}
        template = {"Resources": {"Logs": group}, "Outputs": {"Group": {"Value": {"Ref": "Logs"}}}}
        self.client.create_change_set(**where, ChangeSetType=kind, TemplateBody=json.dumps(template))
        change_set = self.client.describe_change_set(**where)
        if change_set["Status"] == "FAILED":  # nothing changes
            return
        self.client.execute_change_set(**where)

    def create(self, name: str, version: int) -> None:
        self._deploy(name, version, "CREATE")

    def update(self, name: str, version: int) -> None:
        self._deploy(name, version, "UPDATE")

    def delete(self, name: str) -> None:
        self.client.delete_stack(StackName=name)

    def read(self, name: str) -> Any:
        (stack,) = self.client.describe_stacks(StackName=name)["Stacks"]
        resources = self.client.describe_stack_resources(StackName=name)["StackResources"]
        found = [(r["LogicalResourceId"], r["PhysicalResourceId"]) for r in resources]
        return stack["StackStatus"].endswith("_COMPLETE"), stack["Outputs"], found


class FunctionKind(Kind):
    service = "lambda"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        iam = lab.client("iam")
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")

    def create(self, name: str, version: int) -> None:
        self.client.create_function(
            FunctionName=name,
            PackageType="Image",
            Code={"ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/r:t"},
            Role="arn:aws:iam::123456789012:role/r",
            MemorySize=128 * version,
        )

    def update(self, name: str, version: int) -> None:
        self.client.update_function_configuration(FunctionName=name, MemorySize=128 * version)

    def delete(self, name: str) -> None:
        # What hangs on the name must go with it.
        self.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        self.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        self.client.add_permission(
            FunctionName=name, StatementId="s", Action="lambda:InvokeFunction", Principal="events.amazonaws.com"
        )
        self.client.delete_function(FunctionName=name)

    def read(self, name: str) -> Any:
        found = self.client.get_function(FunctionName=name)
        return found["Configuration"], found.get("Concurrency"), found["Code"], self._missing(name)

    def _missing(self, name: str) -> list[str]:
        codes = []
        for call in (self.client.get_policy, self.client.get_function_event_invoke_config):
            with pytest.raises(botocore.exceptions.ClientError) as refused:
                call(FunctionName=name)
            codes.append(refused.value.response["Error"]["Code"])
        return codes


class LogGroupKind(Kind):
    service = "logs"

    def create(self, name: str, version: int) -> None:
        self.client.create_log_group(logGroupName=name)
        self.update(name, version)

    def update(self, name: str, version: int) -> None:
        self.client.put_retention_policy(logGroupName=name, retentionInDays=version)

    def delete(self, name: str) -> None:
        self.client.create_log_stream(logGroupName=name, logStreamName="s")
        event = {"timestamp": 1_700_000_000_000, "message": "of before"}
        self.client.put_log_events(logGroupName=name, logStreamName="s", logEvents=[event])
        self.client.delete_log_group(logGroupName=name)

    def read(self, name: str) -> Any:
        events = self.client.filter_log_events(logGroupName=name)["events"]
        groups = self.client.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        return [group for group in groups if group["logGroupName"] == name], events


class ScheduleKind(Kind):
    service = "scheduler"

    def _content(self, name: str, version: int) -> dict[str, Any]:
        return {
            "Name": name,
            "ScheduleExpression": f"rate({version} hours)",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {"Arn": "arn:aws:lambda:us-east-1:123456789012:function:f", "RoleArn": "arn:aws:iam::1:role/r"},
        }

    def create(self, name: str, version: int) -> None:
        self.client.create_schedule(**self._content(name, version))

    def update(self, name: str, version: int) -> None:
        self.client.update_schedule(**self._content(name, version))

    def delete(self, name: str) -> None:
        self.client.delete_schedule(Name=name)

    def read(self, name: str) -> Any:
        return self.client.get_schedule(Name=name)


class RuleKind(Kind):
    service = "events"

    def create(self, name: str, version: int) -> None:
        self.update(name, version)

    def update(self, name: str, version: int) -> None:
        self.client.put_rule(Name=name, ScheduleExpression=f"rate({version + 1} hours)")

    def delete(self, name: str) -> None:
        self.client.put_targets(
            Rule=name, Targets=[{"Id": "t", "Arn": "arn:aws:lambda:us-east-1:123456789012:function:f"}]
        )
        self.client.remove_targets(Rule=name, Ids=["t"])
        self.client.delete_rule(Name=name)

    def read(self, name: str) -> Any:
        return self.client.describe_rule(Name=name), self.client.list_targets_by_rule(Rule=name)["Targets"]


class RepositoryKind(Kind):
    service = "ecr"

    def create(self, name: str, version: int) -> None:
        self.client.create_repository(repositoryName=name)
        self.update(name, version)

    def update(self, name: str, version: int) -> None:
        self.client.put_image_tag_mutability(
            repositoryName=name, imageTagMutability="IMMUTABLE" if version % 2 else "MUTABLE"
        )

    def delete(self, name: str) -> None:
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
        self.client.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag="t")
        self.client.delete_repository(repositoryName=name, force=True)

    def read(self, name: str) -> Any:
        return self.client.describe_repositories(repositoryNames=[name]), self.client.list_images(repositoryName=name)


KINDS = (StackKind, FunctionKind, LogGroupKind, ScheduleKind, RuleKind, RepositoryKind)


def comparable(found: Any, name: str) -> Any:
    """What was read, less identities and dates, with the name replaced."""
    match found:
        case dict():
            return {key: comparable(value, name) for key, value in found.items() if key not in NOT_COMPARED}
        case list() | tuple():
            return [comparable(value, name) for value in found]
        case str():
            return found.replace(name, "NAME")
    return found


def answer(kind: Kind, name: str) -> Any:
    try:
        return comparable(kind.read(name), name)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=st.lists(st.none() | st.sampled_from([1, 3, 5]), min_size=2, max_size=7))
@pytest.mark.parametrize("kind_class", KINDS, ids=lambda kind: kind.__name__)
def test_any_history_of_a_name_ends_like_a_fresh_one(
    module_lab: Lab, kind_class: type[Kind], versions: list[int | None]
) -> None:
    """A version creates the resource or updates it, None deletes it."""
    kind, name, exists = kind_class(module_lab), f"used-{next(UNIQUE)}", False
    for version in versions:
        if version is None:
            if exists:
                kind.delete(name)
        elif exists:
            kind.update(name, version)
        else:
            kind.create(name, version)
        exists = version is not None

        fresh = f"fresh-{next(UNIQUE)}"
        if version is not None:
            kind.create(fresh, version)
        assert answer(kind, name) == answer(kind, fresh)
