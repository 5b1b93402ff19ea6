import aws_cdk as cdk
import pytest
from aws_cdk import assertions

import app
from core.configuration import parse_configuration
from core.paths import BENCHMARK_TOML
from core.variants import STACK_ROLES

DOCUMENT = BENCHMARK_TOML.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def image_directory(tmp_path_factory):
    """A build context as small as can be: what is in the image is not what these tests are about."""
    directory = tmp_path_factory.mktemp("image")
    (directory / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n")
    return directory


@pytest.fixture(scope="session")
def write_document(image_directory):
    """The text of benchmark.toml with changes, `key = value` replacing the first line of that key."""

    def write(**changes):
        lines = DOCUMENT.splitlines()
        for key, value in {"directory": f'"{image_directory}"', **changes}.items():
            index = next(i for i, line in enumerate(lines) if line.startswith(f"{key} ="))
            lines[index] = f"{key} = {value}"
        return "\n".join(lines)

    return write


@pytest.fixture(scope="session")
def configure(write_document):
    def make(profile="", **changes):
        return parse_configuration(write_document(**changes), profile=profile)

    return make


def synthesise(configuration):
    """Templates of the app by the role of their stack."""
    application = cdk.App()
    app.build(application, configuration)
    return {
        role: assertions.Template.from_stack(application.node.find_child(configuration.names.stack(role)))
        for role in STACK_ROLES
    }


@pytest.fixture(scope="session")
def configuration(configure):
    return configure()


@pytest.fixture(scope="session")
def templates(configuration):
    return synthesise(configuration)
