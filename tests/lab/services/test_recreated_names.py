"""A name that was deleted and given again answers like one that was never used."""

from __future__ import annotations

import contextlib
import itertools
import json
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import botocore.exceptions
import pytest
from hypothesis import example, given, settings
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
        iam, self.image = lab.client("iam"), lab.push_image()
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")

    def create(self, name: str, version: int) -> None:
        self.client.create_function(
            FunctionName=name,
            PackageType="Image",
            Code={"ImageUri": self.image},
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
        published = self.client.publish_version(FunctionName=name)["Version"]
        self.client.create_alias(FunctionName=name, Name="live", FunctionVersion=published)
        self.client.delete_function(FunctionName=name)

    def read(self, name: str) -> Any:
        found = self.client.get_function(FunctionName=name)
        versions = self.client.list_versions_by_function(FunctionName=name)["Versions"]
        aliases = self.client.list_aliases(FunctionName=name)["Aliases"]
        parts = found["Configuration"], found.get("Concurrency"), found["Code"], versions, aliases
        return *parts, self._missing(name)

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


class ScheduleGroupKind(Kind):
    """With a schedule in it: "deleting a schedule group deletes its schedules" (DeleteScheduleGroup)."""

    service = "scheduler"

    def create(self, name: str, version: int) -> None:
        self.client.create_schedule_group(Name=name, Tags=[{"Key": "made", "Value": str(version)}])
        self.update(name, version)

    def update(self, name: str, version: int) -> None:
        self.client.tag_resource(ResourceArn=self._arn(name), Tags=[{"Key": "version", "Value": str(version)}])

    def delete(self, name: str) -> None:
        self.client.tag_resource(ResourceArn=self._arn(name), Tags=[{"Key": "late", "Value": "x"}])
        self.client.create_schedule(
            Name="inner",
            GroupName=name,
            ScheduleExpression="rate(1 hours)",
            State="DISABLED",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": "arn:aws:lambda:us-east-1:123456789012:function:f", "RoleArn": "arn:aws:iam::1:role/r"},
        )
        self.client.delete_schedule_group(Name=name)

    def read(self, name: str) -> Any:
        tags = self.client.list_tags_for_resource(ResourceArn=self._arn(name))["Tags"]
        tags = sorted((tag["Key"], tag["Value"]) for tag in tags if tag["Key"] != "made")  # as of its first version
        return self.client.get_schedule_group(Name=name), tags, self.client.list_schedules(GroupName=name)["Schedules"]

    def _arn(self, name: str) -> str:
        return f"arn:aws:scheduler:us-east-1:123456789012:schedule-group/{name}"


def root_method(client: Any, api_id: str, **method: Any) -> None:
    """A GET of the root, of a function that is not there: who gets so far gets a 500."""
    root = client.get_resources(restApiId=api_id)["items"][0]["id"]
    where = {"restApiId": api_id, "resourceId": root, "httpMethod": "GET"}
    client.put_method(**where, authorizationType="NONE", **method)
    function = "arn:aws:lambda:us-east-1:123456789012:function:nobody"
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function}/invocations"
    client.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)


def get(lab: Lab, api_id: str, **headers: str) -> tuple[int, bytes]:
    """What a stage answers to a GET of its root."""
    request = urllib.request.Request(f"{lab.url}/_aws/execute-api/{api_id}/v1/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class RestApiKind(Kind):
    """With a deployed stage, which is called by the identifier that the name had last."""

    service = "apigateway"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.lab = lab
        self.ids: dict[str, str] = {}

    def create(self, name: str, version: int) -> None:
        self.ids[name] = self.client.create_rest_api(name=name)["id"]
        root_method(self.client, self.ids[name])
        self.client.put_gateway_response(
            restApiId=self.ids[name],
            responseType="INTEGRATION_FAILURE",
            responseTemplates={"application/json": "$stageVariables.version"},
        )
        variables = {"version": str(version)}
        self.client.create_deployment(restApiId=self.ids[name], stageName="v1", variables=variables)

    def update(self, name: str, version: int) -> None:
        patch = [{"op": "replace", "path": "/variables/version", "value": str(version)}]
        self.client.update_stage(restApiId=self.ids[name], stageName="v1", patchOperations=patch)

    def delete(self, name: str) -> None:
        self.client.delete_rest_api(restApiId=self.ids[name])

    def read(self, name: str) -> Any:
        answer = get(self.lab, self.ids.get(name, "neverwas"))
        apis = [api for api in self.client.get_rest_apis()["items"] if api["name"] == name]
        stages = [self.client.get_stages(restApiId=api["id"])["item"] for api in apis]
        return answer, len(apis), stages


class ApiKeyKind(Kind):
    """With a usage plan, before one API that asks for a key."""

    service = "apigateway"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.lab = lab
        self.api = self.client.create_rest_api(name="with-keys")["id"]
        root_method(self.client, self.api, apiKeyRequired=True)
        self.client.create_deployment(restApiId=self.api, stageName="v1", variables={"version": "1"})

    def create(self, name: str, version: int) -> None:
        key = self.client.create_api_key(name=name, value=self._value(name), enabled=True)["id"]
        plan = self.client.create_usage_plan(
            name=name,
            throttle={"rateLimit": 1000, "burstLimit": 1000 * version},
            apiStages=[{"apiId": self.api, "stage": "v1"}],
        )["id"]
        self.client.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")

    def update(self, name: str, version: int) -> None:
        ((plan, _),) = self._plans(name)
        patch = [{"op": "replace", "path": "/throttle/burstLimit", "value": str(1000 * version)}]
        self.client.update_usage_plan(usagePlanId=plan, patchOperations=patch)

    def delete(self, name: str) -> None:
        ((plan, _),) = self._plans(name)
        (key,) = self._keys(name)
        self.client.delete_api_key(apiKey=key["id"])
        assert self.client.get_usage_plan_keys(usagePlanId=plan)["items"] == []
        for stage in self.client.get_usage_plan(usagePlanId=plan)["apiStages"]:
            patch = [{"op": "remove", "path": "/apiStages", "value": f"{stage['apiId']}:{stage['stage']}"}]
            self.client.update_usage_plan(usagePlanId=plan, patchOperations=patch)
        self.client.delete_usage_plan(usagePlanId=plan)

    def read(self, name: str) -> Any:
        answer = get(self.lab, self.api, **{"x-api-key": self._value(name)})
        return answer, self._keys(name), [plan for _, plan in self._plans(name)]

    def _value(self, name: str) -> str:
        return f"the-key-of-{name:x>20}"

    def _keys(self, name: str) -> list[dict[str, Any]]:
        return [key for key in self.client.get_api_keys(includeValues=False)["items"] if key["name"] == name]

    def _plans(self, name: str) -> list[tuple[str, Any]]:
        plans = [plan for plan in self.client.get_usage_plans()["items"] if plan["name"] == name]
        keys = {plan["id"]: self.client.get_usage_plan_keys(usagePlanId=plan["id"])["items"] for plan in plans}
        return [(plan["id"], (plan["throttle"], [key["name"] for key in keys[plan["id"]]])) for plan in plans]


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


KINDS = (
    StackKind,
    LogGroupKind,
    ScheduleKind,
    RepositoryKind,
    *(
        pytest.param(kind, marks=pytest.mark.slow)
        for kind in (FunctionKind, ScheduleGroupKind, RestApiKind, ApiKeyKind)
    ),
)


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


@settings(max_examples=4)
@given(versions=st.lists(st.none() | st.sampled_from([1, 3, 5]), min_size=2, max_size=7))
@example(versions=[1, 3, None, 5, None, None, 1])
@pytest.mark.parametrize("kind_class", KINDS, ids=lambda kind: kind.__name__)
def test_any_history_of_a_name_ends_like_a_fresh_one(
    shared_lab: Lab, kind_class: type[Kind], versions: list[int | None]
) -> None:
    """A version creates the resource or updates it, None deletes it."""
    kind, name, exists = kind_class(shared_lab), f"used-{next(UNIQUE)}", False
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


def test_a_name_that_is_taken_is_not_given_again(shared_lab: Lab) -> None:
    kind = ScheduleGroupKind(shared_lab)
    kind.create("taken", 1)
    content = ScheduleKind(shared_lab)._content("kept", 1)
    kind.client.create_schedule(GroupName="taken", **content)
    for name in ("taken", "default"):
        with pytest.raises(kind.client.exceptions.ConflictException):
            kind.client.create_schedule_group(Name=name)
    assert [one["Name"] for one in kind.client.list_schedules(GroupName="taken")["Schedules"]] == ["kept"]
    with pytest.raises(kind.client.exceptions.ValidationException):
        kind.client.delete_schedule_group(Name="default")


def test_a_function_takes_an_image_only_while_the_registry_has_it(shared_lab: Lab) -> None:
    client, ecr = FunctionKind(shared_lab).client, shared_lab.client("ecr")
    missing = {"Error": {"Code": "InvalidParameterValueException"}}

    def refusals(uri: str) -> set[str]:
        found = set()
        for call in (
            lambda: client.create_function(
                FunctionName="new", PackageType="Image", Code={"ImageUri": uri}, Role="arn:aws:iam::123456789012:role/r"
            ),
            lambda: client.update_function_code(FunctionName="images", ImageUri=uri),
        ):
            with pytest.raises(botocore.exceptions.ClientError) as refused:
                call()
            assert refused.value.response["Error"]["Code"] == missing["Error"]["Code"]
            found.add(refused.value.response["Error"]["Message"])
        return found

    FunctionKind(shared_lab).create("images", 1)
    tagged = shared_lab.push_image("pictures:one")
    repository = tagged.rpartition(":")[0]
    (image,) = ecr.describe_images(repositoryName="pictures")["imageDetails"]
    by_digest = f"{repository}@{image['imageDigest']}"

    def forget_tag() -> None:
        ecr.batch_delete_image(repositoryName="pictures", imageIds=[{"imageTag": "one"}])

    def forget_repository() -> None:
        ecr.delete_repository(repositoryName="pictures", force=True)

    for forget in (forget_tag, forget_repository):
        shared_lab.push_image("pictures:one")
        for uri in (tagged, by_digest):
            assert client.update_function_code(FunctionName="images", ImageUri=uri)["FunctionName"] == "images"
        forget()
        for uri in (tagged, by_digest):
            assert refusals(uri) == {f"Source image {uri} does not exist. Provide a valid source image."}
    for uri in (f"{repository}:two", f"{repository}-other:one", f"{repository}@sha256:{'0' * 64}"):
        assert refusals(uri) == {f"Source image {uri} does not exist. Provide a valid source image."}
    for uri in (repository, "pictures:one", "http://example.org/x:y", f"{repository}@sha256:0"):
        assert refusals(uri) == {f"Source image {uri} is not valid. Provide a valid source image."}
