"""A Lambda Runtime API for one environment: what the function's tests need of Lambda, and no more.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab.images.base import PACKAGES, make_base

PATIENCE_S = 900.0  # the machine may be busy with other things


@dataclass(frozen=True)
class Answer:
    request_id: str
    payload: Any
    failed: bool  # the runtime reported an error instead of a response


class Environment:
    """A real `awslambdaric` process on a function's directory, fed with events through HTTP."""

    def __init__(self, root: Path, *, memory_mb: int = 3008, variables: Mapping[str, str] | None = None) -> None:
        self._events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[Answer] = queue.Queue()
        self.init_error: dict[str, Any] | None = None
        self._ready_or_failed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._log = (root.parent / f"log-{uuid.uuid4().hex}").open("w+b")
        self.process = subprocess.Popen(
            [str(make_base(root.parent / "base")), "-m", "awslambdaric", "handler.handler"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",  # the folder is shared
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_address[1]}",
                "AWS_LAMBDA_FUNCTION_NAME": "inference-lab-test",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
                "LAMBDA_TASK_ROOT": str(root),
                "PYTHONPATH": str(root / PACKAGES),
                "_HANDLER": "handler.handler",
                **(variables or {}),
            },
        )

    def invoke(self, event: object) -> Answer:
        """Send one event and wait for what the runtime reports about it."""
        request_id = str(uuid.uuid4())
        self._events.put((request_id, json.dumps(event).encode()))
        answer = self._answers.get(timeout=PATIENCE_S)
        assert answer.request_id == request_id
        return answer

    def wait_for_init(self) -> dict[str, Any] | None:
        """Wait for the end of init; returns the error the runtime reported, None where it went well."""
        assert self._ready_or_failed.wait(PATIENCE_S), self.log
        return self.init_error

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """What the function logged as JSON, in order."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._server.shutdown()
        self._server.server_close()
        self._log.close()
        Path(self._log.name).unlink()

    def _handler(environment) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                environment._ready_or_failed.set()
                request_id, payload = environment._events.get()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + PATIENCE_S) * 1000)))
                self.send_header("Lambda-Runtime-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0")
                self.send_header("Content-Type", "application/json")
                self.send_header(
                    "Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:x"
                )
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                parts = self.path.split("/")
                if parts[-2:] == ["init", "error"]:
                    environment.init_error = body
                    environment._ready_or_failed.set()
                else:
                    environment._answers.put(Answer(parts[-2], body, failed=parts[-1] == "error"))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
