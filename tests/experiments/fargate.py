"""ECS where a task is a process of this machine: the container's own command, in a directory of its own.

It answers what a load asks of ECS and of Service Quotas, in their protocol (JSON 1.1).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from core.paths import REPOSITORY
from tests.loadtests.conftest import free_port

ADDRESS = "127.0.0.1"


class Tasks:
    """The tasks that were run, by ARN."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        port = free_port()
        # Every task of one address has the same port; on AWS, each has an address of its own.
        ports = {"LOCUST_MASTER_BIND_PORT": port, "LOCUST_MASTER_NODE_PORT": port}
        self._environment = {**environment, **ports, "PYTHONPATH": str(REPOSITORY)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.names: dict[str, str] = {}
        self._started_by: dict[str, str] = {}
        self._described: set[str] = set()
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.requests.append((operation, asked))
        match operation:
            case "RunTask":
                return {"tasks": [self._run(asked)], "failures": []}
            case "DescribeTasks":
                described = [self._describe(arn) for arn in asked["tasks"]]
                self._described |= set(asked["tasks"])
                return {"tasks": described, "failures": []}
            case "ListTasks":
                mine = [arn for arn, by in self._started_by.items() if by == asked.get("startedBy", by)]
                return {"taskArns": [arn for arn in mine if self.processes[arn].poll() is None]}
            case "StopTask":
                if self.processes[asked["task"]].poll() is None:
                    self.processes[asked["task"]].terminate()
                    os.killpg(self.processes[asked["task"]].pid, signal.SIGCONT)
                return {"task": self._describe(asked["task"])}
        assert operation == "GetServiceQuota", operation
        return {"Quota": {"QuotaCode": asked["QuotaCode"], "Value": 6.0}}

    def was_described(self, name: str) -> bool:
        """Whether the load has asked for the state of a task."""
        return any(self.names[arn] == name for arn in list(self._described))

    def kill(self, name: str) -> None:
        """Kill a task with everything in it, as a host that fails does."""
        (arn,) = (arn for arn, one in self.names.items() if one == name and self.processes[arn].poll() is None)
        os.killpg(self.processes[arn].pid, signal.SIGKILL)

    def pause(self) -> list[str]:
        """Hold every task that runs until it is asked to stop; returns their ARNs."""
        running = [arn for arn, process in self.processes.items() if process.poll() is None]
        for arn in running:
            os.killpg(self.processes[arn].pid, signal.SIGSTOP)
        return running

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _run(self, asked: dict[str, Any]) -> dict[str, Any]:
        (override,) = asked["overrides"]["containerOverrides"]
        variables = {one["name"]: one["value"] for one in override["environment"]}
        number = len(self.processes)
        arn = f"arn:aws:ecs:us-east-1:123456789012:task/{asked['cluster']}/{number:032x}"
        directory = self._directory / f"task-{number}"
        directory.mkdir()
        with (directory / "log").open("wb") as log:
            self.processes[arn] = subprocess.Popen(
                [sys.executable, "-m", "loadtests.task", *override["command"]],
                cwd=directory,
                env={**self._environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.names[arn] = override["command"][override["command"].index("--name") + 1]
        self._started_by[arn] = asked["startedBy"]
        return self._describe(arn)

    def _describe(self, arn: str) -> dict[str, Any]:
        code = self.processes[arn].poll()
        state: dict[str, Any] = {"lastStatus": "RUNNING"}
        container: dict[str, Any] = {"name": "locust"}
        if code is not None:
            state = {"lastStatus": "STOPPED", "stoppedReason": "Essential container in task exited"}
            container["exitCode"] = 128 - code if code < 0 else code
        details = [{"name": "privateIPv4Address", "value": ADDRESS}]
        return {"taskArn": arn, **state, "attachments": [{"details": details}], "containers": [container]}


@contextmanager
def fargate(directory: Path, environment: Mapping[str, str]) -> Iterator[tuple[Tasks, dict[str, str]]]:
    """Serve ECS on loopback; yields its tasks, and the variables that send a program's requests to it."""
    tasks = Tasks(directory, environment)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(tasks.answer(self.headers["X-Amz-Target"].partition(".")[2], asked)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((ADDRESS, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://{ADDRESS}:{server.server_address[1]}"
    try:
        yield tasks, {"AWS_ENDPOINT_URL_ECS": url, "AWS_ENDPOINT_URL_SERVICE_QUOTAS": url}
    finally:
        tasks.end()
        server.shutdown()
        server.server_close()
        thread.join()
