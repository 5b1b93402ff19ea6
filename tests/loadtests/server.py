"""An endpoint with a settable service time, and as much of a lab around it as `find_deployment` asks for.

Run as a program it prints its address and serves until it is killed: `server.py [service_ms]`.
`POST /set` changes it while it runs, for example `{"service_ms": 200, "status": 429}`. `stall_after_s` and `stall_s`:
answer nothing for a while, counted from the first call after the change. `hang`: answer nothing until it is 0 again.
"""

import asyncio
import itertools
import json
import sys
import time

from aiohttp import web

API_KEY = "a-key-of-this-server"
OUTPUTS = {
    "ApiIdTensorflow": "abc",
    "ApiUrlTensorflow": "unused",
    "ApiKeyIdTensorflow": "key1",
    "ApiRateRpsTensorflow": "100000",
}
DESCRIBE_STACKS = """<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">
<DescribeStacksResult><Stacks><member><StackName>s</StackName><StackStatus>CREATE_COMPLETE</StackStatus>
<CreationTime>2026-01-01T00:00:00Z</CreationTime><Outputs>{outputs}</Outputs></member></Stacks></DescribeStacksResult>
</DescribeStacksResponse>"""
FACTS = {
    "source": "lab",
    "endpoint_url": None,
    "account_id": "123456789012",
    "region": "us-east-1",
    "host": "test",
    "limits": {"driver": "process", "cpu": "none", "memory": "none", "freezer": "none"},
    "time_scale": 1.0,
}

settings = {"service_ms": 0.0, "status": 200, "stall_after_s": 0.0, "stall_s": 0.0, "hang": 0}
numbers = itertools.count(1)
seen = {"calls": 0, "without_key": 0, "under_way": 0, "most_under_way": 0}
clock = {"first_call": None}


async def aws(request):
    outputs = "".join(
        f"<member><OutputKey>{k}</OutputKey><OutputValue>{v}</OutputValue></member>" for k, v in OUTPUTS.items()
    )
    return web.Response(text=DESCRIBE_STACKS.format(outputs=outputs), content_type="text/xml")


async def status(request):
    return web.json_response(FACTS)


async def change(request):
    changes = await request.json()
    settings.update(changes)
    if changes:
        clock["first_call"] = None
    return web.json_response(seen)


def rest_of_the_stall_s():
    now = time.perf_counter()
    clock["first_call"] = clock["first_call"] or now
    into_it = now - clock["first_call"] - settings["stall_after_s"]
    return settings["stall_s"] - into_it if 0 <= into_it < settings["stall_s"] else 0.0


async def api_key(request):
    return web.json_response({"id": request.match_info["id"], "value": API_KEY})


async def infer(request):
    number = next(numbers)
    seen["calls"] += 1
    # Counted only: the generators that ours is compared with send none.
    seen["without_key"] += request.headers.get("x-api-key") != API_KEY
    seen["under_way"] += 1
    seen["most_under_way"] = max(seen["most_under_way"], seen["under_way"])
    try:
        await asyncio.sleep(settings["service_ms"] / 1000 + rest_of_the_stall_s())
        while settings["hang"]:  # noqa: ASYNC110 - `POST /set` changes a number, which no event tells of
            await asyncio.sleep(0.02)
    finally:
        seen["under_way"] -= 1
    if settings["status"] != 200:
        body, headers = {"message": "Internal server error"}, {"x-amzn-ErrorType": "InternalServerErrorException"}
    else:
        body, headers = answer(request, number), {}
    return web.json_response(
        body, status=settings["status"], headers=headers | {"x-amzn-RequestId": f"gateway-{number}"}
    )


def answer(request, number):
    return {
        "schema_version": 1,
        "event": "inference",
        "model": request.match_info["model"],
        "engine": "tensorflow",
        "architecture": "x86_64",
        "weights": "random",
        "memory_mb": int(request.match_info["memory"]),
        "request_id": f"request-{number}",
        "environment_id": "e",
        "call_number": number,
        "cold": number == 1,
        "image": "a.jpg",
        "inference_ms": settings["service_ms"],
        "decode_ms": 0.0,
        "handler_ms": settings["service_ms"],
        "phases": {},
        "top5": [],
    }


async def main():
    settings["service_ms"] = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    app = web.Application()
    app.add_routes(
        [
            web.post("/", aws),
            web.get("/_lab/status", status),
            web.get("/apikeys/{id}", api_key),
            web.post("/set", change),
            web.get("/_aws/execute-api/abc/v1/{model}/{memory}", infer),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"url": f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
