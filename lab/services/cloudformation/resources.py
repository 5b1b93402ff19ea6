"""Resource types of Lambda, Scheduler, Logs and IAM that moto lacks, or cannot update or delete, and unknown ones."""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any

from __future__ import annotations

import datetime as dt
import sys
from typing import Any, Self

from moto.awslambda.models import EventInvokeConfig
from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel
from moto.iam.models import Role, iam_backends
from moto.utilities.utils import get_partition

from lab.services.cloudformation import gateway_resources, nested_stacks  # noqa: F401 - moto finds their classes once they are made
from lab.services.cloudformation.resource import Place, Properties, Resource, json_text, number, tags_of
from lab.services.functions.catalogue import say_ignored
from lab.services.functions.provisioned import check, provision
from lab.services.scheduler.moto_schedules import epoch_s

# Lambda ----------------------------------------------------------------------------------------------


class FunctionResource(Resource, CloudFormationModel):
    """AWS::Lambda::Function: moto 5.2.5 loses LoggingConfig, PackageType, ImageConfig, Architectures and Tags."""

    kind = "AWS::Lambda::Function"
    attributes = frozenset({"Arn"})
    name_property = "FunctionName"
    replaced_by = ("PackageType",)

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        # A copy: moto writes into the code it is given.
        specification = {**_function_specification(properties), "FunctionName": name, "Code": dict(properties["Code"])}
        if "ZipFile" in specification["Code"]:
            raise ValueError("inline code is not modeled; the lab runs functions from images")
        function = place.functions.create_function(specification)
        return cls(function.function_name, properties, {"Arn": function.function_arn})

    def change(self, properties: Properties, place: Place) -> None:
        function = place.functions.get_function(self.physical_resource_id)
        # A property that left the template goes back to its default.
        function.update_configuration(
            {
                "Description": "",
                "MemorySize": 128,
                "Timeout": 3,
                "Environment": {"Variables": {}},
                "LoggingConfig": {},
                "ImageConfig": {},
                "EphemeralStorage": {"Size": 512},
                "TracingConfig": {"Mode": "PassThrough"},
                "SnapStart": {"ApplyOn": "None"},
                **{key: value for key, value in _function_specification(properties).items() if key != "Tags"},
            }
        )
        if self.properties["Code"] != properties["Code"]:
            function.update_function_code(dict(properties["Code"]))
        function.architectures = properties.get("Architectures", ["x86_64"])
        function.reserved_concurrency = number(properties.get("ReservedConcurrentExecutions"))
        function.tags = self.tags_after(properties, function.tags)

    def remove(self, place: Place) -> None:
        place.functions.delete_function(self.physical_resource_id)


class PermissionResource(Resource, CloudFormationModel):
    """AWS::Lambda::Permission: moto 5.2.5 neither updates nor deletes it, and its Ref is empty."""

    kind = "AWS::Lambda::Permission"
    attributes = frozenset({"Id"})
    replaced_by = ("Action", "FunctionName", "Principal", "SourceArn", "SourceAccount", "EventSourceToken")

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        function = place.functions.get_function(properties["FunctionName"])
        statement = {key: value for key, value in properties.items() if key != "FunctionName"}
        function.policy.add_statement(raw=json_text({**statement, "StatementId": name}))
        return cls(name, properties, {"Id": name})

    def remove(self, place: Place) -> None:
        function = place.functions.get_function(self.properties["FunctionName"])
        function.policy.del_statement(self.physical_resource_id)


class VersionResource(Resource, CloudFormationModel):
    """AWS::Lambda::Version: in moto 5.2.5 its Ref and its attributes are empty."""

    kind = "AWS::Lambda::Version"
    attributes = frozenset({"FunctionArn", "Version"})
    replaced_by = ("FunctionName", "Description", "CodeSha256")

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        del name  # its number is its name
        executions, function = _executions(properties), place.functions.get_function(properties["FunctionName"])
        if executions is not None:
            check(function, "", executions)
        version, snapshot = place.functions.publish(properties["FunctionName"], properties.get("Description", ""))
        if snapshot is not None and (reason := snapshot.result()):  # CloudFormation waits for the version
            # Else the next attempt would publish nothing, as nothing has changed, and take this one for good.
            place.functions.delete_function(version.function_arn)
            raise ValueError(f"version {version.version} of {version.function_name} has no snapshot: {reason}")
        if executions is not None:
            provision(function, str(version.version), executions)
        values = {"FunctionArn": version.function_arn, "Version": str(version.version)}
        return cls(version.function_arn, properties, values)

    def remove(self, place: Place) -> None:
        place.functions.delete_function(self.physical_resource_id)


class AliasResource(Resource, CloudFormationModel):
    """AWS::Lambda::Alias, which moto 5.2.5 does not know."""

    kind = "AWS::Lambda::Alias"
    attributes = frozenset({"AliasArn"})
    replaced_by = ("FunctionName", "Name")

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        del name  # the template gives it
        _check_alias(properties, place)
        alias = place.functions.create_alias(properties["Name"], properties["FunctionName"], *_alias_values(properties))
        _provision_alias(properties, place)
        return cls(alias.arn, properties, {"AliasArn": alias.arn})

    def change(self, properties: Properties, place: Place) -> None:
        _check_alias(properties, place)
        place.functions.update_alias(properties["Name"], properties["FunctionName"], *_alias_values(properties))
        _provision_alias(properties, place)

    def remove(self, place: Place) -> None:
        place.functions.delete_alias(self.properties["Name"], self.properties["FunctionName"])


def _executions(properties: Properties) -> int | None:
    wanted = properties.get("ProvisionedConcurrencyConfig")
    return int(wanted["ProvisionedConcurrentExecutions"]) if wanted else None


def _check_alias(properties: Properties, place: Place) -> None:
    """Refuse an alias's provisioned concurrency before the alias is made or changed: nothing would undo that."""
    executions = _executions(properties)
    if executions is not None:
        function = place.functions.get_function(properties["FunctionName"], str(properties["FunctionVersion"]))
        check(place.functions.get_function(properties["FunctionName"]), properties["Name"], executions, function)


def _provision_alias(properties: Properties, place: Place) -> None:
    function, executions = place.functions.get_function(properties["FunctionName"]), _executions(properties)
    if executions is None:
        function.withdraw(properties["Name"])
    else:
        provision(function, properties["Name"], executions)


class EventInvokeConfigResource(Resource, CloudFormationModel):
    """AWS::Lambda::EventInvokeConfig, which moto 5.2.5 does not know."""

    kind = "AWS::Lambda::EventInvokeConfig"
    replaced_by = ("FunctionName", "Qualifier")

    def change(self, properties: Properties, place: Place) -> None:
        function = place.functions.get_function(properties["FunctionName"])
        settings: dict[str, Any] = {
            key: int(properties[key])
            for key in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")
            if key in properties
        }
        settings["DestinationConfig"] = properties.get("DestinationConfig", {})
        say_ignored(function.function_name, settings)
        function.event_invoke_config = [EventInvokeConfig(function.function_arn, function.last_modified, settings)]

    def remove(self, place: Place) -> None:
        place.functions.get_function(self.properties["FunctionName"]).event_invoke_config = []


# EventBridge Scheduler -------------------------------------------------------------------------------


class ScheduleGroupResource(Resource, CloudFormationModel):
    """AWS::Scheduler::ScheduleGroup, which moto 5.2.5 does not know."""

    kind = "AWS::Scheduler::ScheduleGroup"
    attributes = frozenset({"Arn", "CreationDate", "LastModificationDate", "State"})
    name_property = "Name"

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        group = place.schedules.create_schedule_group(properties.get("Name", name), properties.get("Tags", []))
        created = dt.datetime.fromtimestamp(group.created_on, dt.UTC).isoformat()
        dates = dict.fromkeys(("CreationDate", "LastModificationDate"), created)
        return cls(group.name, properties, {"Arn": group.arn, "State": "ACTIVE", **dates})

    def change(self, properties: Properties, place: Place) -> None:
        place.schedules.untag_resource(self.values["Arn"], list(tags_of(self.properties)))
        place.schedules.tag_resource(self.values["Arn"], properties.get("Tags", []))

    def remove(self, place: Place) -> None:
        place.schedules.delete_schedule_group(self.physical_resource_id)


class ScheduleResource(Resource, CloudFormationModel):
    """AWS::Scheduler::Schedule, which moto 5.2.5 does not know."""

    kind = "AWS::Scheduler::Schedule"
    attributes = frozenset({"Arn"})
    name_property = "Name"
    replaced_by = ("GroupName",)

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        schedule = place.schedules.create_schedule(
            name=properties.get("Name", name),
            action_after_completion=None,
            **_schedule(properties),
        )
        return cls(schedule.name, properties, {"Arn": schedule.arn})

    def change(self, properties: Properties, place: Place) -> None:
        place.schedules.update_schedule(name=self.physical_resource_id, **_schedule(properties))

    def remove(self, place: Place) -> None:
        place.schedules.delete_schedule(self.properties.get("GroupName"), self.physical_resource_id)


# Logs and IAM ----------------------------------------------------------------------------------------


class LogGroupResource(Resource, CloudFormationModel):
    """AWS::Logs::LogGroup: moto 5.2.5 has no update, so a changed retention is lost."""

    kind = "AWS::Logs::LogGroup"
    attributes = frozenset({"Arn"})
    name_property = "LogGroupName"

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        group = place.logs.create_log_group(
            properties.get("LogGroupName", name),
            tags_of(properties),
            RetentionInDays=number(properties.get("RetentionInDays")),
            kmsKeyId=properties.get("KmsKeyId"),
        )
        # CloudFormation's attribute ends in :*, the API's field of the same name does too.
        return cls(group.name, properties, {"Arn": f"{group.arn}:*"})

    def change(self, properties: Properties, place: Place) -> None:
        place.logs.groups[self.physical_resource_id].set_retention_policy(number(properties.get("RetentionInDays")))
        place.logs.untag_log_group(self.physical_resource_id, list(tags_of(self.properties)))
        place.logs.tag_log_group(self.physical_resource_id, tags_of(properties))

    def remove(self, place: Place) -> None:
        place.logs.delete_log_group(self.physical_resource_id)


class RoleResource(Resource, CloudFormationModel):
    """AWS::IAM::Role: moto 5.2.5 updates neither its inline policies nor its tags nor who may assume it."""

    kind = "AWS::IAM::Role"
    attributes = frozenset({"Arn", "RoleId"})
    name_property = "RoleName"
    replaced_by = ("Path",)

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        role = Role.create_from_cloudformation_json(name, {"Properties": properties}, place.account_id, place.region)
        return cls(role.name, properties, {"Arn": role.arn, "RoleId": role.id})

    def change(self, properties: Properties, place: Place) -> None:
        role = _roles(place).get_role(self.physical_resource_id)
        role.description = properties.get("Description", "")
        role.max_session_duration = int(properties.get("MaxSessionDuration", 3600))
        role.assume_role_policy_document = json_text(properties["AssumeRolePolicyDocument"])
        _roles(place).untag_role(role.name, list(tags_of(self.properties)))
        _roles(place).tag_role(role.name, properties.get("Tags", []))
        wanted = {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies", [])}
        own = {policy["PolicyName"] for policy in self.properties.get("Policies", [])}
        for name in own - set(wanted):
            role.delete_policy(name)
        for name, document in wanted.items():
            role.put_policy(name, json_text(document))

    def remove(self, place: Place) -> None:
        Role.delete_from_cloudformation_json(
            self.physical_resource_id, {"Properties": self.properties}, place.account_id, place.region
        )


# The rest --------------------------------------------------------------------------------------------


class NotModelledResource(Resource, CloudFormationModel):
    """Any type that neither moto nor the lab knows: accepted, said so once on standard error, and without effect."""

    kind = "Lab::NotModelled"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        del attr
        return True

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return f"{self.physical_resource_id}.{attribute_name}"


_said: set[str] = set()


def _class_of(resource_type: str) -> Any:
    """`resource_class_from_type`: moto 5.2.5 passes over an unknown type, and what refers to it reads `None`."""
    found = parsing.get_model_map().get(resource_type)
    if found is not None or resource_type in parsing.NULL_MODELS or resource_type.startswith("Custom::"):
        return _moto_class_of(resource_type)
    if resource_type not in _said:
        _said.add(resource_type)
        print(f"lab: {resource_type} is not modeled: it is accepted and has no effect", file=sys.stderr)
    return NotModelledResource


_moto_class_of = parsing.resource_class_from_type


def install() -> None:
    """Let moto find the classes of this module, of API Gateway's, and of nested stacks'."""
    parsing.get_model_list.cache_clear()
    parsing.get_model_map.cache_clear()
    parsing.get_name_type_map.cache_clear()
    parsing.resource_class_from_type = _class_of


def _function_specification(properties: Properties) -> dict[str, Any]:
    names = (
        "Description", "Handler", "Role", "Runtime", "MemorySize", "Timeout", "VpcConfig", "Environment", "Layers",
        "ReservedConcurrentExecutions", "PackageType", "TracingConfig", "Architectures", "ImageConfig",
        "EphemeralStorage", "LoggingConfig", "KmsKeyArn", "SnapStart", "DeadLetterConfig",
    )  # fmt: skip
    specification = {name: properties[name] for name in names if name in properties}
    for name in ("MemorySize", "Timeout", "ReservedConcurrentExecutions"):
        if name in specification:
            specification[name] = int(specification[name])
    if "EphemeralStorage" in specification:
        specification["EphemeralStorage"] = {"Size": int(specification["EphemeralStorage"]["Size"])}
    return {**specification, "Tags": tags_of(properties)}


def _schedule(properties: Properties) -> dict[str, Any]:
    return {
        "description": properties.get("Description"),
        "end_date": epoch_s(properties.get("EndDate")),
        "flexible_time_window": properties["FlexibleTimeWindow"],
        "group_name": properties.get("GroupName"),
        "kms_key_arn": properties.get("KmsKeyArn"),
        "schedule_expression": properties["ScheduleExpression"],
        "schedule_expression_timezone": properties.get("ScheduleExpressionTimezone"),
        "start_date": epoch_s(properties.get("StartDate")),
        "state": properties.get("State", "ENABLED"),
        "target": _numbers(dict(properties["Target"])),
    }


def _numbers(target: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation may carry numbers as text; the API answers numbers."""
    if "RetryPolicy" in target:
        target["RetryPolicy"] = {key: int(value) for key, value in target["RetryPolicy"].items()}
    return target


def _roles(place: Place) -> Any:
    return iam_backends[place.account_id][get_partition(place.region)]


def _alias_values(properties: Properties) -> tuple[str, str, dict[str, Any]]:
    """Version, description and routing, the latter by the API's names."""
    shared = (properties.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or []
    weights = {str(one["FunctionVersion"]): float(one["FunctionWeight"]) for one in shared}
    return str(properties["FunctionVersion"]), properties.get("Description", ""), {"AdditionalVersionWeights": weights}
