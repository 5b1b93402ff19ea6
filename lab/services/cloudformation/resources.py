"""CloudFormation resource types that moto lacks, or cannot update or delete.

moto finds a type through the direct subclasses of CloudFormationModel, the last one of a type winning; so each class
here stands for one type. What it makes are moto's own objects, so that the API shows what CloudFormation made.
Property names are those of https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-template-resource-type-ref.html
"""

# moto has no types of its own to check a subclass against.
# mypy: allow-subclassing-any

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from moto.apigateway.exceptions import NotFoundException as ApiNotFoundException
from moto.apigateway.models import apigateway_backends
from moto.awslambda.models import EventInvokeConfig, lambda_backends
from moto.cloudformation import parsing
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.cloudformation.models import cloudformation_backends
from moto.core.common_models import CloudFormationModel
from moto.iam.models import Role, iam_backends
from moto.logs.models import logs_backends
from moto.scheduler.models import scheduler_backends
from moto.utilities.utils import get_partition

Properties = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Account and region of a stack."""

    account_id: str
    region: str

    @property
    def apis(self) -> Any:
        return apigateway_backends[self.account_id][self.region]

    @property
    def functions(self) -> Any:
        return lambda_backends[self.account_id][self.region]

    @property
    def schedules(self) -> Any:
        return scheduler_backends[self.account_id][self.region]

    @property
    def logs(self) -> Any:
        return logs_backends[self.account_id][self.region]

    @property
    def stacks(self) -> Any:
        return cloudformation_backends[self.account_id][self.region]


class Resource:
    """Half of a resource type: subclasses say how to create, change and delete; this answers CloudFormation."""

    kind: ClassVar[str]
    attributes: ClassVar[frozenset[str]] = frozenset()
    name_property: ClassVar[str] = ""
    replaced_by: ClassVar[tuple[str, ...]] = ()  # a change of these properties makes a new resource

    def __init__(self, physical_id: str, properties: Properties, values: Mapping[str, str] | None = None) -> None:
        self.physical_resource_id = physical_id
        self.properties = properties
        self.values = dict(values or {})

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        """Make the resource; `name` is generated unless the template gives one."""
        made = cls(name, properties, {"Id": name})
        made.change(properties, place)
        return made

    def change(self, properties: Properties, place: Place) -> None:
        """Bring the resource to these properties; by default, none changes without a replacement."""

    def remove(self, place: Place) -> None:
        """Delete the resource; by default it stays."""

    # What moto's CloudFormation asks -----------------------------------------

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.kind

    @classmethod
    def cloudformation_name_type(cls) -> str:
        return cls.name_property

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls.attributes

    def get_cfn_attribute(self, attribute_name: str) -> str:
        if attribute_name not in self.values:
            raise UnformattedGetAttTemplateException
        return self.values[attribute_name]

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
    ) -> Self:
        return cls.create(resource_name, cloudformation_json["Properties"], Place(account_id, region_name))

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Self,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Self:
        place, properties = Place(account_id, region_name), cloudformation_json["Properties"]
        former = original_resource.properties
        if any(former.get(name) != properties.get(name) for name in (*cls.replaced_by, cls.name_property) if name):
            replacement = cls.create(new_resource_name, properties, place)
            original_resource.remove(place)
            return replacement
        original_resource.change(properties, place)
        original_resource.properties = properties
        return original_resource

    def delete(self, account_id: str, region: str) -> None:
        self.remove(Place(account_id, region))


# API Gateway -----------------------------------------------------------------------------------------


class RestApiResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::RestApi: moto 5.2.5 keeps name and description only, and neither updates nor deletes it."""

    kind = "AWS::ApiGateway::RestApi"
    attributes = frozenset({"RootResourceId", "RestApiId"})

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        if "Body" in properties or "BodyS3Location" in properties:
            raise ValueError("a REST API from an OpenAPI document is not modelled; declare resources and methods")
        api = place.apis.create_rest_api(
            name=properties.get("Name", name),
            description=properties.get("Description", ""),
            api_key_source=properties.get("ApiKeySourceType"),
            endpoint_configuration=_endpoint(properties),
            tags=_tags(properties),
            policy=properties.get("Policy"),
            minimum_compression_size=properties.get("MinimumCompressionSize"),
            disable_execute_api_endpoint=_flag(properties.get("DisableExecuteApiEndpoint")),
        )
        api.binaryMediaTypes = list(properties.get("BinaryMediaTypes", []))
        return cls(api.id, properties, {"RootResourceId": api.root_resource_id, "RestApiId": api.id})

    def change(self, properties: Properties, place: Place) -> None:
        api = place.apis.get_rest_api(self.physical_resource_id)
        api.name = properties.get("Name", api.name)
        api.description = properties.get("Description", "")
        api.api_key_source = properties.get("ApiKeySourceType") or "HEADER"
        api.endpoint_configuration = _endpoint(properties)
        api.tags = _tags(properties)
        api.policy = properties.get("Policy")
        api.disableExecuteApiEndpoint = _flag(properties.get("DisableExecuteApiEndpoint"))
        api.binaryMediaTypes = list(properties.get("BinaryMediaTypes", []))

    def remove(self, place: Place) -> None:
        place.apis.delete_rest_api(self.physical_resource_id)


class ApiResourceResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::Resource: moto 5.2.5 does not delete it with the stack."""

    kind = "AWS::ApiGateway::Resource"
    attributes = frozenset({"ResourceId"})
    replaced_by = ("RestApiId", "ParentId", "PathPart")

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        del name
        resource = place.apis.create_resource(
            function_id=properties["RestApiId"],
            parent_resource_id=properties["ParentId"],
            path_part=properties["PathPart"],
        )
        return cls(resource.id, properties, {"ResourceId": resource.id})

    def remove(self, place: Place) -> None:
        with _gone_with_its_api():
            place.apis.get_rest_api(self.properties["RestApiId"]).resources.pop(self.physical_resource_id, None)


class MethodResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::Method: moto 5.2.5 wants a URI (mocks have none), drops responses and time-out, no update."""

    kind = "AWS::ApiGateway::Method"
    replaced_by = ("RestApiId", "ResourceId", "HttpMethod")

    def change(self, properties: Properties, place: Place) -> None:
        where = {
            "function_id": properties["RestApiId"],
            "resource_id": properties["ResourceId"],
            "method_type": properties["HttpMethod"],
        }
        resource = place.apis.get_resource(properties["RestApiId"], properties["ResourceId"])
        method = resource.add_method(
            properties["HttpMethod"],
            properties.get("AuthorizationType", "NONE"),
            _flag(properties.get("ApiKeyRequired")),
            request_parameters=properties.get("RequestParameters"),
            request_models=properties.get("RequestModels"),
            operation_name=properties.get("OperationName"),
            authorizer_id=properties.get("AuthorizerId"),
            authorization_scopes=properties.get("AuthorizationScopes"),
            request_validator_id=properties.get("RequestValidatorId"),
        )
        for response in properties.get("MethodResponses", []):
            method.create_response(
                str(response["StatusCode"]), response.get("ResponseModels"), response.get("ResponseParameters")
            )
        integration = properties.get("Integration")
        if integration:
            place.apis.put_integration(**where, **_integration(integration))
            for response in integration.get("IntegrationResponses", []):
                method.method_integration.create_integration_response(
                    str(response["StatusCode"]),
                    response.get("SelectionPattern"),
                    response.get("ResponseTemplates"),
                    response.get("ResponseParameters"),
                    response.get("ContentHandling"),
                )

    def remove(self, place: Place) -> None:
        with _gone_with_its_api():
            place.apis.delete_method(
                self.properties["RestApiId"], self.properties["ResourceId"], self.properties["HttpMethod"]
            )


class DeploymentResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::Deployment: moto 5.2.5 gives it no physical id, so a stage cannot refer to it."""

    kind = "AWS::ApiGateway::Deployment"
    attributes = frozenset({"DeploymentId"})
    replaced_by = ("RestApiId",)

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        del name
        deployment = place.apis.create_deployment(
            function_id=properties["RestApiId"],
            name=properties.get("StageName") or "",
            description=properties.get("Description", ""),
        )
        return cls(deployment.id, properties, {"DeploymentId": deployment.id})

    def change(self, properties: Properties, place: Place) -> None:
        deployment = place.apis.get_deployment(properties["RestApiId"], self.physical_resource_id)
        deployment.description = properties.get("Description", "")

    def remove(self, place: Place) -> None:
        with _gone_with_its_api():
            place.apis.get_rest_api(self.properties["RestApiId"]).deployments.pop(self.physical_resource_id, None)


class StageResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::Stage, which moto 5.2.5 does not know."""

    kind = "AWS::ApiGateway::Stage"
    name_property = "StageName"
    replaced_by = ("RestApiId",)

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        made = cls(properties.get("StageName", name), properties)
        place.apis.create_stage(
            properties["RestApiId"], made.physical_resource_id, properties["DeploymentId"], tags=_tags(properties)
        )
        made.change(properties, place)
        return made

    def change(self, properties: Properties, place: Place) -> None:
        stage = place.apis.get_stage(properties["RestApiId"], self.physical_resource_id)
        stage.deployment_id = properties["DeploymentId"]
        stage.description = properties.get("Description", "")
        stage.variables = dict(properties.get("Variables") or {})
        stage.tracing_enabled = _flag(properties.get("TracingEnabled"))
        stage.tags = _tags(properties)
        stage.method_settings = {
            f"{setting['ResourcePath'].removeprefix('/')}/{setting['HttpMethod']}": {
                _decapitalized(key): value
                for key, value in setting.items()
                if key not in {"ResourcePath", "HttpMethod"}
            }
            for setting in properties.get("MethodSettings") or []
        }
        logs = properties.get("AccessLogSetting")
        stage.access_log_settings = {_decapitalized(key): value for key, value in logs.items()} if logs else None

    def remove(self, place: Place) -> None:
        with _gone_with_its_api():
            place.apis.get_rest_api(self.properties["RestApiId"]).stages.pop(self.physical_resource_id, None)


class GatewayResponseResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::GatewayResponse, which moto 5.2.5 does not know."""

    kind = "AWS::ApiGateway::GatewayResponse"
    attributes = frozenset({"Id"})
    replaced_by = ("RestApiId", "ResponseType")

    def change(self, properties: Properties, place: Place) -> None:
        place.apis.put_gateway_response(
            properties["RestApiId"],
            properties["ResponseType"],
            properties.get("StatusCode"),
            properties.get("ResponseParameters"),
            properties.get("ResponseTemplates"),
        )

    def remove(self, place: Place) -> None:
        with _gone_with_its_api():
            place.apis.delete_gateway_response(self.properties["RestApiId"], self.properties["ResponseType"])


class ApiGatewayAccountResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::Account, which moto 5.2.5 does not know; its setting outlives it, as on AWS."""

    kind = "AWS::ApiGateway::Account"
    attributes = frozenset({"Id"})

    def change(self, properties: Properties, place: Place) -> None:
        place.apis.account.cloudwatch_role_arn = properties.get("CloudWatchRoleArn")


class ApiKeyResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::ApiKey, which moto 5.2.5 does not know."""

    kind = "AWS::ApiGateway::ApiKey"
    attributes = frozenset({"APIKeyId"})
    name_property = "Name"
    replaced_by = ("Value", "GenerateDistinctId")

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        key = place.apis.create_api_key(
            {
                "name": properties.get("Name", name),
                "description": properties.get("Description"),
                "enabled": _flag(properties.get("Enabled")),
                "value": properties.get("Value"),
                "tags": _tags(properties),
            }
        )
        return cls(key.id, properties, {"APIKeyId": key.id})

    def change(self, properties: Properties, place: Place) -> None:
        key = place.apis.get_api_key(self.physical_resource_id)
        key.description = properties.get("Description")
        key.enabled = _flag(properties.get("Enabled"))

    def remove(self, place: Place) -> None:
        place.apis.delete_api_key(self.physical_resource_id)


class UsagePlanResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::UsagePlan, which moto 5.2.5 does not know."""

    kind = "AWS::ApiGateway::UsagePlan"
    attributes = frozenset({"Id"})

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        plan = place.apis.create_usage_plan({"name": properties.get("UsagePlanName", name)})
        made = cls(plan.id, properties, {"Id": plan.id})
        made.change(properties, place)
        return made

    def change(self, properties: Properties, place: Place) -> None:
        plan = place.apis.get_usage_plan(self.physical_resource_id)
        plan.name = properties.get("UsagePlanName", plan.name)
        plan.description = properties.get("Description")
        plan.throttle = _decapitalized_keys(properties.get("Throttle"))
        plan.quota = _decapitalized_keys(properties.get("Quota"))
        plan.api_stages = [
            {
                "apiId": stage["ApiId"],
                "stage": stage["Stage"],
                "throttle": {path: _decapitalized_keys(limits) for path, limits in stage.get("Throttle", {}).items()},
            }
            for stage in properties.get("ApiStages", [])
        ]

    def remove(self, place: Place) -> None:
        place.apis.delete_usage_plan(self.physical_resource_id)
        place.apis.usage_plan_keys.pop(self.physical_resource_id, None)


class UsagePlanKeyResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::UsagePlanKey, which moto 5.2.5 does not know."""

    kind = "AWS::ApiGateway::UsagePlanKey"
    attributes = frozenset({"Id"})
    replaced_by = ("KeyId", "KeyType", "UsagePlanId")

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        del name
        place.apis.create_usage_plan_key(
            properties["UsagePlanId"], {"keyId": properties["KeyId"], "keyType": properties["KeyType"]}
        )
        physical_id = f"{properties['KeyId']}:{properties['UsagePlanId']}"
        return cls(physical_id, properties, {"Id": physical_id})

    def remove(self, place: Place) -> None:
        place.apis.usage_plan_keys.get(self.properties["UsagePlanId"], {}).pop(self.properties["KeyId"], None)


# Lambda ----------------------------------------------------------------------------------------------


class FunctionResource(Resource, CloudFormationModel):
    """AWS::Lambda::Function: moto 5.2.5 loses LoggingConfig, PackageType, ImageConfig, Architectures and Tags."""

    kind = "AWS::Lambda::Function"
    attributes = frozenset({"Arn"})
    name_property = "FunctionName"
    replaced_by = ("PackageType",)

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        # A dictionary of its own: moto writes into the code it is given.
        specification = {**_function_specification(properties), "FunctionName": name, "Code": dict(properties["Code"])}
        if "ZipFile" in specification["Code"]:
            raise ValueError("inline code is not modelled; the lab runs functions from images")
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
                **{key: value for key, value in _function_specification(properties).items() if key != "Tags"},
            }
        )
        if self.properties["Code"] != properties["Code"]:
            function.update_function_code(dict(properties["Code"]))
        function.architectures = properties.get("Architectures", ["x86_64"])
        function.reserved_concurrency = _number(properties.get("ReservedConcurrentExecutions"))
        function.tags = _tags(properties)

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
        function.policy.add_statement(raw=_json({**statement, "StatementId": name}))
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
        version = place.functions.publish_version(properties["FunctionName"], properties.get("Description", ""))
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
        alias = place.functions.create_alias(properties["Name"], properties["FunctionName"], *_alias_values(properties))
        return cls(alias.arn, properties, {"AliasArn": alias.arn})

    def change(self, properties: Properties, place: Place) -> None:
        place.functions.update_alias(properties["Name"], properties["FunctionName"], *_alias_values(properties))

    def remove(self, place: Place) -> None:
        place.functions.delete_alias(self.properties["Name"], self.properties["FunctionName"])


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
        dates = dict.fromkeys(("CreationDate", "LastModificationDate"), _iso(group.created_on))
        return cls(group.name, properties, {"Arn": group.arn, "State": "ACTIVE", **dates})

    def change(self, properties: Properties, place: Place) -> None:
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
            _tags(properties),
            RetentionInDays=_number(properties.get("RetentionInDays")),
            kmsKeyId=properties.get("KmsKeyId"),
        )
        # CloudFormation's attribute ends in :*, the API's field of the same name does too.
        return cls(group.name, properties, {"Arn": f"{group.arn}:*"})

    def change(self, properties: Properties, place: Place) -> None:
        place.logs.groups[self.physical_resource_id].set_retention_policy(_number(properties.get("RetentionInDays")))

    def remove(self, place: Place) -> None:
        place.logs.delete_log_group(self.physical_resource_id)


class RoleResource(Resource, CloudFormationModel):
    """AWS::IAM::Role: moto 5.2.5 updates neither its inline policies nor who may assume it."""

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
        role.assume_role_policy_document = _json(properties["AssumeRolePolicyDocument"])
        wanted = {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies", [])}
        own = {policy["PolicyName"] for policy in self.properties.get("Policies", [])}
        for name in own - set(wanted):
            role.delete_policy(name)
        for name, document in wanted.items():
            role.put_policy(name, _json(document))

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
        print(f"lab: {resource_type} is not modelled: it is accepted and has no effect", file=sys.stderr)
    return NotModelledResource


_moto_class_of = parsing.resource_class_from_type


def install() -> None:
    """Let moto find the classes of this module."""
    parsing.get_model_list.cache_clear()
    parsing.get_model_map.cache_clear()
    parsing.get_name_type_map.cache_clear()
    parsing.resource_class_from_type = _class_of


# Helpers ---------------------------------------------------------------------------------------------


def _gone_with_its_api() -> contextlib.AbstractContextManager[None]:
    """Deleting a part of an API that is gone already is no failure."""
    return contextlib.suppress(ApiNotFoundException, KeyError)


def _integration(integration: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "integration_type": integration["Type"],
        "uri": integration.get("Uri", ""),
        "integration_method": integration.get("IntegrationHttpMethod", ""),
        "credentials": integration.get("Credentials"),
        "request_templates": integration.get("RequestTemplates"),
        "passthrough_behavior": integration.get("PassthroughBehavior"),
        "timeout_in_millis": integration.get("TimeoutInMillis"),
        "request_parameters": integration.get("RequestParameters"),
        "content_handling": integration.get("ContentHandling"),
        "connection_type": integration.get("ConnectionType"),
    }


def _function_specification(properties: Properties) -> dict[str, Any]:
    names = (
        "Description", "Handler", "Role", "Runtime", "MemorySize", "Timeout", "VpcConfig", "Environment", "Layers",
        "ReservedConcurrentExecutions", "PackageType", "TracingConfig", "Architectures", "ImageConfig",
        "EphemeralStorage", "LoggingConfig", "KmsKeyArn",
    )  # fmt: skip
    specification = {name: properties[name] for name in names if name in properties}
    for name in ("MemorySize", "Timeout", "ReservedConcurrentExecutions"):
        if name in specification:
            specification[name] = int(specification[name])
    if "EphemeralStorage" in specification:
        specification["EphemeralStorage"] = {"Size": int(specification["EphemeralStorage"]["Size"])}
    return {**specification, "Tags": _tags(properties)}


def _schedule(properties: Properties) -> dict[str, Any]:
    return {
        "description": properties.get("Description"),
        "end_date": _epoch(properties.get("EndDate")),
        "flexible_time_window": properties["FlexibleTimeWindow"],
        "group_name": properties.get("GroupName"),
        "kms_key_arn": properties.get("KmsKeyArn"),
        "schedule_expression": properties["ScheduleExpression"],
        "schedule_expression_timezone": properties.get("ScheduleExpressionTimezone"),
        "start_date": _epoch(properties.get("StartDate")),
        "state": properties.get("State", "ENABLED"),
        "target": _numbers(dict(properties["Target"])),
    }


def _numbers(target: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation may carry numbers as text; the API answers numbers."""
    if "RetryPolicy" in target:
        target["RetryPolicy"] = {key: int(value) for key, value in target["RetryPolicy"].items()}
    return target


def _epoch(date: str | None) -> float | None:
    if date is None:
        return None
    parsed = dt.datetime.fromisoformat(date)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)).timestamp()


def _iso(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()


def _endpoint(properties: Properties) -> dict[str, Any]:
    return _decapitalized_keys(properties.get("EndpointConfiguration")) or {"types": ["EDGE"]}


def _roles(place: Place) -> Any:
    return iam_backends[place.account_id][get_partition(place.region)]


def _tags(properties: Properties) -> dict[str, str]:
    tags: Iterable[Mapping[str, str]] = properties.get("Tags") or []
    return {tag["Key"]: tag["Value"] for tag in tags}


def _flag(value: Any) -> bool:
    return str(value).lower() == "true"


def _alias_values(properties: Properties) -> tuple[str, str, dict[str, Any]]:
    """Version, description and routing, the latter by the API's names."""
    shared = (properties.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or []
    weights = {str(one["FunctionVersion"]): float(one["FunctionWeight"]) for one in shared}
    return str(properties["FunctionVersion"]), properties.get("Description", ""), {"AdditionalVersionWeights": weights}


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _decapitalized(name: str) -> str:
    return name[:1].lower() + name[1:]


def _decapitalized_keys(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_decapitalized(key): value for key, value in (values or {}).items()}
