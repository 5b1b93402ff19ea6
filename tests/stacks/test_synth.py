"""The real CDK command line, with nothing of AWS in its environment."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from core.paths import NODE_COMMANDS, REPOSITORY

CDK = NODE_COMMANDS / "cdk"


@pytest.fixture
def run_cdk(tmp_path, write_document):
    """Run `cdk` where no Docker, no credentials and no way to an AWS address are to be had."""
    document = tmp_path / "benchmark.toml"
    document.write_text(write_document())

    def run(*arguments, cwd=REPOSITORY, output="out", **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "CDK_", "BENCHMARK_"))}
        clean |= {
            "PATH": f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "AWS_EC2_METADATA_DISABLED": "true",
            "CDK_DOCKER": str(tmp_path / "no-docker-here"),
            "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing listens there: a call out would fail
            "BENCHMARK_TOML": str(document),
        }
        return subprocess.run(
            [CDK, *arguments, "--output", tmp_path / output],
            cwd=cwd,
            env=clean | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def manifest(tmp_path):
    return json.loads((tmp_path / "out" / "manifest.json").read_text())


def test_the_cli_is_the_pinned_one():
    package = json.loads((REPOSITORY / "package.json").read_text())
    lock = (REPOSITORY / "package-lock.json").read_text()
    pinned = package["devDependencies"]["aws-cdk"]
    assert json.loads(lock)["packages"]["node_modules/aws-cdk"]["version"] == pinned
    assert "://" not in lock  # registries are the reader's own choice
    assert subprocess.check_output(
        [CDK, "--version"], text=True, env=os.environ | {"PATH": f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}"}
    ).startswith(pinned)


# The default profile is synthesized by the same command line in tests/lab/services/cloudformation/test_cdk.py.
@pytest.mark.slow
def test_synth_needs_neither_docker_nor_aws_and_gives_the_same_templates_from_another_folder(
    run_cdk, tmp_path, configure
):
    """The context names the profile, or the environment. `cdk diff` would name changes that nobody made otherwise."""
    elsewhere = ("--app", f"python {REPOSITORY / 'app.py'}")
    for done in (
        run_cdk("synth", "--quiet", "--context", "profile=demo"),
        run_cdk("synth", "--quiet", *elsewhere, cwd=tmp_path, output="second", BENCHMARK_PROFILE="demo"),
    ):
        assert done.returncode == 0, done.stderr
    first, second = (
        {path.name: path.read_text() for path in (tmp_path / output).glob("*.json") if "template" in path.name}
        for output in ("out", "second")
    )
    assert first == second
    assert len(first) == 5
    demo = configure("demo")
    stacks = {k for k, v in manifest(tmp_path)["artifacts"].items() if v["type"] == "aws:cloudformation:stack"}
    assert stacks == {demo.names.stack}
    assets = json.loads((tmp_path / "out" / f"{demo.names.stack}.assets.json").read_text())
    assert len(assets["dockerImages"]) == len(demo.matrix.models)
    templates = [path.read_text() for path in Path(tmp_path / "out").glob("*Functions*.nested.template.json")]
    assert len(templates) == len(demo.matrix.engines)
    assert sum(text.count('"AWS::Lambda::Function"') for text in templates) == len(demo.variants)


@pytest.mark.slow
def test_a_wrong_configuration_ends_synth_without_a_traceback(run_cdk, tmp_path):
    document = tmp_path / "wrong.toml"
    document.write_text((tmp_path / "benchmark.toml").read_text().replace('"mobilenet"]', '"alexnet"]'))
    done = run_cdk("synth", "--quiet", BENCHMARK_TOML=str(document))
    assert done.returncode != 0
    assert "alexnet" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_every_feature_flag_has_the_recommended_value(run_cdk):
    done = run_cdk("flags", "--unstable=flags", "--no-color")
    assert done.returncode == 0, done.stderr
    assert "All feature flags are already set to their recommended values." in done.stdout + done.stderr
