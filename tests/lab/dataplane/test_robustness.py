"""What a function, or a kill command, may do to the lab: each has a defined answer, nothing stays behind."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.paths import REPOSITORY
from lab.dataplane.settings import DataPlaneSettings
from lab.drivers.process import _LauncherClient, _ProcessEnvironment, _tmp_template
from lab.limits.files import owner_name
from tests.lab.dataplane.harness import reports, until
from tests.lab.robustness.support import loop_devices_of, wait_until
from tests.processes import cgroups_of, is_alive


def scratch_of(owner):
    return list(Path(tempfile.gettempdir()).glob(f"{owner}-*"))


def children_of(pid):
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, check=True, text=True)
    return [int(word) for word in listing.stdout.split()]


async def test_an_environment_killed_in_the_middle_of_a_call_is_an_exit_error(lab):
    lab.function("import os, time\ndef handler(event, context):\n    print(os.getpid())\n    time.sleep(event)")
    async with lab:
        await lab.call(event=0)
        call = asyncio.ensure_future(lab.call(event=60))
        await until(
            lambda: len([line for line in lab.logs.lines("function") if line.isdigit()]) == 2, "the call to run"
        )
        os.kill(int([line for line in lab.logs.lines("function") if line.isdigit()][-1]), signal.SIGKILL)
        result = await call
        assert result.function_error == "Unhandled"
        assert b"signal: killed" in result.payload
        assert (await lab.call(event=0)).function_error is None
    assert len(reports(lab.logs.lines("function"))) == 3


async def test_an_environment_killed_while_it_is_idle_is_started_anew_by_the_next_call(lab):
    lab.function("import os\ndef handler(event, context):\n    return os.getpid()")
    async with lab:
        first = await lab.answer()
        (environment,) = lab.plane._all_environments()
        await until(lambda: environment.is_frozen, "an idle environment that is frozen, too")
        os.kill(first, signal.SIGKILL)
        await environment._running.thaw()  # a frozen process dies only when it is thawed
        await until(lambda: not lab.driver._running, "the lab to notice its death, and to clear up")
        assert await lab.answer() != first


async def test_a_call_waits_until_what_a_process_that_exited_while_idle_left_is_cleared_up(lab, monkeypatch):
    lab.function("import os\ndef handler(event, context):\n    return os.getpid()")
    cleared, plain = asyncio.Event(), _ProcessEnvironment.kill

    async def kill_later(running):
        await cleared.wait()
        await plain(running)

    async with lab:
        first = await lab.answer()
        (environment,) = lab.plane._all_environments()
        await until(lambda: environment.is_frozen, "the freeze")
        monkeypatch.setattr(_ProcessEnvironment, "kill", kill_later)
        os.kill(first, signal.SIGKILL)
        await environment._running.thaw()
        await until(lambda: not environment.is_frozen, "the lab to notice its death")
        call = asyncio.ensure_future(lab.answer())
        await asyncio.wait([call], timeout=0.2)
        assert not call.done()
        cleared.set()
        assert await call != first


async def test_a_process_whose_start_and_end_are_told_at_once_has_ended():
    ours, theirs = socket.socketpair()
    with theirs:
        client = _LauncherClient(ours, SimpleNamespace(wait=lambda: None))
        launch = asyncio.ensure_future(client.launch({"kind": "launch", "id": "one"}, theirs.fileno()))
        await asyncio.sleep(0)
        ended = {"code": 3, "signal": None, "max_rss_kb": 0, "major_faults": 0, "out_of_memory": False}
        for message in ({"kind": "launched", "pid": 7, "started_at": 1.0}, {"kind": "exited", "ended": ended}):
            body = json.dumps({**message, "id": "one"}).encode()
            theirs.send(len(body).to_bytes(4, "big") + body)
        pid, _, exited = await launch
        assert (pid, (await exited).code) == (7, 3)
    await client.close()


async def test_ten_megabytes_of_output_arrive_whole_and_in_order(lab):
    lab.function(
        """
        def handler(event, context):
            for number in range(1000):
                print(f"{number:05d} " + "x" * 10_000)
            print("y" * 600_000)
        """
    )
    async with lab:
        assert (await lab.call()).function_error is None
        await until(lambda: len(reports(lab.logs.lines("function"))) == 1, "the report")
    lines = lab.logs.lines("function")
    numbered = [line for line in lines if line[:5].isdigit()]
    assert [line[:5] for line in numbered] == [f"{number:05d}" for number in range(1000)]
    assert {len(line) for line in numbered} == {10_006}
    # A line that is longer than an event may be comes in parts.
    assert sum(len(line) for line in lines if line.startswith("y")) == 600_000


async def test_children_that_outlive_their_call_end_with_their_environment(lab):
    lab.function(
        """
        import os, subprocess, sys, time
        def handler(event, context):
            child = os.fork()
            if child == 0:
                os.setsid()  # out of the process group and the session
                time.sleep(600)
                os._exit(0)
            detached = subprocess.Popen(["sleep", "600"], start_new_session=True)
            return [os.getpid(), child, detached.pid]
        """
    )
    async with lab:
        pids = await lab.answer()
        assert all(is_alive(pid) for pid in pids)
    assert [pid for pid in pids if is_alive(pid)] == []


async def test_a_fork_bomb_ends_with_its_environment(lab):
    lab.function(
        """
        import os, time
        def handler(event, context):
            for _ in range(60):
                if os.fork() == 0:
                    for _ in range(3):
                        os.fork()
                    time.sleep(600)
                    os._exit(0)
            time.sleep(600)
        """,
        timeout_s=1,
    )
    async with lab:
        result = await lab.call()
        assert b"timed out" in result.payload
        assert lab.plane.environments == 1
    assert cgroups_of(owner_name(os.getpid())) == []


async def test_a_full_tmp_is_an_error_of_the_function_alone(lab):
    lab.function(
        """
        import os
        def handler(event, context):
            written = 0
            try:
                with open("/tmp/full", "wb") as file:
                    while True:
                        written += file.write(b"x" * (1 << 20))
            except OSError as error:
                os.unlink("/tmp/full")
                return [written >> 20, error.errno]
        """,
        memory_mb=2048,
    )
    async with lab:
        if any("temporary directory" in note for note in lab.driver.notes):
            pytest.skip("this host gives no environment a /tmp of its own, so filling it would fill the host's")
        written_mb, number = await lab.answer()
    assert number == 28  # ENOSPC
    assert 500 <= written_mb <= 512


async def test_malformed_calls_of_the_runtime_api_are_refused_and_change_nothing(lab):
    lab.function(
        """
        import http.client, json, os, socket
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        V = "/2018-06-01/runtime/"

        def status(method, path, body=None, headers={}):
            connection = http.client.HTTPConnection(host, int(port), timeout=600)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return [answer.status, json.loads(answer.read()).get("errorType")]

        def raw(data):
            with socket.create_connection((host, int(port)), timeout=600) as connection:
                try:
                    connection.sendall(data)
                except OSError:
                    pass  # refused before it had all
                return connection.recv(65536).split(b"\\r\\n")[0].decode()

        def handler(event, context):
            me = context.aws_request_id
            return [
                status("POST", V + "invocation/no-such-id/response", b"1"),
                status("POST", V + "invocation/no-such-id/error", b"1"),
                status("GET", V + "invocation/" + me + "/response"),
                status("POST", V + "invocation/next"),
                status("GET", "/nothing"),
                status("POST", V + "invocation/" + me + "/nothing", b"1"),
                status("POST", V + "init/error", b"{}"),
                status("GET", V + "invocation/next"),
                raw(b"nonsense\\r\\n\\r\\n"),
                raw(b"POST / HTTP/1.1\\r\\nContent-Length: -1\\r\\n\\r\\n"),
                raw(b"POST / HTTP/1.1\\r\\nContent-Length: " + b"9" * 5000 + b"\\r\\n\\r\\n"),
                raw(b"POST / HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\nzz\\r\\n"),
                raw(b"POST / HTTP/1.1\\r\\nTransfer-Encoding: gzip\\r\\n\\r\\n"),
                raw(b"POST / HTTP/1.1\\r\\nno colon\\r\\n\\r\\n"),
                raw(b"x" * 3_000_000),
            ]
        """
    )
    async with lab:
        answers = await lab.answer()
        again = await lab.answer()
    assert (
        answers
        == again
        == [
            [400, "InvalidRequestID"],
            [400, "InvalidRequestID"],
            [405, "MethodNotAllowed"],
            [405, "MethodNotAllowed"],
            [404, "NotFound"],
            [404, "NotFound"],
            [403, "InvalidStateTransition"],
            [403, "InvalidStateTransition"],
            *["HTTP/1.1 400 Bad Request"] * 4,
            "HTTP/1.1 501 Not Implemented",
            "HTTP/1.1 400 Bad Request",
            "HTTP/1.1 431 Request Header Fields Too Large",
        ]
    )


async def test_a_second_answer_to_one_event_is_refused_and_the_first_one_counts(lab):
    lab.function(
        """
        import http.client, os
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        def handler(event, context):
            connection = http.client.HTTPConnection(host, int(port))
            path = f"/2018-06-01/runtime/invocation/{context.aws_request_id}/response"
            connection.request("POST", path, b'"first"')
            print("status", connection.getresponse().status)
            return "second"
        """
    )
    async with lab:
        result = await lab.call()
        await until(lambda: reports(lab.logs.lines("function")), "a report")
    assert json.loads(result.payload) == "first"
    assert "status 202" in lab.logs.lines("function")


async def test_a_response_that_fails_while_it_is_streamed_is_a_function_error(lab):
    lab.function(
        """
        import base64, os, socket
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        def handler(event, context):
            body = base64.b64encode(b'{"errorType": "Mine", "errorMessage": "half way"}')
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    b"POST /2018-06-01/runtime/invocation/" + context.aws_request_id.encode() + b"/response "
                    b"HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n"
                    b"Lambda-Runtime-Function-Response-Mode: streaming\\r\\n"
                    b"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\\r\\n\\r\\n"
                    b"5\\r\\nhello\\r\\n0\\r\\nLambda-Runtime-Function-Error-Type: Runtime.StreamError\\r\\n"
                    b"Lambda-Runtime-Function-Error-Body: " + body + b"\\r\\n\\r\\n")
                print(connection.recv(100)[:12])
        """
    )
    async with lab:
        result = await lab.call()
        await until(lambda: reports(lab.logs.lines("function")), "a report")
    assert result.function_error == "Unhandled"
    assert json.loads(result.payload) == {"errorType": "Mine", "errorMessage": "half way"}
    assert reports(lab.logs.lines("function"))[0]["status"] == "error"


async def test_a_function_that_writes_beside_its_code_is_refused(lab):
    lab.function("def handler(event, context):\n    open('beside.txt', 'w')")
    async with lab:
        result = await lab.call()
        if any("temporary directory" in note for note in lab.driver.notes):
            pytest.skip("this host cannot mount the image's directory read-only")
    assert json.loads(result.payload)["errorType"] == "OSError"
    assert "Read-only" in json.loads(result.payload)["errorMessage"]


async def test_an_image_without_a_directory_says_what_to_do(lab):
    import dataclasses

    lab.function("def handler(event, context): pass")
    image = lab.images.images["function:1"]
    lab.images.images["function:1"] = dataclasses.replace(image, root=None)
    async with lab:
        result = await lab.call()
        del lab.images.images["function:1"]
        lab.change("function", revision="2")
        missing = await lab.call()
    assert "container driver" in json.loads(result.payload)["errorMessage"]
    assert missing.error_code == "InvalidParameterValueException"
    assert "function:1" in missing.extra["message"]


async def test_a_killed_launcher_is_started_anew(lab):
    lab.function("import os\ndef handler(event, context):\n    return os.getpid()")
    async with lab:
        first = await lab.answer()
        lab.driver._launcher._process.kill()
        await until(lambda: lab.driver._launcher.gone and not lab.driver._running, "its end and its environments'")
        second = await lab.answer()
        assert second != first
        assert not is_alive(first)


async def test_a_lab_without_a_free_descriptor_answers_and_goes_on_when_there_are_some(lab):
    lab.function("def handler(event, context):\n    return 'served'")
    async with lab:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for free in range(4):  # it fails at another place each time
            held = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]  # the last is above all that are in use
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1 + free, hard))
            try:
                async with asyncio.timeout(600):
                    result = await lab.call()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for descriptor in held:
                    os.close(descriptor)
            assert json.loads(result.payload)["errorType"] == "Runtime.LaunchError", result
            assert b"Too many open files" in result.payload
        assert await lab.answer() == "served"
    assert cgroups_of(owner_name(os.getpid())) == []


async def test_a_lab_that_closes_during_an_init_does_not_begin_another_one(lab):
    lab.settings = DataPlaneSettings(init_timeout_s=3600)  # which is not waited for
    lab.function("import time\nprint('init', flush=True)\ntime.sleep(3600)\ndef handler(event, context): pass")
    await lab.__aenter__()
    call = asyncio.ensure_future(lab.call())
    await until(lambda: "init" in lab.logs.lines("function"), "the init")
    await lab.__aexit__()
    assert b"shut down" in (await call).payload
    assert lab.logs.lines("function").count("init") == 1


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a /dev of its own")
def test_a_loop_device_that_the_host_has_and_dev_does_not_is_made(tmp_path):
    """As in a container, whose /dev has the devices that were there when it was started."""
    template = _tmp_template(tmp_path, 16)
    if not template:
        pytest.skip("mkfs.ext4 is not there")
    program = f"""
import os, stat, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from lab.drivers import launcher
try:
    launcher._own_mounts()
    control = os.stat("/dev/loop-control").st_rdev
    launcher._mount("tmpfs", "/dev", "tmpfs", 0)
    os.mknod("/dev/loop-control", stat.S_IFCHR | 0o600, control)
except OSError as error:
    sys.exit(f"skip: {{error}}")
launcher._disk_tmp({template!r})
print(os.listdir("/tmp"), os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize >> 20)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if ended.stderr.startswith("skip:"):
        pytest.skip(ended.stderr)
    assert ended.stdout.startswith("[] 1"), ended.stderr
    # A lab of another run that asked for a free device may hold this one for a moment.
    wait_until(lambda: loop_devices_of(tmp_path) == [], "the device's end")
    assert [path.name for path in tmp_path.iterdir()] == ["tmp.ext4"]


def test_a_copy_for_tmp_that_a_killed_launch_left_is_removed_by_the_next_lab(tmp_path):
    left = tmp_path / "tmp.ext4-4711"
    left.write_bytes(b"")
    if not _tmp_template(tmp_path, 16):
        pytest.skip("mkfs.ext4 is not there, or no right to loop devices")
    assert not left.exists()


LAB_PROGRAM = """
    import asyncio, pathlib, sys
    import uvloop
    sys.path.insert(0, {repository!r})
    from tests.lab.dataplane.harness import Lab

    async def main():
        lab = Lab(pathlib.Path({directory!r}))
        lab.mechanism = {mechanism!r}
        lab.function('''
            import os, subprocess, time
            def handler(event, context):
                child = subprocess.Popen(["sleep", "600"], start_new_session=True)
                # No parent, group, session, or variable ties this one to the environment.
                left = ["sh", "-c", "setsid sleep 600 > /dev/null & echo $!"]
                orphan = int(subprocess.run(left, env={{}}, stdout=subprocess.PIPE, check=True).stdout)
                print(os.getpid(), child.pid, orphan, flush=True)
                time.sleep(event)
                return [os.getpid(), child.pid, orphan]
        ''')
        await lab.__aenter__()
        idle = await lab.answer(event=0)
        busy = asyncio.ensure_future(lab.call(event=600))
        said = []
        while len(said) < 2:
            await asyncio.sleep(0.01)
            said = [line for line in lab.logs.lines("function") if line.replace(" ", "").isdigit()]
        print(*idle, *said, flush=True)
        await asyncio.sleep(600)

    uvloop.run(main())
"""


def lab_program(directory, mechanism="auto"):
    return textwrap.dedent(LAB_PROGRAM).format(
        repository=str(REPOSITORY), directory=str(directory), mechanism=mechanism
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mechanism", ["auto", "duty-cycle"])
async def test_a_lab_that_is_killed_leaves_no_process_and_no_cgroup(tmp_path, mechanism):
    program = lab_program(tmp_path, mechanism)
    lab = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    line = await lab.stdout.readline()
    pids = {int(word) for word in line.split()}
    assert len(pids) >= 5
    owner = owner_name(lab.pid)
    lab.send_signal(signal.SIGKILL)
    await lab.wait()
    await until(lambda: not any(is_alive(pid) for pid in pids), "the end of every environment")
    await until(lambda: not cgroups_of(owner), "the end of every group")
    await until(lambda: not scratch_of(owner), "the end of its scratch directory")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_what_a_lab_killed_together_with_its_launcher_left_is_cleared_by_the_next(lab, tmp_path):
    program = lab_program(tmp_path)
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    pids = {int(word) for word in (await killed.stdout.readline()).split()}
    owner, launchers = owner_name(killed.pid), children_of(killed.pid)
    assert launchers
    for pid in [*launchers, killed.pid]:
        os.kill(pid, signal.SIGKILL)
    await killed.wait()
    lab.function("def handler(event, context): pass")
    async with lab:
        assert cgroups_of(owner) == []
        assert scratch_of(owner) == []
    if lab.driver.limits.freezer != "signal":
        await until(lambda: not any(is_alive(pid) for pid in pids), "the end of every environment")


@pytest.mark.parametrize("moment", ["set_cpu", "thaw"])
async def test_a_process_that_exits_just_before_its_event_is_replaced_and_the_call_answered(lab, monkeypatch, moment):
    """The driver's requests take time: the process may exit while the environment waits for one of them."""
    lab.function("import os\ndef handler(event, context):\n    return os.getpid()")
    plain = getattr(_ProcessEnvironment, moment)
    killed = []

    async def exits_meanwhile(running, *arguments):
        await plain(running, *arguments)
        if not killed:
            killed.append(running._process_id)
            os.kill(running._process_id, signal.SIGKILL)
            await running.wait()  # the environment has waited for longer, and hears of it first

    async with lab:
        if moment == "thaw":
            before = await lab.answer()
            (environment,) = lab.plane._all_environments()
            await until(lambda: environment.is_frozen, "the freeze")
        monkeypatch.setattr(_ProcessEnvironment, moment, exits_meanwhile)
        answered = await lab.answer()
        assert killed
        assert answered not in killed
        assert len(lab.plane._all_environments()) == 1
        if moment == "thaw":
            assert killed == [before]
        assert await lab.answer() == answered
