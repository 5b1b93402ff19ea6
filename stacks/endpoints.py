"""One REST API with `GET /{model}/{memory_mb}`: what the warm and the load experiment call."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

from core.configuration import Configuration
from stacks.named import named_function


class EndpointsStack(cdk.Stack):
    """The REST endpoint of every variant. Outputs: ApiId, StageName, ApiUrl."""

    def __init__(self, scope: Construct, id_: str, *, configuration: Configuration) -> None:
        super().__init__(scope, id_, description="REST endpoints of the image classification functions")
        self._configuration = configuration
        api = self._build_api()
        self._add_routes(api)
        self._add_answer_for_unknown_paths(api)
        self._add_outputs(api)

    def _build_api(self) -> apigateway.RestApi:
        api = apigateway.RestApi(
            self,
            "Api",
            rest_api_name=self._configuration.names.api,
            # The default, EDGE, would add a CloudFront hop to every latency measured.
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            # The role for gateway logs is a setting of the whole account, which is not ours to change.
            cloud_watch_role=False,
            deploy_options=apigateway.StageOptions(stage_name=self._configuration.gateway.stage_name),
        )
        api.node.try_remove_child("Endpoint")  # an output under a generated name; ours are below
        return api

    def _add_routes(self, api: apigateway.RestApi) -> None:
        # Fixed paths instead of parameters: what is not deployed is refused by the gateway itself.
        for variant in self._configuration.variants:
            _, model, memory_mb = variant.route.split("/")
            above = api.root.get_resource(model) or api.root.add_resource(model)
            above.add_resource(memory_mb).add_method(
                "GET",
                # Permission for the console's test button would be one more resource a method.
                apigateway.LambdaIntegration(
                    named_function(self, self._configuration, variant),
                    allow_test_invoke=False,
                    timeout=cdk.Duration.millis(self._configuration.gateway.integration_timeout_ms),
                ),
            )

    def _add_answer_for_unknown_paths(self, api: apigateway.RestApi) -> None:
        """Answer 404 and the paths there are, where API Gateway by itself says 403 "Missing Authentication Token"."""
        matrix = self._configuration.matrix
        body = {
            "error": "no such endpoint; expected GET /{model}/{memory_mb}",
            "allowed": {"model": list(matrix.models), "memory_mb": sorted(matrix.memory_sizes_mb)},
        }
        api.add_gateway_response(
            "UnknownPath",
            type=apigateway.ResponseType.MISSING_AUTHENTICATION_TOKEN,
            status_code="404",
            templates={"application/json": json.dumps(body)},
        )

    def _add_outputs(self, api: apigateway.RestApi) -> None:
        cdk.CfnOutput(self, "ApiId", value=api.rest_api_id)
        cdk.CfnOutput(self, "StageName", value=api.deployment_stage.stage_name)
        cdk.CfnOutput(self, "ApiUrl", value=api.url)
