"""A function that does what a well-behaved one never would, by the event's `do` (or the query string's)."""

import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path


def sleep(event):
    time.sleep(float(event["seconds"]))
    return "slept"


def fork(_event):
    """A child that outlives the call, in a session of its own, and one that forks again."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return "forked"


def mirror(event):
    """A proxy response with the body of the proxy event."""
    media = {"Content-Type": event["headers"]["Content-Type"]}
    return {"statusCode": 200, "headers": media, "body": event["body"], "isBase64Encoded": event["isBase64Encoded"]}


def print_much(event):
    line = "x" * 999
    for _ in range(int(event["bytes"]) // 1000):
        print(line)
    return "printed"


def fill_tmp(_event):
    written = 0
    try:
        with Path("/tmp/fill").open("wb") as file:
            while True:
                written += file.write(b"\0" * 1_000_000)
    except OSError as error:
        return {"errno": error.errno, "megabytes": written // 1_000_000}
    finally:
        Path("/tmp/fill").unlink()


def malformed_runtime_calls(event):
    """Talk to the Runtime API as no runtime would; the answers' status codes, in order."""
    host, _, prefix = os.environ["AWS_LAMBDA_RUNTIME_API"].partition("/")
    base = f"/{prefix}/2018-06-01/runtime" if prefix else "/2018-06-01/runtime"
    calls = [
        ("POST", f"{base}/invocation/not-a-request/response", b"{}"),
        ("POST", f"{base}/invocation/{'x' * 5000}/error", b"not json"),
        ("DELETE", f"{base}/invocation/next", b""),
        ("POST", f"{base}/init/error", b"{}"),
        ("GET", f"{base}/invocation/next", b""),
        ("GET", "/env/another/2018-06-01/runtime/invocation/next", b""),
        ("PUT", "/", b"\0" * 100),
        ("POST", f"{base}/nothing/of/the/kind", b"{}"),
    ]
    statuses = []
    for method, path, body in calls:
        connection = http.client.HTTPConnection(host, timeout=600)
        connection.request(method, path, body)
        statuses.append(connection.getresponse().status)
        connection.close()
    import socket

    for garbage in (b"\0\xff" * 100, b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n"):
        name, _, port = host.partition(":")
        with socket.create_connection((name, int(port)), timeout=600) as raw:
            raw.sendall(garbage)
            raw.shutdown(socket.SHUT_WR)
            raw.recv(4096)
    return statuses


def print_event(event):
    print(json.dumps(event))
    return "printed"


def echo(event):
    return event


ACTIONS = {
    action.__name__: action
    for action in (sleep, fork, print_much, fill_tmp, malformed_runtime_calls, print_event, echo, mirror)
}


def handler(event, context):
    request = event.get("queryStringParameters") or {} if "httpMethod" in event else event
    answer = ACTIONS[request.get("do", "echo")](request if "httpMethod" not in event else {**event, **request})
    if "httpMethod" not in event or request.get("do") == "mirror":
        return answer
    return {"statusCode": 200, "body": json.dumps(answer)}
