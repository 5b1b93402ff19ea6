"""API Gateway's resource types that moto lacks, or cannot update or delete."""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Self

from moto.apigateway.exceptions import NotFoundException as ApiNotFoundException
from moto.core.common_models import CloudFormationModel

from lab.services.cloudformation.resource import Place, Properties, Resource, flag, tags_of


class RestApiResource(Resource, CloudFormationModel):
    """AWS::ApiGateway::RestApi: moto 5.2.5 keeps name and description only, and neither updates nor deletes it."""

    kind = "AWS::ApiGateway::RestApi"
    attributes = frozenset({"RootResourceId", "RestApiId"})

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        if "Body" in properties or "BodyS3Location" in properties:
            raise ValueError("a REST API from an OpenAPI document is not modeled; declare resources and methods")
        api = place.apis.create_rest_api(
            name=properties.get("Name", name),
            description=properties.get("Description", ""),
            api_key_source=properties.get("ApiKeySourceType"),
            endpoint_configuration=_endpoint(properties),
            tags=tags_of(properties),
        )
        api.binaryMediaTypes = list(properties.get("BinaryMediaTypes", []))
        return cls(api.id, properties, {"RootResourceId": api.root_resource_id, "RestApiId": api.id})

    def change(self, properties: Properties, place: Place) -> None:
        api = place.apis.get_rest_api(self.physical_resource_id)
        api.name = properties.get("Name", api.name)
        api.description = properties.get("Description", "")
        api.api_key_source = properties.get("ApiKeySourceType") or "HEADER"
        api.endpoint_configuration = _endpoint(properties)
        api.tags = self.tags_after(properties, api.tags)
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
    """AWS::ApiGateway::Method: moto 5.2.5 wants a URI (mocks have none), drops the time-out, and does not update."""

    kind = "AWS::ApiGateway::Method"
    replaced_by = ("RestApiId", "ResourceId", "HttpMethod")

    def change(self, properties: Properties, place: Place) -> None:
        where = {
            "function_id": properties["RestApiId"],
            "resource_id": properties["ResourceId"],
            "method_type": properties["HttpMethod"],
        }
        resource = place.apis.get_resource(properties["RestApiId"], properties["ResourceId"])
        resource.add_method(
            properties["HttpMethod"],
            properties.get("AuthorizationType", "NONE"),
            flag(properties.get("ApiKeyRequired")),
        )
        if "Integration" in properties:
            place.apis.put_integration(**where, **_integration(properties["Integration"]))

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
            properties["RestApiId"], made.physical_resource_id, properties["DeploymentId"], tags=tags_of(properties)
        )
        made.change(properties, place)
        return made

    def change(self, properties: Properties, place: Place) -> None:
        stage = place.apis.get_stage(properties["RestApiId"], self.physical_resource_id)
        stage.deployment_id = properties["DeploymentId"]
        stage.description = properties.get("Description", "")
        stage.variables = dict(properties.get("Variables") or {})
        stage.tracing_enabled = flag(properties.get("TracingEnabled"))
        stage.tags = self.tags_after(properties, stage.tags)
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
                "enabled": flag(properties.get("Enabled")),
                "value": properties.get("Value"),
                "tags": tags_of(properties),
            }
        )
        return cls(key.id, properties, {"APIKeyId": key.id})

    def change(self, properties: Properties, place: Place) -> None:
        key = place.apis.get_api_key(self.physical_resource_id)
        key.description = properties.get("Description")
        key.enabled = flag(properties.get("Enabled"))
        key.tags = self.tags_after(properties, key.tags)

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
        plan.tags = self.tags_after(properties, plan.tags)
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


def _gone_with_its_api() -> contextlib.AbstractContextManager[None]:
    """Deleting a part of an API that is gone already is no failure."""
    return contextlib.suppress(ApiNotFoundException, KeyError)


def _integration(integration: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "integration_type": integration["Type"],
        "uri": integration.get("Uri", ""),
        "integration_method": integration.get("IntegrationHttpMethod", ""),
        "credentials": integration.get("Credentials"),
        "timeout_in_millis": integration.get("TimeoutInMillis"),
    }


def _endpoint(properties: Properties) -> dict[str, Any]:
    return _decapitalized_keys(properties.get("EndpointConfiguration")) or {"types": ["EDGE"]}


def _decapitalized(name: str) -> str:
    return name[:1].lower() + name[1:]


def _decapitalized_keys(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_decapitalized(key): value for key, value in (values or {}).items()}
