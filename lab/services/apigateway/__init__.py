"""API Gateway's data plane for REST APIs: routing, proxy events, throttles, the gateway's own answers, metrics."""
