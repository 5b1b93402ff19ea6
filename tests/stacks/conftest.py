"""Stacks and their templates.

The construct library starts a Node process where it is imported. Each worker collects these tests and one runs them
(tests/conftest.py), so that functions import it here, and no module does.
"""

import pytest

from core.configuration import parse_configuration
from core.paths import BENCHMARK_TOML
from core.variants import part

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


def application(directory=None):
    """An app as the CDK command line makes it."""
    import app

    return app.application(directory and str(directory))


def build(lab, configuration):
    """The stack of the app."""
    import app

    return app.build(lab, configuration)


def template_of(stack):
    from aws_cdk.assertions import Template

    return Template.from_stack(stack)


def synthesise(configuration):
    """Templates of the app: "Root" for the stack itself, its nested stacks by their roles."""
    stack = build(application(), configuration)
    templates = {"Root": template_of(stack)}
    for role in ("Functions", "Endpoints", "Schedules", "Monitoring"):
        names = [part(role, group) for group in configuration.groups] if role != "Monitoring" else [role]
        (templates[role],) = [template_of(stack.node.find_child(name)) for name in names]
    return templates


@pytest.fixture(scope="session")
def configuration(configure):
    return configure()


@pytest.fixture(scope="session")
def templates(configuration):
    return synthesise(configuration)
