"""A small process that starts execution environments for the lab, and outlives it long enough to clean up.

Why a separate process: forking the lab itself, with moto and a few hundred MB in it, stalls its event loop; and when
the lab is killed, somebody has to end the environments and remove their groups. It imports the standard library's
lightest parts alone, forks in a millisecond, sets each child up (session, groups, CPUs, mounts, death signal) and
executes a fresh interpreter: nothing is preloaded for the function.

Messages on the socket: 4 bytes length, then JSON. The lab sends `launch` with the write end of the output pipe; answers
are `launched` or `failed`, and `exited` when a child ends. At the end of the socket everything is killed and removed:
the launcher is the subreaper of all that environments start, so what outlives its parents becomes the launcher's child.

Where no cgroup can be used, it enforces CPU share and memory limit itself: see `lab.limits.governor`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lab.limits.governor import Governor

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
SA_NOCLDSTOP: Final = 1
LOOP_MAJOR: Final = 7
LOOP_CTL_GET_FREE: Final = 0x4C82
LOOP_CONFIGURE: Final = 0x4C0A
LO_FLAGS_AUTOCLEAR: Final = 4
LAUNCH_FAILED: Final = 127
OPEN_FILES: Final = 1024  # file descriptors of an environment, "gettingstarted-limits"
_TMP: Final = "/tmp"  # noqa: S108 - the guest's /tmp is what this is about
_CPUS_ONLINE: Final = "/sys/devices/system/cpu/online"

_LINUX: Final = sys.platform == "linux"
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    _check(
        _libc.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            data.encode() if data else None,
        ),
        f"mount {target}",
    )


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _own_mounts() -> None:
    """A mount namespace of this process's own; without the right to it, in a user namespace that keeps the user id."""
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(CLONE_NEWNS) != 0:
        _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    _mount("none", "/", None, MS_REC | MS_PRIVATE)


def _private_tmp(template: str, size_mb: int, keep: list[str]) -> None:
    """An empty /tmp of limited size. Directories of `keep` that are below /tmp stay where they are."""
    kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in keep if path.startswith(f"{_TMP}/")]
    if template:
        _disk_tmp(template)
    else:
        _mount("tmpfs", _TMP, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size_mb}m,mode=1777")
    for path, descriptor in kept:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - pathlib is 10 ms of the start of each launcher
        _mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)


def _disk_tmp(template: str) -> None:
    """An empty /tmp on disk: a copy of a formatted image, on a loop device that disappears with its last mount.

    The copy has lost its name before the function starts, so that nothing is left however the environment ends.
    """
    image = _copied(template)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    while True:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        name = f"/dev/loop{number}"
        with contextlib.suppress(OSError):  # mostly because it is there
            # In a container nobody adds the devices that the kernel makes when those of its start are taken.
            os.mknod(name, stat.S_IFBLK | 0o660, os.makedev(LOOP_MAJOR, number))
        device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        # struct loop_config: descriptor, block size, struct loop_info64 (its flags are the ninth field), reserved
        configuration = struct.pack("=II 5Q4I 176x 64x", image, 0, 0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR)
        try:
            fcntl.ioctl(device, LOOP_CONFIGURE, configuration)
            break
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:  # another was faster
                raise
    _mount(name, _TMP, "ext4", MS_NOSUID | MS_NODEV)
    for descriptor in (device, control, image):
        os.close(descriptor)
    os.rmdir(f"{_TMP}/lost+found")  # noqa: PTH106 - pathlib is 10 ms of the start of each launcher
    os.chmod(_TMP, 0o1777)  # noqa: PTH101, S103 - as above; the mode of any /tmp


def _copied(template: str) -> int:
    """Descriptor of a nameless copy that has the template's holes: some hundred KB of hundreds of MB."""
    source = os.open(template, os.O_RDONLY | os.O_CLOEXEC)
    path = f"{template}-{os.getpid()}"
    copy = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)  # noqa: PTH108 - as above
    os.ftruncate(copy, os.fstat(source).st_size)
    end = 0
    while True:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError:
            os.close(source)
            return copy
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(copy, start, os.SEEK_SET)
        while start < end:
            start += os.sendfile(copy, source, None, end - start)


def _read_only(path: str) -> None:
    """The image's root as on Lambda, where a function cannot write next to its code."""
    _mount(path, path, None, MS_BIND | MS_REC)
    _mount("none", path, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _become(request: dict[str, Any], output: int, joined: int) -> None:
    """In the child: set everything up and become the function. Only returns by an exception.

    `joined`: has a byte to read once this process is in its groups.
    """
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    launcher = os.getppid()
    if _LINUX:
        _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        if os.getppid() != launcher:
            os._exit(LAUNCH_FAILED)
        if request["pinned"]:
            os.sched_setaffinity(0, request["cpus"])
    if request["own_mounts"]:
        _own_mounts()
        if request["cpus_file"]:
            with contextlib.suppress(OSError):  # not every kernel shows the file
                _mount(request["cpus_file"], _CPUS_ONLINE, None, MS_BIND)
        _private_tmp(request["tmp_template"], request["tmp_mb"], request["keep"])
        with contextlib.suppress(OSError):  # a user namespace may not remount what the host has mounted with more flags
            _read_only(request["directory"])
    os.chdir(request["working_directory"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for descriptor in (1, 2, *request["output_copies"]):
        os.dup2(output, descriptor)
        os.set_inheritable(descriptor, True)
    if not os.read(joined, 1):
        os._exit(LAUNCH_FAILED)  # the parent tells why
    os.execve(request["arguments"][0], request["arguments"], request["variables"])  # noqa: S606 - this is what a launcher is for


def _join(pid: int, files: list[str], done: int) -> str:
    """Put a child into its groups, then tell it through `done`; returns "", or the reason why it is not in them.

    The kernel waits for all CPUs when it moves a process, and again when it sets up a loop device. The parent does the
    first while the child does the second.
    """
    try:
        for path in files:
            _write(path, str(pid))
        os.write(done, b"1")
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        os.close(done)
    return ""


class _SignalAction(ctypes.Structure):
    """struct sigaction of Linux's C libraries on 64-bit machines."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _hear_of_ends_only() -> None:
    """Take no SIGCHLD for children that are stopped or continued: it would double the governor's own CPU time."""
    action = _SignalAction()
    _check(_libc.sigaction(signal.SIGCHLD, None, ctypes.byref(action)), "sigaction")
    action.flags |= SA_NOCLDSTOP
    _check(_libc.sigaction(signal.SIGCHLD, ctypes.byref(action), None), "sigaction")


def _tried(mount: Callable[[], None]) -> str:
    """Try a private mount in a child; "" if it works, else the reason."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _own_mounts()
            mount()
            os.write(writer, b"ok")
        except BaseException as error:  # noqa: BLE001 - a child never returns into the loop of its parent
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 4096).decode()
    os.close(reader)
    os.waitpid(pid, 0)
    return "" if answer == "ok" else answer or "the trial ended without an answer"


class Launcher:
    """The loop: requests on the socket, ends of children by SIGCHLD."""

    def __init__(self, channel: socket.socket, template: str, governor: Governor | None) -> None:
        """`template`: a formatted image for the guests' /tmp, or "".

        `governor` enforces limits on environments whose request asks for it.
        """
        self._channel = channel
        self._governor = governor
        self._template = template
        self._children: dict[int, dict[str, Any]] = {}
        self._clean_up: list[str] = []

    def run(self) -> None:
        wakeup, notify = socket.socketpair()
        notify.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(notify.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if self._governor is not None:
            _hear_of_ends_only()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the lab decides; its end is the end of the socket
        if _LINUX:
            _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
        no_mounts = _tried(lambda: _private_tmp("", 1, [])) if _LINUX else f"{sys.platform} has no mount namespaces"
        no_disk_tmp = "no image of a file system" if not self._template else ""
        if self._template and not no_mounts:
            no_disk_tmp = _tried(lambda: _disk_tmp(self._template))
        self._send({"kind": "ready", "no_mounts": no_mounts, "no_disk_tmp": no_disk_tmp})
        try:
            while True:
                readable = self._wait(self._channel, wakeup)
                if wakeup in readable:
                    with contextlib.suppress(BlockingIOError):
                        wakeup.recv(4096)
                    self._reap()
                if self._channel in readable:
                    request, output = self._receive()
                    if request is None:
                        return
                    self._handle(request, output)
        except (ConnectionError, BrokenPipeError):
            return
        finally:
            self._end_everything()

    def _wait(self, *ends: Any) -> list[Any]:
        """Wait until one of the ends can be read, and enforce limits meanwhile."""
        while True:
            timeout_s = self._governor.look() if self._governor is not None else None
            # poll() would round to milliseconds; the descriptors of this process are few, so select() takes them all
            readable, _, _ = select.select(ends, (), (), timeout_s)
            if readable:
                return readable

    def _receive(self) -> tuple[dict[str, Any] | None, int]:
        header, descriptors, _, _ = socket.recv_fds(self._channel, 4, 1)
        if len(header) < 4:
            return None, -1
        length = int.from_bytes(header, "big")
        body = bytearray()
        while len(body) < length:
            part = self._channel.recv(length - len(body))
            if not part:
                return None, -1
            body += part
        return json.loads(body), descriptors[0] if descriptors else -1

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._channel.sendall(len(body).to_bytes(4, "big") + body)

    def _handle(self, request: dict[str, Any], output: int) -> None:
        if request["kind"] == "forget":
            self._clean_up = [path for path in self._clean_up if path not in request["paths"]]
            return
        if request["kind"] == "clean_up":
            self._clean_up += request["paths"]
            return
        if request["kind"] != "launch":
            self._govern(request)
            return
        self._launch(request, output)

    def _govern(self, request: dict[str, Any]) -> None:
        """Change what is enforced on a child that runs; one that has ended needs nothing."""
        leader = next((pid for pid, child in self._children.items() if child["id"] == request["id"]), None)
        if self._governor is None or leader is None:
            return
        if request["kind"] == "set_cpu":
            self._governor.set_cpu(leader, request["vcpu"])
        elif request["kind"] == "freeze":
            self._governor.freeze(leader)
        else:
            self._governor.thaw(leader)

    def _launch(self, request: dict[str, Any], output: int) -> None:
        reader, writer = os.pipe()
        joined, join = os.pipe()
        started_at = time.monotonic()
        try:
            pid = os.fork()
        except OSError as error:
            for descriptor in (reader, writer, joined, join, output):
                os.close(descriptor)
            self._send({"kind": "failed", "id": request["id"], "error": str(error)})
            return
        if pid == 0:
            try:
                os.close(join)
                _become(request, output, joined)
            except BaseException as failure:  # noqa: BLE001 - a child never returns into its parent's loop
                with contextlib.suppress(OSError):
                    os.write(writer, f"{type(failure).__name__}: {failure}".encode())
            os._exit(LAUNCH_FAILED)
        for descriptor in (writer, joined, output):
            os.close(descriptor)
        not_joined = _join(pid, request["join_files"], join)
        self._wait(reader)
        # Reading ends when exec closes the child's copy.
        reason = os.read(reader, 4096).decode("utf-8", "replace") or not_joined
        os.close(reader)
        if reason:
            os.waitpid(pid, 0)
            self._send({"kind": "failed", "id": request["id"], "error": reason})
            return
        self._children[pid] = request
        if self._governor is not None and request["limits"]:
            with contextlib.suppress(OSError):  # it has ended already
                self._governor.add(pid, cpus=len(request["cpus"]), **request["limits"])
        self._clean_up += request["clean_up"]
        self._send({"kind": "launched", "id": request["id"], "pid": pid, "started_at": started_at})

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            request = self._children.pop(pid, None)
            if request is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            out_of_memory = self._governor is not None and self._governor.remove(pid)
            self._send(
                {
                    "kind": "exited",
                    "id": request["id"],
                    "ended": {
                        "code": code if code >= 0 else None,
                        "signal": -code if code < 0 else None,
                        "max_rss_kb": usage.ru_maxrss if _LINUX else usage.ru_maxrss // 1024,
                        "major_faults": usage.ru_majflt,
                        "out_of_memory": out_of_memory,
                    },
                }
            )

    def _end_everything(self) -> None:
        """The lab has gone: kill what it left, remove groups and directories, deepest first.

        A process in a group or session of its own becomes this one's child once its parents have ended, whose next
        round kills it: the end is reached when there is no child any more.
        """
        for attempt in range(200):
            for pid in self._children:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            for path in self._clean_up:
                self._kill_group(path)
            _kill_all(f"/proc/self/task/{os.getpid()}/children")
            none_left = self._wait_for_killed()
            for path in sorted(self._clean_up, key=len, reverse=True):
                _remove(path)
            self._clean_up = [path for path in self._clean_up if os.path.isdir(path)]  # noqa: PTH112 - as above
            if none_left and not self._clean_up:
                return
            time.sleep(0.01 if attempt < 100 else 0.1)

    def _wait_for_killed(self) -> bool:
        """Take note of the children that have ended; returns whether none is left."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            self._children.pop(pid, None)

    @staticmethod
    def _kill_group(path: str) -> None:
        for name, value in (("freezer.state", "FROZEN"), ("cgroup.kill", "1")):
            with contextlib.suppress(OSError):
                _write(f"{path}/{name}", value)
        _kill_all(f"{path}/cgroup.procs")
        for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with contextlib.suppress(OSError):
                _write(f"{path}/{name}", value)


def _kill_all(path: str) -> None:
    """Kill the processes whose ids a file of the kernel lists; nothing where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        listed = os.read(descriptor, 65_536).split()
    finally:
        os.close(descriptor)
    for pid in listed:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(pid), signal.SIGKILL)


def _remove(path: str) -> None:
    try:
        os.rmdir(path)  # noqa: PTH106 - as above
    except FileNotFoundError:
        return
    except OSError:
        if not os.path.exists(f"{path}/cgroup.procs"):  # noqa: PTH110 - as above
            shutil.rmtree(path, ignore_errors=True)


def main(arguments: list[str]) -> None:
    """Run the launcher: descriptor of the socket, image for /tmp or "", the repository if it has to enforce limits."""
    channel, template, repository = arguments
    governor = None
    if repository:
        sys.path.append(repository)
        from lab.limits.governor import Governor  # noqa: PLC0415 - where cgroups do the work, it would only add weight

        governor = Governor()
    # The lowest free number instead of the lab's: select() takes none over 1023. No function may hold this end.
    descriptor = os.dup(int(channel))
    os.close(int(channel))
    Launcher(socket.socket(fileno=descriptor), template, governor).run()


if __name__ == "__main__":
    main(sys.argv[1:])
