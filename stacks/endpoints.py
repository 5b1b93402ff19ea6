"""One REST API with `GET /{model}/{memory_mb}`: what the warm and the load experiment call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from core import strict_json
from core.configuration import Configuration
from core.variants import Variant
from stacks.acknowledgements import NO_TRACING, acknowledge
from stacks.functions import build_log_group


class Endpoints(cdk.NestedStack):
    """The REST API of one group of variants."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        configuration: Configuration,
        group: str,
        functions: Mapping[Variant, lambda_.IFunction],
    ) -> None:
        super().__init__(scope, id_, description="REST endpoints of the image classification functions")
        self._configuration = configuration
        self._group = group
        self._functions = functions
        self._is_signed = configuration.gateway.auth == "iam"
        name = configuration.names.api(group)
        self.api = self._build_api(name)
        self._validator = self.api.add_request_validator(
            "Validator", validate_request_parameters=True, validate_request_body=True
        )
        self.key = None if self._is_signed else self._build_key(name)
        self._add_routes()
        self._add_answer_for_unknown_paths()
        by_key = "The API key and its usage plan limit who calls and how often; a client needs no AWS identity."
        by_signature = "Callers sign with an AWS identity that may call this API; the stage limits how often."
        callers = by_signature if self._is_signed else by_key
        no_logs = "API Gateway writes logs by a role of the whole account, which is not ours to set; clients log calls."
        acknowledge(
            self,
            {
                "AwsSolutions::AwsSolutions-APIG1": no_logs,
                "AwsSolutions::AwsSolutions-APIG6": no_logs,
                "AwsSolutions::AwsSolutions-APIG4": callers,
                "AwsSolutions::AwsSolutions-COG4": callers,
                "AwsSolutions::AwsSolutions-APIG3": "A firewall would add to the latency that is measured.",
                "Serverless::Serverless-APIGWAccessLogging": no_logs,
                "Serverless::Serverless-APIGWXrayEnabled": NO_TRACING,
            },
        )

    def _build_api(self, name: str) -> apigateway.RestApi:
        api = apigateway.RestApi(
            self,
            "Api",
            rest_api_name=name,
            # The default, EDGE, would add a CloudFront hop to every latency measured.
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            policy=self._build_policy(),
            # The role for gateway logs is a setting of the whole account, which is not ours to change.
            cloud_watch_role=False,
            deploy_options=apigateway.StageOptions(
                stage_name=self._configuration.gateway.stage_name,
                throttling_rate_limit=self._configuration.gateway_rate_rps,
                throttling_burst_limit=self._configuration.gateway_burst,
                **self._access_logs(),
            ),
        )
        api.node.try_remove_child("Endpoint")  # an output under a generated name; the root stack has ours
        return api

    def _access_logs(self) -> dict[str, Any]:
        """Return the options of a stage that logs who asked for what; none where that is off."""
        if not self._configuration.gateway.access_logs:
            return {}
        name = self._configuration.names.access_log_group(self._group)
        group = build_log_group(self, "AccessLogs", name, self._configuration)
        return {
            "access_log_destination": apigateway.LogGroupLogDestination(group),
            "access_log_format": apigateway.AccessLogFormat.json_with_standard_fields(
                caller=True, http_method=True, ip=True, protocol=True, request_time=True, resource_path=True,
                response_length=True, status=True, user=True,
            ),
        }  # fmt: skip

    def _build_policy(self) -> iam.PolicyDocument | None:
        """Build the resource policy that lets in the allowed networks alone; None where every network is allowed.

        Without identities, what is not allowed is denied. With them, the identity's own policy would be enough, so the
        other networks have to be denied.
        https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-authorization-flow.html
        """
        cidrs = self._configuration.gateway.allowed_cidrs
        if not cidrs:
            return None
        invoke = iam.PolicyStatement(
            effect=iam.Effect.DENY if self._is_signed else iam.Effect.ALLOW,
            actions=["execute-api:Invoke"],
            principals=[iam.AnyPrincipal()],
            resources=["execute-api:/*"],
            conditions={"NotIpAddress" if self._is_signed else "IpAddress": {"aws:SourceIp": list(cidrs)}},
        )
        return iam.PolicyDocument(statements=[invoke])

    def _build_key(self, name: str) -> apigateway.IApiKey:
        """Build the key that every call has to carry, and the usage plan that limits what it may cost.

        API Gateway makes up the key's value, so that no template holds it.
        """
        key = self.api.add_api_key("Key", api_key_name=name)
        plan = self.api.add_usage_plan(
            "UsagePlan",
            name=name,
            throttle=apigateway.ThrottleSettings(
                rate_limit=self._configuration.gateway_rate_rps, burst_limit=self._configuration.gateway_burst
            ),
            api_stages=[apigateway.UsagePlanPerApiStage(api=self.api, stage=self.api.deployment_stage)],
        )
        plan.add_api_key(key)
        return key

    def _add_routes(self) -> None:
        # Fixed paths instead of parameters: what is not deployed is refused by the gateway itself.
        for variant, function in self._functions.items():
            self.api.root.resource_for_path(variant.route).add_method(
                "GET",
                # Permission for the console's test button would be one more resource a method.
                apigateway.LambdaIntegration(
                    function,
                    allow_test_invoke=False,
                    timeout=cdk.Duration.millis(self._configuration.gateway.integration_timeout_ms),
                ),
                api_key_required=not self._is_signed,
                authorization_type=(
                    apigateway.AuthorizationType.IAM if self._is_signed else apigateway.AuthorizationType.NONE
                ),
                request_parameters={"method.request.querystring.image": False},
                request_validator=self._validator,
            )

    def _add_answer_for_unknown_paths(self) -> None:
        """Answer 404 and the paths there are, where API Gateway by itself says 403 "Missing Authentication Token"."""
        signed = "a signed GET" if self._is_signed else "a GET"
        body = {
            "error": f"no such endpoint; expected {signed} of one of these paths",
            "allowed": [variant.route for variant in self._configuration.variants],
        }
        self.api.add_gateway_response(
            "UnknownPath",
            type=apigateway.ResponseType.MISSING_AUTHENTICATION_TOKEN,
            status_code="404",
            templates={"application/json": strict_json.dumps(body)},
        )
