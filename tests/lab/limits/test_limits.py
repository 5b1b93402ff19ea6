"""The mechanisms of limits: on the real kernel where it has them, on a directory that looks like one where not."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.paths import REPOSITORY
from lab.limits import files, probe
from lab.limits.cgroup_v2 import CgroupV2Limits
from lab.limits.mechanism import Group
from lab.limits.probe import below, find_limits, mounted_hierarchies, own_groups, v2_limits_below
from tests.lab.dataplane.harness import reports, until
from tests.processes import process_state

SYSTEMD_MOUNTS = """\
proc /proc proc rw,nosuid 0 0
cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0
"""
HYBRID_MOUNTS = """\
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""


def test_mounts_are_read_by_hierarchy():
    assert mounted_hierarchies(SYSTEMD_MOUNTS) == (Path("/sys/fs/cgroup"), {})
    unified, controllers = mounted_hierarchies(HYBRID_MOUNTS)
    assert unified == Path("/sys/fs/cgroup/unified")
    assert controllers["cpu"] == controllers["cpuacct"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert controllers["memory"] == Path("/sys/fs/cgroup/memory")


def test_the_place_of_this_process_is_read_by_hierarchy():
    assert own_groups("0::/user.slice/user-1000.slice/run-r1.scope\n") == (
        "/user.slice/user-1000.slice/run-r1.scope",
        {},
    )
    unified, controllers = own_groups("4:memory:/a/b\n2:cpu,cpuacct:/c\n1:name=systemd:/\n0::/\n")
    assert unified == "/"
    assert (controllers["memory"], controllers["cpu"]) == ("/a/b", "/c")


def test_a_place_hidden_by_a_container_is_the_mount_itself(tmp_path):
    (tmp_path / "seen").mkdir()
    assert below(tmp_path, "/seen") == tmp_path / "seen"
    assert below(tmp_path, "/not/seen") == tmp_path


def a_v2_directory(path, controllers, handed_down=""):
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text(handed_down)
    (path / "cgroup.procs").write_text("")
    return path


class FakeKernel:
    """Makes new groups look as cgroup v2 does: the control files appear with the directory."""

    FILES = ("cgroup.procs", "cpu.max", "memory.max", "memory.swap.max", "cgroup.freeze", "cgroup.kill", "cpu.stat")

    def __init__(self, monkeypatch):
        mkdir, rmdir = Path.mkdir, Path.rmdir

        def make(path, *arguments, **options):
            new = not path.exists()
            mkdir(path, *arguments, **options)
            if new and "inference-lab" in str(path):
                for name in (*self.FILES, "memory.events", "cgroup.subtree_control", "cgroup.controllers"):
                    (path / name).write_text("")

        def remove(path):
            for name in (*self.FILES, "memory.events", "cgroup.subtree_control", "cgroup.controllers"):
                (path / name).unlink(missing_ok=True)
            rmdir(path)

        monkeypatch.setattr(Path, "mkdir", make)
        monkeypatch.setattr(Path, "rmdir", remove)


def test_cgroup_v2_gets_quota_period_and_memory_without_swap(tmp_path, monkeypatch):
    FakeKernel(monkeypatch)
    root = a_v2_directory(tmp_path / "root", "cpuset cpu io memory pids", "cpu memory pids")
    limits = v2_limits_below(root, is_root=True)
    assert (limits.cpu, limits.memory, limits.freezer) == ("cgroup-v2", "cgroup-v2", "cgroup-v2")
    assert limits.notes == ()
    group = limits.create("function-1", memory_mb=512, vcpu=2.0)
    directory = root / files.owner_name(os.getpid()) / "function-1"
    assert group.join_files == (f"{directory}/cgroup.procs",)
    assert (directory / "cpu.max").read_text() == "40000 20000"
    assert (directory / "memory.max").read_text() == str(512 << 20)
    assert (directory / "memory.swap.max").read_text() == "0"
    assert (directory.parent / "cgroup.subtree_control").read_text() == "+cpu +memory"
    group.set_cpu(512 / 1769)
    assert (directory / "cpu.max").read_text().startswith("5789 20000")
    (directory / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.out_of_memory_kills() == 1
    group.freeze()
    assert (directory / "cgroup.freeze").read_text() == "1"
    group.thaw()
    assert (directory / "cgroup.freeze").read_text() == "0"
    group.kill()
    assert (directory / "cgroup.kill").read_text() == "1"
    assert group.remove()
    limits.close()
    assert not directory.parent.exists()


def test_cgroup_v2_without_controllers_says_what_is_missing_and_what_to_do(tmp_path, monkeypatch):
    FakeKernel(monkeypatch)
    root = a_v2_directory(tmp_path / "root", "pids", "")
    limits = v2_limits_below(root, is_root=True)
    assert (limits.cpu, limits.memory, limits.freezer) == ("none", "none", "cgroup-v2")
    assert all("`Delegate=cpu memory pids`" in note for note in limits.notes)
    assert len(limits.notes) == 2
    limits.close()


def test_in_a_delegated_group_the_lab_moves_into_a_leaf_before_it_hands_controllers_down(tmp_path, monkeypatch):
    FakeKernel(monkeypatch)
    scope = a_v2_directory(tmp_path / "run-r1.scope", "cpu memory pids", "")
    (scope / "cgroup.procs").write_text(f"{os.getpid()}\n")
    first = v2_limits_below(scope, is_root=False)
    assert (scope / "inference-lab" / "cgroup.procs").read_text() == str(os.getpid())
    assert (scope / "cgroup.subtree_control").read_text() in ("+cpu", "+memory")  # the last write of the two
    again = v2_limits_below(scope / "inference-lab", is_root=False)  # where the process is now
    assert again.roots == first.roots


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no cgroups")
def test_auto_uses_no_cgroup_that_limits_memory_but_not_cpu(tmp_path, monkeypatch):
    FakeKernel(monkeypatch)
    root = a_v2_directory(tmp_path / "root", "memory pids", "memory pids")
    monkeypatch.setattr(probe, "_build_v2", lambda: v2_limits_below(root, is_root=True))
    monkeypatch.setattr(probe, "_build_v1", lambda: v2_limits_below(tmp_path / "missing", is_root=True))
    limits = find_limits()
    assert (limits.cpu, limits.memory) == ("duty-cycle", "duty-cycle")
    assert "cgroup v2 controller cpu is not handed down" in limits.notes[0]
    assert not list(root.glob("inference-lab*"))


OWN_GROUP = None
if sys.platform == "linux":
    unified, _ = mounted_hierarchies(Path("/proc/mounts").read_text())
    OWN_GROUP = unified and below(unified, own_groups(Path("/proc/self/cgroup").read_text())[0])


@pytest.mark.skipif(OWN_GROUP is None or not os.access(OWN_GROUP, os.W_OK), reason="no group of cgroup v2 to write to")
def test_cgroup_v2_freezes_and_kills_on_the_real_kernel(tmp_path):
    limits = CgroupV2Limits(OWN_GROUP, frozenset())
    try:
        group = limits.create("real", memory_mb=128, vcpu=1)
        process = subprocess.Popen(
            ["sh", "-c", f"echo 0 > {group.join_files[0]}; while :; do :; done"], stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while process.pid not in files.processes(group.directories[0]):
            assert time.monotonic() < deadline
        group.freeze()
        while "frozen 1" not in Path(group.directories[0], "cgroup.events").read_text():
            assert time.monotonic() < deadline
        used = -1.0  # the last of what it ran may be charged after it is said to be frozen
        while used != (now := limits.cpu_ms()):
            assert time.monotonic() < deadline
            used = now
            time.sleep(0.3)
        group.kill()
        assert process.wait(120) == -signal.SIGKILL
        while not group.remove():
            assert time.monotonic() < deadline
    finally:
        limits.close()
    assert not list(OWN_GROUP.glob(files.owner_name(os.getpid())))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_directory_is_a_leftover_once_its_lab_has_ended_also_where_another_process_has_the_id():
    with subprocess.Popen(["sleep", "600"]) as process:
        own = files.owner_name(process.pid)
        of_an_earlier_process = f"{own}0"
        try:
            assert [files.owner_is_gone(name) for name in (own, of_an_earlier_process)] == [False, True]
        finally:
            process.kill()
    assert files.owner_is_gone(own)
    for name in ("inference-lab-", "inference-lab-load", f"inference-lab-{process.pid}"):
        assert not files.owner_is_gone(name), "a lab did not make it"


def test_a_mechanism_that_is_not_there_falls_back_to_none_with_the_reason():
    limits = find_limits("none")
    assert (limits.cpu, limits.memory, limits.freezer) == ("none", "none", "signal")
    assert "switched off" in limits.notes[0]


async def test_without_limits_functions_run_are_stopped_between_calls_and_every_report_says_so(lab):
    lab.mechanism = "none"
    lab.function(
        """
        import os, subprocess, threading
        def spin():
            while True: pass
        threading.Thread(target=spin, daemon=True).start()
        stray = subprocess.Popen(["sleep", "600"], start_new_session=True)
        def handler(event, context):
            return [os.getpid(), stray.pid]
        """
    )
    async with lab:
        pid, stray = await lab.answer()
        await until(lambda: process_state(pid) == "T", "the process to be stopped")
        await lab.answer()
        assert lab.driver.notes
    assert process_state(pid) == ""
    assert process_state(stray) in ("", "Z")
    lines = lab.logs.lines("function")
    assert len(reports(lines)) == 2
    assert all('"limits":"none"' in line for line in lines if line.startswith('{"type":"lab.conditions"'))


def test_a_process_group_without_a_leader_takes_no_signal():
    group = Group()
    group.freeze()
    group.kill()
    assert group.remove()
    assert issubclass(UserError, Exception)


@pytest.mark.skipif(
    shutil.which("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv to drop a right"
)
def test_without_the_right_to_mount_a_user_namespace_gives_a_tmp_or_a_note_says_why_not(tmp_path):
    program = textwrap.dedent("""
        import asyncio, pathlib, sys
        sys.path.insert(0, {repository!r})
        from tests.lab.dataplane.harness import Lab
        async def main():
            lab = Lab(pathlib.Path({directory!r}))
            source = "import os\\ndef handler(event, context): return [os.getuid(), {mark!r} in os.listdir('/tmp')]"
            lab.function(source)
            async with lab:
                print(await lab.answer(), list(lab.driver.notes))
        asyncio.run(main())
    """)
    with tempfile.NamedTemporaryFile(dir="/tmp") as mark:
        program = program.format(repository=str(REPOSITORY), directory=str(tmp_path), mark=Path(mark.name).name)
        process = subprocess.run(
            ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    if "temporary directory is not its own" not in process.stdout:
        # A tmpfs by a user namespace, which may attach no loop device.
        assert process.stdout.startswith("[0, False]")
        assert "/tmp is in memory" in process.stdout
