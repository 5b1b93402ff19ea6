"""A REST API in moto, an invoker in memory, and the gateway between them over real HTTP."""

import asyncio
import contextlib
import json
import socket
import uuid

import boto3
from aiohttp import ClientSession, web
from yarl import URL

from lab.contracts import ACCOUNT_ID, InvokeResult
from lab.services.apigateway.http import add_routes
from lab.services.apigateway.moto_apis import MotoApis
from lab.services.apigateway.service import Gateway

REGION = "us-east-1"


def function_arn(name):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name}"


def lambda_uri(arn):
    return f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"


class MemoryInvoker:
    """The contract's Invoker: each function is a Python callable from event to answer (a value, bytes or a result)."""

    def __init__(self):
        self.functions = {}
        self.events = []
        self.finished = []
        self.calls = []

    async def invoke(
        self,
        name_or_arn,
        payload,
        *,
        invocation_type="RequestResponse",
        qualifier=None,
        log_tail=False,
        trace_id=None,
        client_context=None,
    ):
        event = json.loads(payload)
        self.events.append(event)
        self.calls.append((name_or_arn, qualifier, trace_id))
        request_id = str(uuid.uuid4())

        async def run():
            answer = self.functions[name_or_arn.rsplit(":", 1)[-1]](event)
            if asyncio.iscoroutine(answer):
                answer = await answer
            self.finished.append(event)
            if isinstance(answer, InvokeResult):
                return answer
            return InvokeResult(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), request_id)

        # As the data plane promises: the function goes on when its caller is cancelled.
        return await asyncio.shield(asyncio.ensure_future(run()))


class MemoryMetrics:
    def __init__(self):
        self.points = []

    def put(self, namespace, dimensions, timestamp_s, values):
        self.points.extend((namespace, name, dict(dimensions), value, unit) for name, unit, value in values)

    def named(self, name, **dimensions):
        return [p[3] for p in self.points if p[1] == name and p[2] == dimensions]


class Api:
    """A REST API being built in the control plane through boto3."""

    def __init__(self, *, name="lab-api", binary=(), stage="v1"):
        self.client = boto3.client(
            "apigateway", region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
        )
        self.id = self.client.create_rest_api(name=name)["id"]
        for kind in binary:  # the control plane takes them by patch only
            self.client.update_rest_api(
                restApiId=self.id, patchOperations=[{"op": "add", "path": "/binaryMediaTypes", "value": kind}]
            )
        self.stage = stage
        self._resources = {"/": self.client.get_resources(restApiId=self.id)["items"][0]["id"]}

    def resource(self, path):
        if path not in self._resources:
            parent, _, part = path.rpartition("/")
            self._resources[path] = self.client.create_resource(
                restApiId=self.id, parentId=self.resource(parent or "/"), pathPart=part
            )["id"]
        return self._resources[path]

    def method(self, path, http_method, function, *, timeout_ms=None, uri=None, **method):
        resource = self.resource(path)
        self.client.put_method(
            restApiId=self.id,
            resourceId=resource,
            httpMethod=http_method,
            **{"authorizationType": "NONE", **method},
        )
        extra = {"timeoutInMillis": timeout_ms} if timeout_ms else {}
        self.client.put_integration(
            restApiId=self.id,
            resourceId=resource,
            httpMethod=http_method,
            type="AWS_PROXY",
            integrationHttpMethod="POST",
            uri=uri or lambda_uri(function_arn(function)),
            **extra,
        )

    def deploy(self, variables=None):
        deployment = self.client.create_deployment(restApiId=self.id)["id"]
        stages = [s["stageName"] for s in self.client.get_stages(restApiId=self.id)["item"]]
        if self.stage in stages:
            self.client.update_stage(
                restApiId=self.id,
                stageName=self.stage,
                patchOperations=[{"op": "replace", "path": "/deploymentId", "value": deployment}],
            )
        else:
            self.client.create_stage(
                restApiId=self.id, stageName=self.stage, deploymentId=deployment, variables=variables or {}
            )

    def patch_stage(self, **values):
        self.client.update_stage(
            restApiId=self.id,
            stageName=self.stage,
            patchOperations=[{"op": "replace", "path": p, "value": str(v)} for p, v in values.items()],
        )

    def path(self, rest):
        return f"/_aws/execute-api/{self.id}/{self.stage}{rest}"


class Served:
    """The gateway on a free port of loopback."""

    def __init__(self, session, port, invoker, metrics):
        self.session, self.port, self.invoker, self.metrics = session, port, invoker, metrics

    async def send(self, method, path, **kwargs):
        """(status, headers, body) of one request; `path` is sent as written."""
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, **kwargs) as response:
            return response.status, response.headers, await response.read()

    async def raw(self, data):
        """What the server sends back for these bytes until it closes or falls silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        answer = b""
        with contextlib.suppress(asyncio.TimeoutError):
            while chunk := await asyncio.wait_for(reader.read(65536), 2):
                answer += chunk
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def serving(invoker):
    metrics = MemoryMetrics()
    gateway = Gateway(MotoApis(), invoker, metrics)

    async def elsewhere(request):
        return web.Response(text="not the gateway")

    app = web.Application()
    add_routes(app, gateway)
    app.router.add_route("*", "/{tail:.*}", elsewhere)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    await web.SockSite(runner, listener).start()
    async with ClientSession() as session:
        yield Served(session, listener.getsockname()[1], invoker, metrics)
    await runner.cleanup()


def run(invoker, body):
    """Run an async test body against a served gateway."""

    async def main():
        async with serving(invoker) as served:
            return await body(served)

    return asyncio.run(main())
