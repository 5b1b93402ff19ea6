"""A lab for tests: a process of its own, on a free port, with a state directory that is thrown away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.config

from core.configuration import Configuration
from core.paths import NODE_COMMANDS, REPOSITORY
from core.variants import part
from lab.contracts import ACCOUNT_ID
from lab.images.docker_cli import MANIFEST_TYPE
from lab.images.image_store import DirectoryImageStore, ImageRecord

# Generous: other tests may have the machine to themselves for a while. It is waited for by events, not slept.
START_PATIENCE_S = 600.0
STOP_PATIENCE_S = 300.0


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Hold a loopback port that nobody can listen on, so that every connection to it is refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@dataclass
class Lab:
    """A running lab."""

    port: int
    state: Path
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)  # its standard error, line by line
    images: Path | None = None  # its image store, as it was told at its start; None for the checkout's own

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of `inference-lab lab env`, over a copy of this process's without its own AWS_ ones."""
        from lab.cli import client_environment

        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        inherited["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), str(NODE_COMMANDS), inherited.get("PATH", "")]
        )
        return {**inherited, **client_environment(self.url)}

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of this lab, one attempt a call unless `config` says otherwise."""
        variables = self.environment
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=variables["AWS_REGION"],
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
            config=botocore.config.Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": 600, **config}),
        )

    def status(self) -> dict[str, Any]:
        """The answer of GET /_lab/status."""
        with urllib.request.urlopen(f"{self.url}/_lab/status", timeout=600) as answer:
            return json.load(answer)

    def api_url(self, configuration: Configuration, engine: str = "tensorflow") -> str:
        """Base address of a deployed REST API, from the outputs of the stack."""
        stacks = self.client("cloudformation").describe_stacks(StackName=configuration.names.stack)["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}
        return f"{self.url}/_aws/execute-api/{outputs[part('ApiId', engine)]}/{configuration.gateway.stage_name}"

    def get(self, configuration: Configuration, path: str, *, key: str | None = None) -> tuple[int, Any]:
        """GET below the deployed stage with the deployment's key, or another: status and JSON."""
        key = self.api_key(configuration) if key is None else key
        request = urllib.request.Request(f"{self.api_url(configuration)}{path}", headers={"x-api-key": key})
        try:
            with urllib.request.urlopen(request, timeout=960) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def api_key(self, configuration: Configuration, engine: str = "tensorflow") -> str:
        """Value of the key that a deployed REST API asks for."""
        items = self.client("apigateway").get_api_keys(includeValues=True)["items"]
        (value,) = (item["value"] for item in items if item["name"] == configuration.names.api(engine))
        return str(value)

    def push_image(self, name: str = "repository:tag") -> str:
        """Push an image that no environment starts from, as `repository:tag`; return its URI."""
        repository, _, tag = name.partition(":")
        uri = f"{ACCOUNT_ID}.dkr.ecr.us-east-1.amazonaws.com/{name}"
        record = ImageRecord(id=f"sha256:{hashlib.sha256(name.encode()).hexdigest()}", command=("x.x",), pushed=True)
        store = DirectoryImageStore(self.images)
        (store.content(record.id) / "root").mkdir(parents=True, exist_ok=True)
        store.name(uri, record)
        ecr = self.client("ecr")
        with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):
            ecr.create_repository(repositoryName=repository)
        manifest = json.dumps({"mediaType": MANIFEST_TYPE, "config": {"digest": record.id}})
        with contextlib.suppress(ecr.exceptions.ImageAlreadyExistsException):
            ecr.put_image(repositoryName=repository, imageTag=tag, imageManifest=manifest, imageDigest=record.id)
        return uri

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it and return its exit code; killed after some patience."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the lab did not stop; its log:\n" + "".join(self.log[-40:])) from None


def start_lab(
    *,
    port: int = 0,
    state: Path,
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Lab:
    """Start a lab and wait until it is ready; who calls this stops it. Port 0: one that the lab finds."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**inherited, **(variables or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "serve", "--port", str(port), "--state", str(state), *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a test's Ctrl-C reaches pytest alone
    )
    log: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
    reader.start()
    watchdog = threading.Timer(START_PATIENCE_S, process.kill)
    watchdog.start()
    ready = process.stdout.readline()
    watchdog.cancel()
    if not ready.startswith("ready"):
        process.kill()
        code = process.wait()
        reader.join(STOP_PATIENCE_S)  # until the end of its standard error
        raise AssertionError(f"the lab did not start (exit code {code}, said {ready!r}):\n{''.join(log[-40:])}")
    images = environment.get("LAB_IMAGES")
    return Lab(int(ready.rpartition(":")[2]), state, process, log, Path(images) if images else None)


@contextlib.contextmanager
def running_lab(
    *,
    arguments: Sequence[str] = (),
    state: Path | None = None,
    port: int = 0,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Lab]:
    """A lab for a `with` block; `arguments` are those of `lab serve`, for example ("--time-scale", "60")."""
    with contextlib.ExitStack() as stack:
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-test-")))
        lab = start_lab(port=port, state=state, arguments=arguments, variables=variables)
        try:
            yield lab
        finally:
            lab.stop()
