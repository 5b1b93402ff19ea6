"""API Gateway's data plane for REST APIs: routing, proxy events, throttles, the gateway's own answers, metrics."""

from lab.services.apigateway.http import Target, add_routes, serve, target_of
from lab.services.apigateway.moto_apis import MotoApis
from lab.services.apigateway.service import Gateway

__all__ = ["Gateway", "MotoApis", "Target", "add_routes", "serve", "target_of"]
