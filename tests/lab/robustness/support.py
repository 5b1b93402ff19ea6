"""A whole lab with one function that misbehaves on request, and lists of what it left on this machine."""

import contextlib
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from core.paths import REPOSITORY
from lab.limits.files import owner_name
from tests.lab_support import running_lab
from tests.processes import cgroups_of

FUNCTION_DIRECTORY = Path(__file__).parent / "function"
REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/robustness"


def deploy(lab, name, *, memory_mb=1024, timeout_s=900, rest=True, directory=FUNCTION_DIRECTORY):
    """Build the function's image, create it, put a REST API before it; gives the API's id."""
    client = lab.client("lambda")
    with contextlib.suppress(lab.client("logs").exceptions.ResourceAlreadyExistsException):
        lab.client("logs").create_log_group(logGroupName=f"/aws/lambda/{name}")
    repository = lab.client("ecr").create_repository(repositoryName=name)["repository"]["repositoryUri"]
    for arguments in (
        ["build", "--quiet", "--tag", f"{repository}:1", str(directory)],
        ["push", f"{repository}:1"],
    ):
        subprocess.run(
            [sys.executable, "-m", "lab", "docker", *arguments],
            cwd=REPOSITORY,
            env=lab.environment,
            check=True,
            capture_output=True,
        )
    role = lab.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    arn = client.create_function(
        FunctionName=name,
        Role=role,
        PackageType="Image",
        Code={"ImageUri": f"{repository}:1"},
        MemorySize=memory_mb,
        Timeout=timeout_s,
    )["FunctionArn"]
    return rest_api(lab, arn) if rest else None


IMAGE_OF_A_HANDLER = 'ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY handler.py .\nCMD ["handler.handler"]\n'


@contextlib.contextmanager
def lab_with_image(handler, folders):
    """A lab with a store of its own, and the URI of an image of this handler that is pushed there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_IMAGES", str(folders.mktemp("images")))
        with running_lab() as lab:
            context = folders.mktemp("image")
            (context / "Dockerfile").write_text(IMAGE_OF_A_HANDLER)
            (context / "handler.py").write_text(handler)
            name = new_name()
            deploy(lab, name, rest=False, directory=context)
            yield lab, lab.client("lambda").get_function(FunctionName=name)["Code"]["ImageUri"]


def rest_api(lab, function_arn, *, timeout_ms=900_000):
    client = lab.client("apigateway")
    api = client.create_rest_api(name="robustness")["id"]
    root = client.get_resources(restApiId=api)["items"][0]["id"]
    proxy = client.create_resource(restApiId=api, parentId=root, pathPart="{proxy+}")["id"]
    for resource in (root, proxy):
        client.put_method(restApiId=api, resourceId=resource, httpMethod="ANY", authorizationType="NONE")
        client.put_integration(
            restApiId=api,
            resourceId=resource,
            httpMethod="ANY",
            type="AWS_PROXY",
            integrationHttpMethod="POST",
            timeoutInMillis=timeout_ms,
            uri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function_arn}/invocations",
        )
    client.create_deployment(restApiId=api, stageName="v1")
    return api


def invoke(lab, name, event, **more):
    """(FunctionError or None, decoded payload) of a synchronous invoke."""
    answer = lab.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode(), **more)
    return answer.get("FunctionError"), json.loads(answer["Payload"].read() or b"null")


def log_lines(lab, name, pattern=""):
    pages = lab.client("logs", retries={"total_max_attempts": 20}).get_paginator("filter_log_events")
    extra = {"filterPattern": pattern} if pattern else {}
    return [
        e["message"] for page in pages.paginate(logGroupName=f"/aws/lambda/{name}", **extra) for e in page["events"]
    ]


def new_name():
    return f"robust-{uuid.uuid4().hex[:12]}"


# What is left on the machine ----------------------------------------------------------------------------------------


def processes_of_function(name):
    """Processes whose environment says that they belong to a function, forked ones among them."""
    needle = f"AWS_LAMBDA_FUNCTION_NAME={name}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if needle in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


def descendants(pid):
    """A process's children, their children and so on, each with its start time, so that a reused id is told apart."""
    parents, started = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
            started[int(entry.parent.name)] = fields[19]
    found, frontier = set(), {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return {(child, started[child]) for child in found}


def still_running(processes):
    left = set()
    for pid, start in processes:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[19] == start and fields[0] != "Z":
                left.add(pid)
    return left


def wait_until(condition, what, *, seconds=600):
    """Poll until `condition()` is true; what it is about is in the failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def loop_devices_of(state):
    """Loop devices whose file lies in a lab's state directory: the /tmp of its environments."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith(str(state.resolve())):
                found.append(path.parts[3])
    return found


@contextlib.contextmanager
def nothing_left(lab):
    """For a lab that the block ends: afterwards no process and no control group of it may be there."""
    seen = set()
    pid = lab.process.pid
    owner = owner_name(pid)

    def note():
        seen.update(descendants(pid))

    yield note
    assert lab.process.poll() is not None, "the block has to end the lab"
    wait_until(lambda: not still_running(seen), f"the end of {seen}")
    wait_until(lambda: not cgroups_of(owner), f"the removal of {cgroups_of(owner)}")
    wait_until(lambda: not loop_devices_of(lab.state), f"the end of {loop_devices_of(lab.state)}")
