"""Building without an engine, as the CDK command line does it: `inference-lab lab docker` on small functions."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from core.paths import REPOSITORY
from lab.images import docker_cli, run_step
from lab.images.image_store import DirectoryImageStore
from tests.commands import run_here
from tests.lab.robustness.support import wait_until
from tests.lab_support import refusing_port

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cdk-assets"

DOCKERFILE = """\
ARG BASE_IMAGE=public.ecr.aws/lambda/python:3.12
FROM ${BASE_IMAGE}
COPY requirements.txt ${LAMBDA_TASK_ROOT}/
RUN pip install --no-cache-dir -r requirements.txt
ARG MODEL
ENV MODEL=${MODEL} DATA="${LAMBDA_TASK_ROOT}/data"
LABEL purpose=test
COPY make.py handler.py ${LAMBDA_TASK_ROOT}/
COPY pictures/ ${LAMBDA_TASK_ROOT}/pictures/
WORKDIR ${LAMBDA_TASK_ROOT}
RUN python make.py --model ${MODEL} && python make.py --model second
USER 1000
CMD ["handler.handler"]
"""
MAKE = """\
import os, pathlib, sys, time
root = pathlib.Path(os.environ["LAMBDA_TASK_ROOT"])
assert pathlib.Path.cwd() == root, (pathlib.Path.cwd(), root)
(root / f"made-{sys.argv[2]}").write_text(sys.argv[2] * 1000)
time.sleep(float(os.environ.get("SLEEP_S", "0")))
count = pathlib.Path(os.environ["COUNT"])
with open(count, "a") as file:
    file.write(".")  # one byte is written whole or not at all, whenever a kill comes
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "pictures" / "deep").mkdir(parents=True)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "make.py").write_text(MAKE)
    (folder / "handler.py").write_text("def handler(event, context): return event\n")
    (folder / "requirements.txt").write_text("# nothing to install\n")
    (folder / "pictures" / "deep" / "a.jpg").write_bytes(b"a")
    (folder / "pictures" / "notes.md").write_text("out")
    (folder / ".dockerignore").write_text("pictures/*.md\n")
    return folder


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LAB_"))}
    return {
        **kept,
        "LAB_IMAGES": str(tmp_path / "images"),
        "LAB_PYTHON": sys.executable,
        "COUNT": str(tmp_path / "count"),
        **more,
    }


def docker(tmp_path: Path, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return run_here("lab", docker_cli.main, *arguments, cwd=cwd or tmp_path, variables=environment(tmp_path, **more))


def build(
    tmp_path: Path, context: Path, *more: str, model: str = "first", **variables: str
) -> subprocess.CompletedProcess[str]:
    # The very words of the CDK command line.
    arguments = ["build", "--build-arg", f"MODEL={model}", "--tag", f"cdkasset-{model}", "--platform", "linux/amd64"]
    return docker(tmp_path, *arguments, *more, ".", cwd=context, **variables)


def store(tmp_path: Path) -> DirectoryImageStore:
    return DirectoryImageStore(tmp_path / "images")


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_text())


def test_the_words_of_the_cdk_command_line_build_tag_push_and_resolve(tmp_path: Path, context: Path) -> None:
    assert docker(tmp_path, "inspect", "cdkasset-first").returncode == 1
    done = build(tmp_path, context)
    assert done.returncode == 0, done.stderr
    described = json.loads(docker(tmp_path, "inspect", "cdkasset-first").stdout)[0]
    assert described["Config"]["Cmd"] == ["handler.handler"]
    assert described["Config"]["Labels"] == {"purpose": "test"}

    uri = f"{REGISTRY}:0a1b"
    registry = REGISTRY.partition("/")[0]
    login = docker(tmp_path, "login", "--username", "AWS", "--password-stdin", f"https://{registry}")
    assert login.returncode == 0
    assert docker(tmp_path, "tag", "cdkasset-first", uri).returncode == 0
    assert store(tmp_path).resolve(uri) is None, "tagged is not yet pushed"
    pushed = docker(tmp_path, "push", uri)
    assert pushed.returncode == 0, pushed.stderr
    listed = docker(tmp_path, "images")
    assert uri in [line.split()[0] for line in listed.stdout.splitlines()]

    image = store(tmp_path).resolve(uri)
    assert image is not None
    assert image.root is not None
    assert tuple(image.command) == ("handler.handler",)
    assert image.environment == {"MODEL": "first", "DATA": f"{image.root}/data"}
    files = {path.relative_to(image.root).as_posix() for path in image.root.rglob("*") if path.is_file()}
    assert files == {
        "requirements.txt",
        "make.py",
        "handler.py",
        "made-first",
        "made-second",
        "pictures/deep/a.jpg",
    }
    by_digest = store(tmp_path).resolve(f"{REGISTRY}@{described['Id']}")
    assert by_digest is not None
    assert by_digest.root == image.root
    assert store(tmp_path).resolve(f"{REGISTRY}:other") is None
    assert store(tmp_path).resolve(f"{REGISTRY}@sha256:{'0' * 64}") is None


def test_a_second_build_of_the_same_runs_nothing_and_any_change_builds_anew(tmp_path: Path, context: Path) -> None:
    first = build(tmp_path, context)
    assert runs(tmp_path) == 2
    assert build(tmp_path, context).stdout == first.stdout
    assert runs(tmp_path) == 2
    other = build(tmp_path, context, model="other")
    assert other.stdout != first.stdout
    assert runs(tmp_path) == 4
    (context / "pictures" / "deep" / "b.jpg").write_bytes(b"b")
    assert build(tmp_path, context).stdout != first.stdout
    (context / "pictures" / "notes.md").write_text("left out, so it changes nothing")
    before = runs(tmp_path)
    build(tmp_path, context)
    assert runs(tmp_path) == before
    assert build(tmp_path, context, "--no-cache").returncode == 0
    assert runs(tmp_path) == before + 2


def test_a_change_after_a_slow_step_does_not_run_it_again(tmp_path: Path, context: Path) -> None:
    text = DOCKERFILE.replace("COPY make.py handler.py", "COPY make.py").replace(
        "USER 1000", "COPY handler.py ${LAMBDA_TASK_ROOT}/"
    )
    (context / "Dockerfile").write_text(text)
    build(tmp_path, context, SLEEP_S="0.4")
    (context / "handler.py").write_text("def handler(event, context): return 2\n")
    done = build(tmp_path, context)
    assert done.returncode == 0, done.stderr
    assert runs(tmp_path) == 2
    (record,) = [record for name, record in store(tmp_path).names() if name == "cdkasset-first:latest"]
    root = store(tmp_path).content(record.id) / "root"
    assert (root / "handler.py").read_text().endswith("return 2\n")
    assert (root / "made-second").exists()


def test_what_a_slow_step_made_is_on_disk_once_and_a_later_copy_over_it_changes_that_image_alone(
    tmp_path: Path, context: Path
) -> None:
    copies_over = DOCKERFILE.replace("USER 1000", "COPY later/ ${LAMBDA_TASK_ROOT}/")
    (context / "Dockerfile").write_text(copies_over)
    (context / "later").mkdir()
    (context / "later" / "made-first").write_text("another")
    roots = []
    for number in range(2):
        (context / "later" / "more").write_text(str(number))
        done = build(tmp_path, context, SLEEP_S="0.4")
        assert done.returncode == 0, done.stderr
        identity = done.stdout.split()[-1]
        roots.append(store(tmp_path).content(identity) / "root")
    assert runs(tmp_path) == 2
    steps = (tmp_path / "images" / "steps").iterdir()
    (step,) = (step for step in steps if (step / "root" / "made-first").exists())
    assert (step / "root" / "made-first").read_text() == "first" * 1000
    assert [(root / "made-first").read_text() for root in roots] == ["another", "another"]
    inodes = {(folder / "made-second").stat().st_ino for folder in (*roots, step / "root")}
    assert len(inodes) == 1


def test_two_builds_of_the_same_at_once_make_it_once(tmp_path: Path, context: Path) -> None:
    command = [str(REPOSITORY / "lab" / "bin" / "docker"), "build", "--build-arg", "MODEL=m", "--tag", "t", "."]
    both = [
        subprocess.Popen(
            command,
            cwd=context,
            env=environment(tmp_path, SLEEP_S="0.3"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    assert runs(tmp_path) == 2


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_store_whole_and_the_next_build_succeeds(tmp_path: Path, context: Path) -> None:
    moments = random.Random(7)
    command = [str(REPOSITORY / "lab" / "bin" / "docker"), "build", "--build-arg", "MODEL=m", "--tag", "t", "."]
    for number in range(12):
        (context / "handler.py").write_text(f"# {number}\n")
        process = subprocess.Popen(
            command,
            cwd=context,
            env=environment(tmp_path, SLEEP_S="0.1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.05, 1.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in (tmp_path / "images" / "contents").glob("*"):
            assert (folder / "image.json").exists()
            assert (folder / "root" / "made-second").read_text() == "second" * 1000
        for _, record in store(tmp_path).names():
            assert store(tmp_path).read_content(record.id) is not None
    done = build(tmp_path, context)
    assert done.returncode == 0, done.stderr

    def left() -> list[Path]:
        # A builder's child that was killed before it became its program holds a lock until it has run.
        assert build(tmp_path, context, "--no-cache").returncode == 0
        return [path for path in (tmp_path / "images" / "building").iterdir() if path.is_dir()]

    wait_until(lambda: left() == [], "a build to clear what dead builders left")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("RUN apt-get install -y git", ["apt-get", "`pip install` and `python` only"]),
        ("RUN python make.py | tee log", ["of a shell only"]),
        ("RUN python -c 'raise SystemExit(3)'", ["of a shell only"]),
        ("RUN python missing.py", ["exit code 2", "missing.py"]),
        ("RUN pip install --no-index nosuchthing==2", ["--no-index is not supported"]),
        ("RUN pip install ./nosuchthing", ["pip install ./nosuchthing ended with", "nosuchthing"]),
        ("RUN pip install --target /opt numpy", ["outside of LAMBDA_TASK_ROOT"]),
        ("RUN pip install -r absent.txt", ["pip install -r absent.txt ended with", "absent.txt"]),
        ("COPY absent ${LAMBDA_TASK_ROOT}/", ["absent", "not in the build context"]),
        ("COPY ../secret ${LAMBDA_TASK_ROOT}/", ["leaves the build context"]),
        ("COPY handler.py /opt/", ["outside of LAMBDA_TASK_ROOT"]),
        ("COPY handler.py ../../etc/", ["outside of LAMBDA_TASK_ROOT"]),
        ("COPY --from=other a b", ["--from=other", "no earlier stage"]),
        ("COPY *.py ./", ["patterns are not known"]),
        ("WORKDIR /", ["outside of LAMBDA_TASK_ROOT"]),
        ('ENTRYPOINT ["python"]', ["ENTRYPOINT"]),
    ],
)
def test_what_the_lab_cannot_do_is_an_error_without_a_traceback_and_leaves_no_image(
    change: str, words: list[str], tmp_path: Path, context: Path
) -> None:
    (context / "Dockerfile").write_text(DOCKERFILE.replace("USER 1000", change))
    done = build(tmp_path, context)
    assert done.returncode == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert list(store(tmp_path).names()) == []
    assert not list((tmp_path / "images").glob("contents/*"))


def test_a_failing_step_shows_its_output(tmp_path: Path, context: Path) -> None:
    (context / "make.py").write_text("raise SystemExit('the kiln is cold')")
    done = build(tmp_path, context)
    assert done.returncode == 1
    assert "the kiln is cold" in done.stderr
    assert "exit code 1" in done.stderr


PACKAGED = """\
FROM --platform=$BUILDPLATFORM base AS making
COPY tiny-1-py3-none-any.whl imports.py ${LAMBDA_TASK_ROOT}/
RUN pip install --no-deps tiny-1-py3-none-any.whl
RUN python imports.py made tiny pydantic
FROM base
COPY --from=making ${LAMBDA_TASK_ROOT}/made ${LAMBDA_TASK_ROOT}/
COPY imports.py ${LAMBDA_TASK_ROOT}/
RUN python imports.py final tiny pydantic awslambdaric
CMD ["handler.handler"]
"""
IMPORTS = """\
import importlib.util, pathlib, sys
found = [name for name in sys.argv[2:] if importlib.util.find_spec(name)]
pathlib.Path(sys.argv[1]).write_text(" ".join(found))
"""


def write_wheel(path: Path) -> None:
    """A package `tiny` that can be installed without a registry."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "tiny.py,,\n")


def test_a_stage_has_its_own_packages_and_hands_over_only_what_is_copied(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    write_wheel(context / "tiny-1-py3-none-any.whl")
    (context / "imports.py").write_text(IMPORTS)
    (context / "Dockerfile").write_text(PACKAGED)
    done = docker(tmp_path, "build", "--tag", "t", ".", cwd=context)
    assert done.returncode == 0, done.stderr
    root = store(tmp_path).content(done.stdout.split()[-1]) / "root"
    assert {path.name for path in root.iterdir()} == {"made", "final", "imports.py"}
    assert (root / "made").read_text() == "tiny"
    assert (root / "final").read_text() == "awslambdaric", "the base image's client, and nothing of this project's own"


def test_packages_of_another_platform_are_not_installed(tmp_path: Path, context: Path) -> None:
    (context / "requirements.txt").write_text("nosuchthing==2\n")
    foreign = "linux/arm64" if os.uname().machine == "x86_64" else "linux/amd64"
    arguments = ["build", "--build-arg", "MODEL=m", "--tag", "t", "--platform", foreign, "."]
    done = docker(tmp_path, *arguments, cwd=context)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "x"],
        ["build"],
        ["build", "--target", "a", "."],
        ["build", "nowhere"],
        ["images", "--filter", "dangling=true"],
    ],
)
def test_other_words_of_docker_are_refused_clearly(arguments: list[str], tmp_path: Path) -> None:
    done = docker(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("lab: ")


def test_what_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    for arguments in (["tag", "a", "b"], ["push", "a"], ["rmi", "a"]):
        done = docker(tmp_path, *arguments)
        assert done.returncode == 1
        assert "no image" in done.stderr


def test_a_store_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path, context: Path) -> None:
    (tmp_path / "images").write_text("a file, where the store should be")
    done = build(tmp_path, context)
    assert done.returncode == 1
    assert str(tmp_path / "images") in done.stderr


def test_pruning_keeps_what_has_a_name(tmp_path: Path, context: Path) -> None:
    build(tmp_path, context)
    build(tmp_path, context, model="other")
    assert docker(tmp_path, "rmi", "cdkasset-other").returncode == 0
    done = docker(tmp_path, "image", "prune")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "images" / "contents").iterdir())) == 1
    assert build(tmp_path, context).returncode == 0


def test_without_a_network_the_build_says_so_and_what_to_do(tmp_path: Path, context: Path) -> None:
    (context / "requirements.txt").write_text("not-in-any-cache==1\n")
    run_step.pip_settings.cache_clear()
    try:
        with refusing_port() as port:
            index = f"http://127.0.0.1:{port}/simple"
            done = build(tmp_path, context, UV_INDEX_URL=index, UV_HTTP_RETRIES="0")
    finally:
        run_step.pip_settings.cache_clear()
    assert done.returncode == 1
    for words in (run_step.NO_DOWNLOAD, index, run_step.NETWORK_HINT):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_pip_install_obeys_the_mirror_that_pip_is_set_to(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.invalid/simple")
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    run_step.pip_settings.cache_clear()
    try:
        assert run_step.pip_settings()["UV_INDEX_URL"] == "https://mirror.invalid/simple"
    finally:
        run_step.pip_settings.cache_clear()
