"""`inference-lab demo` with stub functions: interrupted, offline, beside another, on a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.paths import REPOSITORY
from lab.images.run_step import NETWORK_HINT, NO_DOWNLOAD
from lab.limits.files import ROOT_PREFIX
from tests.experiments.conftest import configuration_text
from tests.lab.robustness.support import descendants, loop_devices_of, still_running, wait_until
from tests.lab_support import refusing_port
from tests.processes import cgroups_of
from tests.stubs.making import write_stub

# Each demo deploys and measures: half a minute on an idle machine.
pytestmark = pytest.mark.slow
PROFILE = """
[profile.demo.experiments.cold]
protocols = ["forced"]
"""


class Demo:
    """Runs of `inference-lab demo` that share an image store, and everything that they leave on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        document = directory / "benchmark.toml"
        text = configuration_text(write_stub(directory / "stub")).partition("\n[profile.")[0]
        document.write_text(text.replace('["resnet50", "mobilenet"]', '["mobilenet"]') + PROFILE, encoding="utf-8")
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BENCHMARK_", "LAB_"))
        }
        self.environment = {
            **kept,
            "BENCHMARK_TOML": str(document),
            "LAB_STATE": str(self.state),
            "LAB_IMAGES": str(directory / "images"),
            "TMPDIR": str(self.temporary),
        }
        self.children: set[tuple[int, str]] = set()

    def start(self, results: Path, *, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "demo", "--results", str(results)],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def noting_children(self, process: subprocess.Popen[str]):
        """Note every descendant of the demo while the block runs."""
        ended = threading.Event()

        def note() -> None:
            while not ended.wait(0.2):
                self.children |= descendants(process.pid)

        watching = threading.Thread(target=note)
        watching.start()
        try:
            yield
        finally:
            ended.set()
            watching.join()

    def assert_nothing_is_left(self) -> None:
        wait_until(lambda: not still_running(self.children), "the end of every child")
        owners = {f"{ROOT_PREFIX}{pid}-{start}" for pid, start in self.children}
        wait_until(lambda: not cgroups_of(*owners), f"the end of {cgroups_of(*owners)}")
        wait_until(lambda: not loop_devices_of(self.state), "the end of every loop device")
        # Node's compile cache is the one thing that is kept for the next CDK command.
        left = [path.name for path in self.temporary.iterdir() if "compile-cache" not in path.name]
        assert left == [], "temporary files"

    def run(self, results: Path, *, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a whole demo."""
        process = self.start(results, before=before)
        with self.noting_children(process):
            out, err = process.communicate()
        self.assert_nothing_is_left()
        assert "Traceback" not in err, err
        return process.returncode, out, err


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Demo:
    return Demo(tmp_path_factory.mktemp("demo"))


# A network namespace needs root and unshare.
WITHOUT_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
MAY_UNSHARE = os.geteuid() == 0 and shutil.which("unshare") is not None


def wait_for_step(process, step):
    """Read the demo's standard error until a step begins; returns what it said."""
    said = ""
    while f"[{step}/4]" not in said:
        line = process.stderr.readline()
        assert line, f"the demo ended before: {said}"
        said += line
    return said


def assert_interrupted(demo, process, said):
    """The demo, which was interrupted, ended cleanly; `said` is its standard error."""
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.endswith("demo: interrupted\n")
    demo.assert_nothing_is_left()


def test_ctrl_c_while_it_deploys_beside_a_second_demo_which_says_who_holds_the_state(demo, tmp_path):
    first = demo.start(tmp_path / "first")
    with demo.noting_children(first):
        said = wait_for_step(first, 2)
        second = demo.start(tmp_path / "second")
        _, err = second.communicate()
        first.send_signal(signal.SIGINT)
        _, rest = first.communicate()
    assert second.returncode == 1
    assert "another lab holds" in err
    assert "Traceback" not in err
    assert_interrupted(demo, first, said + rest)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_ctrl_c_at_any_other_step_leaves_nothing_behind(demo, tmp_path, step):
    process = demo.start(tmp_path)
    with demo.noting_children(process):
        said = wait_for_step(process, step)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate()
    assert_interrupted(demo, process, said + rest)


def test_a_demo_after_another_one_ends_offline_with_table_answer_and_what_to_do_next(demo, tmp_path):
    code, out, err = demo.run(tmp_path, before=WITHOUT_NETWORK if MAY_UNSHARE else ())
    assert code == 0, err
    table, _, after = out.partition("| MobileNet | 512 | load |")
    assert "| Model | Memory MB |" in table
    assert "on demand: $" in after
    steps = [line.split()[0] for line in after.partition("Next:\n")[2].splitlines() if line[2:3].isdigit()]
    assert steps == ["1.", "2.", "3.", "4."]
    for number in range(1, 5):
        assert f"[{number}/4]" in err
    assert len(list(tmp_path.glob("*/report.html"))) == 1


def test_a_first_demo_offline_ends_early_and_says_what_to_do(tmp_path):
    own = Demo(tmp_path)
    dockerfile = tmp_path / "stub" / "Dockerfile"
    text = dockerfile.read_text(encoding="utf-8")
    dockerfile.write_text(text.replace("\nCMD", "\nRUN pip install not-in-any-cache==1\nCMD"), encoding="utf-8")
    with refusing_port() as port:
        own.environment["UV_INDEX_URL"] = f"http://127.0.0.1:{port}/simple"
        own.environment["UV_HTTP_RETRIES"] = "0"
        code, out, err = own.run(tmp_path / "results")
    assert (code, out) == (1, "")
    assert "[3/4]" not in err
    *_, error, hint = err.splitlines()
    assert error.startswith(f"demo: {NO_DOWNLOAD}: ")
    assert hint.strip() == NETWORK_HINT


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small file system; needs root")
def test_a_full_disk_is_one_message(demo, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", small], check=True)
    try:
        code, _, err = demo.run(small)
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
    assert code == 1
    assert "disk is full" in err or "No space left" in err, err
