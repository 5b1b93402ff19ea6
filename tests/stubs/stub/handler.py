"""A stand-in for functions/inference without TensorFlow: the same answer, and any misbehaviour on request.

Each setting is read from the query string (through API Gateway), else from the event's own field (direct invoke),
else from the environment variable STUB_<NAME>, which `UpdateFunctionConfiguration` or an ENV line of the image sets.

Before the first call, environment only:
  STUB_INIT_MS, STUB_INIT_BURN_MS     sleep, burn CPU time, at import
  STUB_INIT_ERROR=text                raise at import
  STUB_INIT_EXIT=code                 os._exit at import
  STUB_INIT_HOG_MB                    hold this much memory from import on
In a call, in this order:
  print_bytes, print_lines            print that many bytes in lines of 1000, that many short numbered lines
  stderr=text                         one line on stderr
  fork_s                              start a child process that sleeps this long, and do not wait for it
  fill_tmp_mb                         write a file of this size into /tmp (the answer's `tmp` says how it went)
  hog_mb                              hold this much memory from now on (touched, so it is resident)
  burn_ms                             burn this much CPU time; counts as inference_ms
  door=port                           wait until whoever listens on this loopback port closes the connection
  sleep_ms, sleep_until               sleep this long, or until this Unix time; counts as inference_ms
  jitter_ms                           sleep a random time up to this on top
  fail_share                          raise with this probability, 0 to 1
  error=text                          raise RuntimeError(text)
  exit=code                           sys.exit(code)
  signal=number                       kill the own process by this signal (9, 11, ...)
  response_bytes                      pad the answer by this many bytes
  response=text                       answer this text instead of an object (a malformed proxy response)
  status                              answer this HTTP status through API Gateway
  headers=1                           add a multi-value header and a binary body to the proxy response
  echo=1                              answer with the event, the environment's variables and the guest's CPU count
"""

from __future__ import annotations

import base64
import json
import os
import platform
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path

STARTED = time.perf_counter()
IMAGES = ["stub-0.jpg", "stub-1.jpg", "stub-2.jpg", "stub-3.jpg"]

environment_id = str(uuid.uuid4())
call_number = 0
held = []


def burn(milliseconds):
    """Use this much CPU time of this process (not wall time, so a CPU share stretches it)."""
    end = time.process_time() + milliseconds / 1000
    while time.process_time() < end:
        pass


def hog(megabytes):
    block = bytearray(int(megabytes) * 1024 * 1024)
    block[::4096] = b"x" * len(block[::4096])
    held.append(block)


def fill_tmp(megabytes):
    try:
        with (Path(tempfile.gettempdir()) / "stub-fill").open("wb") as file:
            file.writelines(b"\0" * 1024 * 1024 for _ in range(int(megabytes)))
        return f"wrote {int(megabytes)} MB"
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror}"


burn(float(os.environ.get("STUB_INIT_BURN_MS", "0")))
time.sleep(float(os.environ.get("STUB_INIT_MS", "0")) / 1000)
if "STUB_INIT_HOG_MB" in os.environ:
    hog(float(os.environ["STUB_INIT_HOG_MB"]))
if "STUB_INIT_ERROR" in os.environ:
    raise RuntimeError(os.environ["STUB_INIT_ERROR"])
if "STUB_INIT_EXIT" in os.environ:
    os._exit(int(os.environ["STUB_INIT_EXIT"]))
import_ms = (time.perf_counter() - STARTED) * 1000


def setting_of(event, name):
    query = event.get("queryStringParameters") or {}
    # A proxy event has fields of the same names, `headers` for one, that are no settings.
    own = None if "httpMethod" in event else event.get(name)
    for value in (query.get(name), own, os.environ.get("STUB_" + name.upper())):
        if value not in (None, ""):
            return value
    return None


def number_of(event, name):
    return float(setting_of(event, name) or 0)


def misbehave(setting, number, context):
    for _ in range(int(number("print_bytes")) // 1000):
        print("x" * 999)
    for line in range(int(number("print_lines"))):
        print(f"{context.aws_request_id} line {line}")
    if setting("stderr"):
        print(setting("stderr"), file=sys.stderr, flush=True)
    if setting("fork_s"):
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({number('fork_s')})"])


def work(setting, number):
    burn(number("burn_ms"))
    pause = number("sleep_ms") / 1000 + random.random() * number("jitter_ms") / 1000
    if setting("door"):
        with socket.create_connection(("127.0.0.1", int(number("door")))) as door:
            door.recv(1)
    if setting("sleep_until"):
        pause = max(0.0, number("sleep_until") - time.time())
    time.sleep(pause)


def fail(setting, number):
    if random.random() < number("fail_share"):
        raise RuntimeError("stub failure by chance")
    if setting("error"):
        raise RuntimeError(str(setting("error")))
    if setting("exit") is not None:
        sys.exit(int(number("exit")))
    if setting("signal"):
        os.kill(os.getpid(), int(number("signal")))
        signal.pause()


def echo_of(event, context):
    return {
        "event": event,
        "environment": dict(os.environ),
        "cpus": os.cpu_count(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "invoked_function_arn": context.invoked_function_arn,
        "trace_id": os.environ.get("_X_AMZN_TRACE_ID"),
    }


def handler(event, context):
    global call_number  # noqa: PLW0603 - an execution environment is a module's globals
    entered = time.perf_counter()
    call_number += 1
    event = event if isinstance(event, dict) else {}
    through_api = "httpMethod" in event
    setting = partial(setting_of, event)
    number = partial(number_of, event)

    image = setting("image") or random.choice(IMAGES)
    if image not in IMAGES:
        problem = {"error": f"no image {image!r}", "allowed": IMAGES}
        if through_api:
            return proxy(400, problem)
        return {"statusCode": 400, **problem}

    misbehave(setting, number, context)
    tmp = fill_tmp(number("fill_tmp_mb")) if setting("fill_tmp_mb") else None
    if setting("hog_mb"):
        hog(number("hog_mb"))

    before = time.perf_counter()
    work(setting, number)
    inference_ms = (time.perf_counter() - before) * 1000
    fail(setting, number)
    if setting("response"):
        return str(setting("response"))

    first = call_number == 1
    facts = {
        "schema_version": 1,
        "event": "inference",
        "model": json.loads(os.environ.get("RECORD", '{"name": "mobilenet"}'))["name"],
        "engine": os.environ.get("ENGINE", "tensorflow"),
        "architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
        "weights": "random",
        "memory_mb": int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0")),
        "request_id": context.aws_request_id,
        "environment_id": environment_id,
        "call_number": call_number,
        "cold": first,
        "image": image,
        "inference_ms": round(inference_ms, 3),
        "decode_ms": 0.0,
        "handler_ms": round((time.perf_counter() - entered) * 1000, 3),
        "init_to_call_ms": 0.0 if first else None,
        "initialization": os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE"),
        "phases": {
            "import_ms": round(import_ms, 3) if first else None,
            "load_ms": 0.0 if first else None,
            "first_inference_ms": round(inference_ms, 3) if first else None,
        },
    }
    print(json.dumps(facts), flush=True)
    answer = {**facts, "top5": [{"class_index": n, "label": f"class {n}", "probability": 0.2} for n in range(5)]}
    if tmp:
        answer["tmp"] = tmp
    if setting("echo"):
        answer["echo"] = echo_of(event, context)
    if setting("response_bytes"):
        answer["padding"] = "x" * int(number("response_bytes"))
    if not through_api:
        return answer
    if setting("headers"):
        return {
            "statusCode": 200,
            "headers": {"content-type": "application/octet-stream"},
            "multiValueHeaders": {"x-stub": ["one", "two"]},
            "isBase64Encoded": True,
            "body": base64.b64encode(bytes(range(256))).decode(),
        }
    return proxy(int(number("status")) or 200, answer)


def proxy(status, body):
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}
