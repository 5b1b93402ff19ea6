"""The Invoke API over HTTP, as boto3 and as hostile clients use it."""

import asyncio
import base64
import json
import socket
import uuid

import aiohttp
import boto3
import botocore.config
import pytest
from aiohttp import web

from lab.services.functions.invoke_api import InvokeFront, add_routes

ECHO = """
    def handler(event, context):
        print("seen", event)
        if event == "raise": raise ValueError("no")
        if isinstance(event, dict) and "size" in event: return "x" * event["size"]
        custom = context.client_context.custom if context.client_context else None
        return {"event": event, "custom": custom}
"""


class Served:
    """A lab behind its HTTP routes."""

    def __init__(self, lab):
        self.lab = lab

    async def __aenter__(self):
        await self.lab.__aenter__()
        app = web.Application()
        add_routes(app, self.lab.plane, self.lab.plane.fate)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = self.runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_):
        await self.session.close()
        await self.runner.cleanup()
        await self.lab.__aexit__()

    def client(self):
        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=600, connect_timeout=600),
        )

    async def post(self, body=b"{}", name="function", **headers):
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self.session.post(
            f"{self.url}/2015-03-31/functions/{name}/invocations", data=body, headers=headers
        ) as response:
            return response.status, dict(response.headers), await response.read()


@pytest.fixture
def served(lab):
    lab.function(ECHO)
    return Served(lab)


async def test_boto3_gets_payload_version_request_id_and_log_tail(served):
    async with served:
        context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
        answer = await asyncio.to_thread(
            served.client().invoke, FunctionName="function", Payload=b'{"a": 1}', LogType="Tail", ClientContext=context
        )
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    assert json.loads(answer["Payload"].read()) == {"event": {"a": 1}, "custom": {"a": "b"}}
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert "seen {'a': 1}" in tail
    assert f"REPORT RequestId: {answer['ResponseMetadata']['RequestId']}" in tail
    uuid.UUID(answer["ResponseMetadata"]["RequestId"], version=4)


async def test_boto3_gets_function_errors_and_raises_its_own_exceptions(served):
    async with served:
        client = served.client()
        answer = await asyncio.to_thread(client.invoke, FunctionName="function", Payload=b'"raise"')
        assert answer["FunctionError"] == "Unhandled"
        assert json.loads(answer["Payload"].read())["errorType"] == "ValueError"
        for name in ("nobody", "123456789012:function:nobody", "arn:aws:lambda:us-east-1:123456789012:function:nobody"):
            with pytest.raises(client.exceptions.ResourceNotFoundException) as missing:
                await asyncio.to_thread(client.invoke, FunctionName=name, Qualifier="1")
            assert missing.value.response["Error"]["Message"] == (
                "Function not found: arn:aws:lambda:us-east-1:123456789012:function:nobody:1"
            )
        with pytest.raises(client.exceptions.ResourceNotFoundException, match="function:live"):
            await asyncio.to_thread(client.invoke, FunctionName="function", Qualifier="live")
        with pytest.raises(client.exceptions.InvalidRequestContentException, match="parse"):
            await asyncio.to_thread(client.invoke, FunctionName="function", Payload=b"{not json")
        for payload in (b"NaN", b'{"a": [Infinity]}', b"-Infinity", '{"a": 1}'.encode("utf-16"), b"[" * 100_000):
            with pytest.raises(client.exceptions.InvalidRequestContentException, match="parse"):
                await asyncio.to_thread(client.invoke, FunctionName="function", Payload=payload)
        served.lab.change("function", reserved_concurrency=0)
        with pytest.raises(client.exceptions.TooManyRequestsException) as throttled:
            await asyncio.to_thread(client.invoke, FunctionName="function")
        assert throttled.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        with pytest.raises(client.exceptions.ClientError, match="RequestTooLargeException"):
            await asyncio.to_thread(client.invoke, FunctionName="function", Payload=b'"' + b"x" * (6 << 20) + b'"')


async def test_boto3_sends_events_and_their_fate_can_be_looked_up(served):
    async with served:
        answer = await asyncio.to_thread(served.client().invoke, FunctionName="function", InvocationType="Event")
        assert answer["StatusCode"] == 202
        request_id = answer["ResponseMetadata"]["RequestId"]
        while True:
            async with served.session.get(f"{served.url}/_lab/invocations/{request_id}") as response:
                fate = await response.json()
            if fate["state"] not in ("queued", "running"):
                break
            await asyncio.sleep(0.02)
        assert (fate["state"], fate["attempts"], fate["function_name"]) == ("succeeded", 1, "function")
        async with served.session.get(f"{served.url}/_lab/invocations/nothing") as response:
            assert response.status == 404


async def test_an_arn_a_partial_arn_and_a_qualified_name_are_names(served):
    async with served:
        for name in (
            "arn:aws:lambda:us-east-1:123456789012:function:function",
            "arn:aws:lambda:us-east-1:123456789012:function:function:$LATEST",
            "123456789012:function:function",
            "function:$LATEST",
        ):
            answer = await asyncio.to_thread(served.client().invoke, FunctionName=name)
            assert answer["StatusCode"] == 200, name


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X_Amz_Invocation_Type": "Later"}, "InvalidParameterValueException"),
        ({"X_Amz_Log_Type": "Head"}, "InvalidParameterValueException"),
        ({"X_Amz_Client_Context": "not base64!"}, "InvalidRequestContentException"),
        ({"X_Amz_Client_Context": base64.b64encode(b"not json").decode()}, "InvalidRequestContentException"),
        ({"X_Amz_Client_Context": base64.b64encode(b" " * 4000).decode()}, "InvalidRequestContentException"),
    ],
)
async def test_wrong_headers_are_refused_with_what_is_expected(served, headers, code):
    async with served:
        status, answer_headers, body = await served.post(**headers)
    assert status == 400
    assert answer_headers["x-amzn-ErrorType"] == code
    assert json.loads(body)["message"]


async def test_a_request_body_of_twenty_megabytes_is_refused_without_being_kept(served):
    async with served:

        async def chunks():
            for _ in range(20):
                yield b"x" * (1 << 20)

        status, headers, _ = await served.post(b"x" * (20 << 20))
        assert (status, headers["x-amzn-ErrorType"]) == (413, "RequestTooLargeException")
        try:
            status, _, _ = await served.post(chunks())
            assert status == 413
        except aiohttp.ClientConnectionError:
            pass  # the connection is closed while the rest is still being sent
        assert (await served.post())[0] == 200


async def test_a_client_that_goes_away_leaves_the_lab_in_order(served):
    async with served:
        await served.post()
        for cut in (b"POST /2015-03-31/functions/function/invocations HTTP/1.1\r\n", b"POST /2015-03-31/functions/fun"):
            for _ in range(20):
                _, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.write(cut)
                await writer.drain()
                writer.close()
        status, _, body = await served.post(b"5")
        assert (status, json.loads(body)["event"]) == (200, 5)


async def test_an_empty_body_is_an_empty_object(served):
    async with served:
        status, _, body = await served.post(b"")
    assert (status, json.loads(body)["event"]) == (200, {})


class Fronted(Served):
    """The same lab with the front before its application, as the lab's server has it."""

    async def __aenter__(self):
        await self.lab.__aenter__()
        app = web.Application()
        add_routes(app, self.lab.plane, self.lab.plane.fate)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.front = InvokeFront(self.lab.plane, self.runner.server, self.port)
        self.server = await asyncio.get_running_loop().create_server(self.front, sock=listener)
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *arguments):
        self.server.close()
        self.front.close()
        await super().__aexit__(*arguments)


@pytest.fixture
def fronted(lab):
    lab.function(ECHO)
    return Fronted(lab)


async def test_the_front_answers_as_the_application_does(fronted):
    def comparable(answer):
        status, headers, body = answer
        kept = {name.lower() for name in headers} - {"date", "server", "content-length", "x-amzn-requestid"}
        return status, {name: headers[name] for name in headers if name.lower() in kept}, body

    requests = [
        {"body": b'{"a": 1}'},
        {"body": b""},
        {"body": b"{no json"},
        {"body": b'"raise"'},
        {"body": b"1", "name": "nobody"},
        {"body": b"1", "name": "function:$LATEST"},
        {"body": b"1", "X_Amz_Invocation_Type": "DryRun"},
        {"body": b"1", "X_Amz_Invocation_Type": "Event"},
        {"body": b"1", "X_Amz_Invocation_Type": "Later"},
        {"body": b"1", "X_Amz_Client_Context": base64.b64encode(b'{"custom": {"x": "y"}}').decode()},
        {"body": b'{"size": 300000}'},
    ]
    async with fronted:
        for request in requests:
            plain = await fronted.post(**request)
            # A query is not plain: the application answers.
            headers = {name.replace("_", "-"): value for name, value in request.items() if name not in ("body", "name")}
            url = f"{fronted.url}/2015-03-31/functions/{request.get('name', 'function')}/invocations?x=1"
            async with fronted.session.post(url, data=request["body"], headers=headers) as response:
                by_application = response.status, dict(response.headers), await response.read()
            if b"requestId" in plain[2]:  # the payload of a function error names its own request
                plain = plain[0], plain[1], b""
                by_application = by_application[0], by_application[1], b""
            assert comparable(plain) == comparable(by_application), request


async def test_the_front_hands_everything_else_on_and_pipelined_requests_are_answered_in_order(fronted):
    def invoke(body, host=None):
        host = host or f"localhost:{fronted.port}"
        head = f"POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: {host}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    async with fronted:
        fate = f"GET /_lab/invocations/nothing HTTP/1.1\r\nHost: localhost:{fronted.port}\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", fronted.port)
        writer.write(invoke('"one"') + invoke('"two"') + invoke('"three"', "127.0.0.1:1") + fate.encode())
        text = (await reader.read()).decode()
        writer.close()
        answers = [answer for answer in text.split("HTTP/1.1 ") if answer]
        assert [answer[:3] for answer in answers] == ["200", "200", "200", "404"]
        assert [name for answer in answers for name in ("one", "two", "three") if f'"{name}"' in answer] == [
            "one",
            "two",
            "three",
        ]


async def test_the_front_takes_a_request_that_comes_in_parts_and_one_that_never_ends(fronted):
    async with fronted:
        _, never = await asyncio.open_connection("127.0.0.1", fronted.port)
        never.write(b"POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: localhost\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", fronted.port)
        request = (
            f"POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: localhost:{fronted.port}\r\n"
            "Content-Length: 7\r\nConnection: close\r\n\r\n"
        ).encode() + b'"parts"'
        for start in range(0, len(request), 20):
            writer.write(request[start : start + 20])
            await writer.drain()
            await asyncio.sleep(0.002)  # parts that arrive together nevertheless are only an easier case
        assert b'"parts"' in await reader.read()
        writer.close()
        never.close()


async def test_boto3_works_through_the_front(fronted):
    async with fronted:
        client = fronted.client()
        for number in range(5):
            answer = await asyncio.to_thread(
                client.invoke, FunctionName="function", Payload=str(number).encode(), LogType="Tail"
            )
            assert json.loads(answer["Payload"].read())["event"] == number
            assert f"seen {number}" in base64.b64decode(answer["LogResult"]).decode()
        with pytest.raises(client.exceptions.ClientError, match="RequestTooLargeException"):
            await asyncio.to_thread(client.invoke, FunctionName="function", Payload=b'"' + b"x" * (6 << 20) + b'"')
