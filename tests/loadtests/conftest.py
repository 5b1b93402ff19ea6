import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from core.paths import BENCHMARK_TOML, LOCUSTFILE
from core.run.run_directory import RunDirectory

PATIENCE_S = 600  # guards against hanging: the machine may be busy


class Endpoint:
    """A running tests/loadtests/server.py."""

    def __init__(self, url):
        self.url = url

    def set(self, **settings):
        """Change what it does; answers how many calls it has seen."""
        request = urllib.request.Request(f"{self.url}/set", json.dumps(settings).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("server.py")], stdout=subprocess.PIPE, text=True
    )
    try:
        yield Endpoint(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait()


def free_port():
    """A port that nobody has, out of those that no program gets without asking for it."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as candidate:
            candidate.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return str(candidate.getsockname()[1])


def until(condition):
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def endpoint(server):
    """The server as every test finds it: quick, well, with nothing of another test under way."""
    server.set(service_ms=20, status=200, stall_s=0, hang=0)
    until(lambda: server.set()["under_way"] == 0)
    return server


class Load:
    """One `locust -f loadtests/locustfile.py`, or a worker of one."""

    def __init__(self, process, directory, log):
        self.process = process
        self.directory = directory
        self._log = log

    @property
    def err(self):
        """Its standard error so far."""
        return self._log.read_text()

    @property
    def run(self):
        (root,) = (self.directory / "results").iterdir()
        return RunDirectory(root)

    @property
    def records(self):
        return list(self.run.client_records())

    @property
    def stages(self):
        return [json.loads(line) for line in (self.run.root / "load-stages.jsonl").read_text().splitlines()]

    def wait(self, *, code=0):
        """Standard output, once the process has left with this exit code."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == code, f"exit code {self.process.returncode}\n{out}\n{self.err}"
        # Locust's web server prints one when a page's reader goes away; that is neither ours nor a fault.
        assert "Traceback" not in self.err or "gevent/pywsgi.py" in self.err, self.err
        return out


@pytest.fixture
def start_load(tmp_path, endpoint):
    """Start Locust against the endpoint; whatever still runs at the test's end is killed with its workers."""
    started = []

    def start(*arguments, headless=True, warmups=0, directory=tmp_path, url=endpoint.url):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "BENCHMARK_", "LOCUST_"))}
        document = tmp_path / "benchmark.toml"
        # A call that a test holds is held for as long as the test needs.
        text = BENCHMARK_TOML.read_text(encoding="utf-8")
        document.write_text(text.replace("integration_timeout_ms = 29_000", "integration_timeout_ms = 900_000"))
        port = free_port()
        environment |= {
            "BENCHMARK_TOML": str(document),
            "LOCUST_MASTER_BIND_PORT": port,  # Locust's own is one for all loads of a machine
            "LOCUST_MASTER_NODE_PORT": port,
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "*",
        }
        log = tmp_path / f"locust-{len(started)}.log"
        with log.open("w") as err:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)),
                    *(["--headless"] if headless else []),
                    *("--warmups", str(warmups)),
                    *map(str, arguments),
                ],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        started.append(Load(process, directory, log))
        return started[-1]

    yield start
    for load in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(load.process.pid, signal.SIGKILL)
        out, _ = load.process.communicate()
        print(f"--- {load.process.args}\n{out}\n{load.err}")  # pytest shows it when the test failed
