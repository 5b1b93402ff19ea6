import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.configuration import parse_configuration
from core.paths import BENCHMARK_TOML, NODE_COMMANDS, REPOSITORY
from tests.lab_support import Lab

CDK = str(NODE_COMMANDS / "cdk")
PATIENCE_S = 1800


class Deployment:
    """The commands of this project, run as a user runs them, against one lab and with one benchmark.toml."""

    def __init__(self, lab: Lab, directory: Path, changes: dict[str, str]):
        self.lab = lab
        self.directory = directory
        self.document = directory / "benchmark.toml"
        self.configure(changes)

    def configure(self, changes: dict[str, str]):
        """Write benchmark.toml anew: `key = value` replaces the first line of that key."""
        lines = BENCHMARK_TOML.read_text(encoding="utf-8").splitlines()
        for key, value in changes.items():
            index = next(i for i, line in enumerate(lines) if line.startswith(f"{key} ="))
            lines[index] = f"{key} = {value}"
        self.document.write_text("\n".join(lines))
        self.configuration = parse_configuration("\n".join(lines))

    def run(self, *command, code=0):
        """Standard output of a command; fails the test with all it said where it leaves with another code."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=REPOSITORY,
            env=self.lab.environment | {"BENCHMARK_TOML": str(self.document), "BENCHMARK_PROFILE": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, f"{command} left with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def cdk(self, *arguments):
        return self.run(CDK, *arguments, "--output", self.directory / "cdk.out")

    def deploy(self):
        # No --method: the CLI's default makes a change set, as it does at AWS.
        return self.cdk("deploy", "--require-approval", "never")

    def destroy(self):
        return self.cdk("destroy", "--force")

    def python(self, *arguments, code=0):
        return self.run(sys.executable, *arguments, code=code)

    @property
    def api_url(self):
        """Base of the deployed REST URL, from the outputs of the stack."""
        return self.lab.api_url(self.configuration)

    def get(self, path, **options):
        return self.lab.get(self.configuration, path, **options)


@pytest.fixture(scope="module")
def bootstrapped(module_lab, tmp_path_factory):
    """A lab that `cdk bootstrap` has prepared."""
    environment = module_lab.environment
    subprocess.run(
        [CDK, "bootstrap", "aws://123456789012/us-east-1", "--app", "", "--output", tmp_path_factory.mktemp("out")],
        cwd=tmp_path_factory.mktemp("empty"),
        env=environment | {"HOME": os.environ.get("HOME", "/")},
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return module_lab
