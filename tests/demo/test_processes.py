"""The demo's children: what a person sees of one that fails, and that none outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core import strict_json
from core.aws.cloud import LAB_STATUS_PATH
from core.errors import UserError
from core.paths import REPOSITORY
from demo.__main__ import STEPS_S, Steps, say_if_sizes_are_not_comparable
from demo.processes import run_step, running_lab
from lab.host.doctor import how_to_get_limits
from tests.lab.robustness.support import wait_until
from tests.processes import is_alive


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_failing_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    with pytest.raises(UserError, match="exit code 3") as failed:
        run_step(python("print('the reason'); raise SystemExit(3)"), os.environ, log=log)
    assert "the reason" in failed.value.message
    assert str(log) in failed.value.hint


def test_a_step_is_watched_while_it_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    waiting = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    run_step(python(waiting), os.environ, watch=go.touch)


def test_ctrl_c_ends_a_step_that_has_just_started_without_a_traceback(tmp_path: Path) -> None:
    """A Python that still imports has no handler of its own yet."""
    started, log = tmp_path / "started", tmp_path / "log"

    def interrupt() -> None:
        if started.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step(
            python(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(600)"),
            os.environ,
            log=log,
            watch=interrupt,
        )
    assert log.read_text() == ""


def test_a_lab_that_does_not_start_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "lab.log"
    broken = python("import sys; print('another lab holds it', file=sys.stderr); raise SystemExit(1)")
    with pytest.raises(UserError, match="another lab holds it") as failed, running_lab(broken, os.environ, log):
        pass
    assert "exit code 1" in failed.value.message


def test_a_lab_is_stopped_when_the_demo_fails(tmp_path: Path) -> None:
    lab = python("import os, time; print('ready', os.getpid(), flush=True); time.sleep(600)")
    pids: list[int] = []

    def failing_demo() -> None:
        with running_lab(lab, os.environ, tmp_path / "log") as pid:
            pids.append(int(pid))
            raise UserError("the demo failed")

    with pytest.raises(UserError, match="the demo failed"):
        failing_demo()
    assert not is_alive(pids[0])


def test_no_child_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    lab = "import os, time; print('ready', os.getpid(), flush=True); time.sleep(600)"
    demo = (
        "import os, pathlib, sys, time\nfrom demo.processes import running_lab\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        f"with running_lab([sys.executable, '-c', {lab!r}], os.environ, log) as pid:\n"
        "    print(pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(python(demo), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    wait_until(lambda: not is_alive(pid), "the lab's end")


def said_by(steps: Steps, capsys: pytest.CaptureFixture[str]) -> list[str]:
    for name in ("a", "b", "c", "d"):
        steps.begin(name)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line[:7] for line in lines] == ["[1/4] a", "[2/4] b", "[3/4] c", "[4/4] d"]
    return lines


def test_each_step_says_how_long_it_and_the_rest_take(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said_by(Steps((5.0, 60.0, 30.0, 7.0)), capsys)
    left = [line.partition("so far, about ")[2] for line in lines]
    assert left == ["1 min 42 s left)", "1 min 37 s left)", "37 s left)", "7 s left)"]


def test_a_profile_that_nobody_timed_promises_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said_by(Steps(STEPS_S.get("brief", ())), capsys)
    assert all(line.endswith("so far)") for line in lines)


@pytest.fixture
def lab_with(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that says, as a lab does, which limits it enforces."""
    status = strict_json.dumps(
        {"source": "lab", "endpoint_url": None, "account_id": "1", "region": "r", "host": "h", "limits": request.param}
    ).encode()

    class Status(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == LAB_STATUS_PATH
            self.send_response(200)
            self.end_headers()
            self.wfile.write(status)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the library gives it
            del format, args

    with HTTPServer(("127.0.0.1", 0), Status) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def limits(cpu: str, memory: str) -> dict[str, str]:
    return {"driver": "process", "cpu": cpu, "memory": memory, "freezer": "signal"}


@pytest.mark.parametrize(
    ("lab_with", "missing"),
    [(limits("none", "none"), "cpu and memory"), (limits("cgroup-v1", "none"), "memory")],
    indirect=["lab_with"],
)
def test_where_nothing_enforces_limits_the_demo_says_so_at_once_and_what_to_do(
    lab_with: str, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_if_sizes_are_not_comparable(lab_with)
    said = capsys.readouterr().err
    assert said.startswith(f"Nothing enforces {missing} here, so memory sizes are not compared. ")
    assert said.endswith(f"{how_to_get_limits()}\n")


@pytest.mark.parametrize("lab_with", [limits("duty-cycle", "duty-cycle")], indirect=True)
def test_where_limits_are_enforced_the_demo_says_nothing_of_them(
    lab_with: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_if_sizes_are_not_comparable(lab_with)
    assert capsys.readouterr().err == ""
