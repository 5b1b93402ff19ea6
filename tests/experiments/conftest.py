"""A lab with the real stacks deployed to it, their functions being stubs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.configuration import Configuration, parse_configuration
from core.paths import BENCHMARK_TOML, REPOSITORY
from core.variants import Variant
from tests.lab_support import Lab, running_lab
from tests.stubs.making import write_stub

# 10 minutes of a schedule pass in 2.5 s, 7 idle minutes in 1.75 s.
TIME_SCALE = 240


@dataclass
class Deployed:
    """A lab, what is deployed to it, and how to run a command against it."""

    lab: Lab
    configuration_path: Path
    profile: str = ""

    def environment(self, **changes: str) -> dict[str, str]:
        inherited = {k: v for k, v in self.lab.environment.items() if not k.startswith("BENCHMARK_")}
        return {**inherited, "BENCHMARK_TOML": str(self.configuration_path), **changes}

    @property
    def configuration(self) -> Configuration:
        return parse_configuration(self.configuration_path.read_text(encoding="utf-8"), profile=self.profile)

    def command(self, *words: str) -> list[str]:
        profile = ["--profile", self.profile] if self.profile else []
        return [sys.executable, "-m", "experiments", words[0], *profile, *words[1:]]

    def variables_of(self, variant: Variant) -> dict[str, str]:
        """The function's environment variables."""
        function = self.configuration.names.function(variant)
        found = self.lab.client("lambda").get_function_configuration(FunctionName=function)
        return found.get("Environment", {}).get("Variables", {})

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `inference-lab experiments` to its end, and check its exit code."""
        done = subprocess.run(
            self.command(*words),
            cwd=REPOSITORY,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done


def configuration_text(directory: Path) -> str:
    """The repository's benchmark.toml, made small: two models, two sizes, stub functions, short experiments."""
    text = BENCHMARK_TOML.read_text(encoding="utf-8")
    for pattern, line in {
        r"^models = .*": 'models = ["resnet50", "mobilenet"]',
        r"^memory_sizes_mb = \[512.*": "memory_sizes_mb = [256, 512]",
        r"^directory = .*": f'directory = "{directory}"',
        r"^timeout_s = .*": "timeout_s = 300",
        r"^integration_timeout_ms = .*": "integration_timeout_ms = 300_000",
        # 15 s apart: a busy machine takes seconds to switch four schedules on.
        r"^interval_minutes = .*": "interval_minutes = 60",
        r"^forced_samples = .*": "forced_samples = 2",
        r"^burst_sizes = .*": "burst_sizes = [1, 4]",
        r"^burst_repeats = .*": "burst_repeats = 1",
        r"^environments = 12": "environments = 2",
        r"^warmups = 3": "warmups = 1",
        r"^samples = 600 ": "samples = 6 ",
        r"^connections = .*": 'connections = ["kept", "new"]',
        r"^end_rps = 100.0": "end_rps = 10.0",
        r"^duration_s = 300": "duration_s = 2",
    }.items():
        text, count = re.subn(pattern, line, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
    return text.partition("[profile.")[0] + PROFILES


PROFILES = """
[profile.forced.experiments.cold]
protocols = ["forced", "burst"]
gateway_samples = 1

# Of everything that may befall a direct call; the functions' timeout has to be changed with it.
[profile.outcomes.function]
timeout_s = 30

[profile.outcomes.experiments.cold]
protocols = ["forced"]
forced_samples = 4
gateway_samples = 0

# AWS leaves at least 100 concurrent executions unreserved, so that is the smallest account to be had here.
[profile.bursts.experiments.cold]
protocols = ["burst"]
burst_sizes = [10, 101]
burst_repeats = 1
gateway_samples = 0

[profile.kills.matrix]
models = ["mobilenet"]
memory_sizes_mb = [256]

# More calls than an attempt of tests/experiments/killing.py may make: no attempt comes to its end.
[profile.kills.experiments.load]
end_rps = 10.0
duration_s = 4

[profile.kills.experiments.cold]
protocols = ["forced"]
forced_samples = 12

[profile.repeated.matrix]
models = ["mobilenet"]
memory_sizes_mb = [256]

[profile.repeated.experiments.load]
repeats = 3
duration_s = 1

[profile.search.matrix]
models = ["mobilenet"]
memory_sizes_mb = [256]

[profile.search.goal]
limit_ms = 500.0
max_bad_share = 0.2

[profile.search.experiments.load]
end_rps = 100.0
search_calls = 1700

[profile.decided.matrix]
models = ["mobilenet"]

[profile.decided.goal]
max_bad_share = 0.05
limit_ms = 1_000_000

[profile.decided.experiments.warm]
environments = 5

# Few enough for some of fifty kills to fall into the load.
[profile.kills.experiments.warm]
samples = 10
connections = ["kept", "new"]
"""


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Every stack of the app in one lab, for all tests of this folder."""
    directory = tmp_path_factory.mktemp("experiments")
    path = directory / "benchmark.toml"
    path.write_text(configuration_text(write_stub(directory / "stub")), encoding="utf-8")
    variables = {"BENCHMARK_TOML": str(path), "BENCHMARK_PROFILE": ""}
    # However late the next call comes, it finds its environment; and however little memory there is, there is room.
    arguments = ("--time-scale", str(TIME_SCALE), "--idle-minutes", "1440", "--account-concurrency", "1000")
    with running_lab(arguments=arguments, state=directory / "state", variables=variables) as lab:
        deployed = Deployed(lab, path)
        deploy(deployed, directory / "cdk.out")
        yield deployed
    (directory / "lab.log").write_text("".join(lab.log), encoding="utf-8")


def deploy(deployed: Deployed, assembly: Path, *, but_for: str = "", **changes: str) -> None:
    """What `cdk deploy` does, without Node: synthesize, build and push the images, create the stacks.

    The image of the Dockerfile `but_for` is left out; `changes` are variables.
    """
    variables = {"CDK_OUTDIR": str(assembly), "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1", **changes}
    environment = deployed.environment(**variables)
    subprocess.run([sys.executable, "app.py"], cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    manifest = json.loads((assembly / f"{deployed.configuration.names.stack}.assets.json").read_text(encoding="utf-8"))
    images = [
        one for one in manifest["dockerImages"].values() if one["source"].get("dockerFile", "Dockerfile") != but_for
    ]

    def build_and_push(image: dict[str, Any]) -> None:
        (destination,) = image["destinations"].values()
        repository = resolved(destination["repositoryName"])
        uri = f"{registry}/{repository}:{destination['imageTag']}"
        source = image["source"]
        # Every word of the CDK's own command: another would be another image to the store.
        build_arguments = [f"--build-arg={k}={v}" for k, v in source.get("dockerBuildArgs", {}).items()]
        if "platform" in source:
            build_arguments += ["--platform", source["platform"]]
        docker = [sys.executable, "-m", "lab", "docker"]
        for words in (
            ["build", "--tag", uri, *build_arguments, str(assembly / source["directory"])],
            ["push", uri],
        ):
            subprocess.run([*docker, *words], cwd=REPOSITORY, env=environment, check=True, capture_output=True)

    ecr, s3 = deployed.lab.client("ecr"), deployed.lab.client("s3")
    if images and not ecr.describe_repositories()["repositories"]:
        (destination,) = images[0]["destinations"].values()
        ecr.create_repository(repositoryName=resolved(destination["repositoryName"]))
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in [pool.submit(build_and_push, image) for image in images]:
            done.result()
    for file in manifest["files"].values():
        (destination,) = file["destinations"].values()
        bucket = resolved(destination["bucketName"])
        s3.create_bucket(Bucket=bucket)
        s3.upload_file(str(assembly / file["source"]["path"]), bucket, destination["objectKey"])
    cloudformation, stack = deployed.lab.client("cloudformation"), deployed.configuration.names.stack
    template = json.loads((assembly / f"{stack}.template.json").read_text(encoding="utf-8"))
    # The bootstrap stack's version is the CDK command line's business.
    template.pop("Rules", None)
    template["Parameters"].pop("BootstrapVersion", None)
    cloudformation.create_stack(StackName=stack, TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"])
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})


def resolved(name: str) -> str:
    return name.replace("${AWS::AccountId}", "123456789012").replace("${AWS::Region}", "us-east-1")
