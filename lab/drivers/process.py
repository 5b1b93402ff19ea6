"""The process driver: an execution environment is `python -m awslambdaric` on this host, in the image's directory.

Its Python is a base of the driver's own with the runtime client alone; the image's packages come with the image.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from core.paths import REPOSITORY
from core.run.records import LimitsInForce, LimitsMechanism
from lab.dataplane.settings import EPHEMERAL_STORAGE_MB
from lab.drivers import launcher
from lab.drivers.protocol import ExitStatus, LaunchError, LaunchSpec, RunningEnvironment, Usage, peak_memory_kb
from lab.host.resources import host_cpus
from lab.images.base import PACKAGES, make_base
from lab.images.image_store import TASK_ROOT
from lab.limits.duty_cycle import DutyCycleGroup, DutyCycleLimits
from lab.limits.files import ROOT_PREFIX, owner_is_gone, owner_name
from lab.limits.mechanism import Group, Limits
from lab.limits.probe import find_limits

_LAUNCHES_AT_ONCE: Final = 8
_OUTPUT_CHUNK_BYTES: Final = 65_536  # a pipe's capacity: one read takes all that is there
_FRAMES_DESCRIPTOR: Final = 3
_EXT4_OVERHEAD: Final = 1.032  # of size over what files can have of it
_REMOVE_PATIENCE_S: Final = 10.0


class ProcessDriver:
    """Starts environments through the launcher, each in a group of `limits`.

    `mechanism` names the kind of limits to use, "auto" for the best there is. `state_directory` holds scratch files.
    """

    def __init__(self, *, mechanism: LimitsMechanism = "auto", state_directory: Path | None = None) -> None:
        self._mechanism = mechanism
        self._given_state_directory = state_directory
        self._state_directory = Path()
        self._limits: Limits | None = None
        self._in_force: LimitsInForce | None = None
        self._launcher: _LauncherClient | None = None
        self._launcher_starting = asyncio.Lock()
        self._running: dict[str, _ProcessEnvironment] = {}
        self._slots = asyncio.Semaphore(_LAUNCHES_AT_ONCE)
        self._no_mounts = ""
        self._no_disk_tmp = ""
        self._tmp_template = ""
        self._python = Path()
        self._closed = False
        self._host_cpus = host_cpus()

    @property
    def limits(self) -> LimitsInForce:
        if self._in_force is None:
            self._in_force = self._limits_found().in_force("process")
        return self._in_force

    @property
    def notes(self) -> Sequence[str]:
        """What is not enforced here, a sentence each."""
        notes = list(self._limits_found().notes)
        if self._no_mounts:
            notes.append(
                f"The guest's temporary directory is not its own and has no size limit ({self._no_mounts}): "
                "TMPDIR points to one of its own instead, and the image's directory can be written to. "
                "Root or user namespaces would do it."
            )
        elif self._no_disk_tmp:
            notes.append(
                f"The guest's /tmp is in memory and counts as the function's ({self._no_disk_tmp}): a function that "
                "fills it with more than its memory is killed. Root, mkfs.ext4 and loop devices would put it on disk."
            )
        if len(self._host_cpus) < 2:
            notes.append("This host has one CPU; a function on Lambda sees at least two.")
        return notes

    def environments_cpu_ms(self) -> float | None:
        """CPU time of all environments since the start; None where there are no groups to ask."""
        return self._limits_found().cpu_ms()

    async def start(self) -> None:
        """Probe limits and mounts, start the launcher, remove what a killed lab left."""
        self._limits = find_limits(self._mechanism)
        if self._given_state_directory is None:
            _clear_scratch(Path(tempfile.gettempdir()))
            self._state_directory = Path(tempfile.mkdtemp(prefix=f"{owner_name(os.getpid())}-"))
        else:
            self._state_directory = self._given_state_directory
            self._state_directory.mkdir(parents=True, exist_ok=True)
        self._tmp_template = await asyncio.to_thread(_tmp_template, self._state_directory)
        self._python = await asyncio.to_thread(make_base, self._state_directory / "base")
        await self._connected_launcher()

    async def launch(self, spec: LaunchSpec) -> RunningEnvironment:
        """Start one environment; returns when its interpreter has been executed."""
        root = spec.image.root
        if root is None:
            raise LaunchError(
                f"image {spec.image.reference} has no directory on this host",
                hint="It was built by a container engine: start the lab with the container driver.",
            )
        async with self._slots:
            client = await self._connected_launcher()
            return await self._launch(client, spec, root.resolve())

    async def _launch(self, client: _LauncherClient, spec: LaunchSpec, root: Path) -> _ProcessEnvironment:
        limits = self._limits_found()
        name = f"{spec.function_name[:64]}-{spec.environment_id}"
        try:
            group = limits.create(name, memory_mb=spec.memory_mb, vcpu=spec.init_vcpu)
        except OSError as error:
            raise LaunchError(
                f"no group for an environment of {spec.function_name}: {error}",
                hint="Was a cgroup of the lab removed or its controller taken away? Start the lab again.",
            ) from error
        try:
            reader, writer = os.pipe()
        except OSError:
            group.remove()
            raise
        os.set_blocking(reader, False)
        cpus = tuple(spec.cpus)
        clean_up = list(group.directories)
        variables = self._variables(spec, root)
        try:
            if self._no_mounts:
                scratch = self._state_directory / f"tmp-{spec.environment_id}"
                scratch.mkdir(mode=0o700)
                variables["TMPDIR"] = str(scratch)
                # Where the image's directory can be written to, the first start would compile for all later ones.
                variables.setdefault("PYTHONDONTWRITEBYTECODE", "1")
                clean_up.append(str(scratch))
            process_id, started_at, exited = await client.launch(
                {
                    "kind": "launch",
                    "id": spec.environment_id,
                    "arguments": [str(self._python), "-m", "awslambdaric", *spec.command],
                    "variables": variables,
                    "directory": str(root),
                    "working_directory": str(_inside(root, spec.working_directory)),
                    "join_files": list(group.join_files),
                    "cpus": list(cpus),
                    "pinned": len(cpus) < len(self._host_cpus),
                    "limits": dict(group.request) if isinstance(group, DutyCycleGroup) else {},
                    "cpus_file": self._cpus_file(cpus),
                    "own_mounts": not self._no_mounts,
                    "tmp_mb": EPHEMERAL_STORAGE_MB,
                    "tmp_template": "" if self._no_disk_tmp else self._tmp_template,
                    "keep": [str(root), str(self._python.parent.parent), sys.base_prefix],
                    "output_copies": [_FRAMES_DESCRIPTOR],
                    "clean_up": clean_up,
                },
                writer,
            )
        except (LaunchError, OSError):
            os.close(reader)
            group.remove()
            raise
        finally:
            os.close(writer)
        group.leader = process_id
        if isinstance(group, DutyCycleGroup):
            group.tell = partial(client.tell, spec.environment_id)
        environment = _ProcessEnvironment(
            self, client, spec, process_id, started_at, exited, group, reader, tuple(clean_up)
        )
        self._running[spec.environment_id] = environment
        return environment

    async def close(self) -> None:
        """End every environment, then the launcher; nothing stays behind."""
        self._closed = True
        await asyncio.gather(*(environment.kill() for environment in list(self._running.values())))
        if self._launcher is not None:
            await self._launcher.close()
        if self._limits is not None:
            self._limits.close()
        if self._given_state_directory is None and self._state_directory != Path():
            shutil.rmtree(self._state_directory, ignore_errors=True)

    def _limits_found(self) -> Limits:
        if self._limits is None:
            raise RuntimeError("the driver has not been started")
        return self._limits

    async def _connected_launcher(self) -> _LauncherClient:
        async with self._launcher_starting:
            if self._closed:
                raise LaunchError("the lab is shutting down", hint="Start it again.")
            if self._launcher is None or self._launcher.gone:
                if self._launcher is not None:
                    await self._launcher.close()
                repository = str(REPOSITORY) if isinstance(self._limits_found(), DutyCycleLimits) else ""
                self._launcher = await _LauncherClient.start(self._tmp_template, repository)
                self._no_mounts = self._launcher.no_mounts
                self._no_disk_tmp = self._launcher.no_disk_tmp
                roots = [str(root) for root in self._limits_found().roots]
                if self._given_state_directory is None:
                    roots.append(str(self._state_directory))
                self._launcher.clean_up(roots)
            return self._launcher

    def _variables(self, spec: LaunchSpec, root: Path) -> dict[str, str]:
        """The function's variables; those that only this host can know go below, the ones that must hold above."""
        host = {
            name: os.environ[name]
            for name in ("PATH", "LD_LIBRARY_PATH", "LANG", "SSL_CERT_FILE")
            if name in os.environ
        }
        variables = {"PATH": os.defpath, "LANG": "en_US.UTF-8", **host, **spec.variables}
        variables["LAMBDA_TASK_ROOT"] = str(root)
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (variables.get("PYTHONPATH"), str(root / PACKAGES))))
        variables["AWS_LAMBDA_RUNTIME_API"] = f"127.0.0.1:{spec.runtime_api_port}"
        variables["_LAMBDA_TELEMETRY_LOG_FD"] = str(_FRAMES_DESCRIPTOR)
        return variables

    def _cpus_file(self, cpus: Sequence[int]) -> str:
        """A stand-in for the kernel's list of CPUs, which `os.cpu_count` reads, where the host has more."""
        if len(cpus) == len(self._host_cpus) or self._no_mounts:
            return ""
        text = f"0-{len(cpus) - 1}\n" if len(cpus) > 1 else "0\n"
        path = self._state_directory / f"cpus-{len(cpus)}"
        if not path.exists():
            path.write_text(text)
        return str(path)

    def forget(self, environment_id: str) -> None:
        self._running.pop(environment_id, None)


def _tmp_template(directory: Path, size_mb: int = EPHEMERAL_STORAGE_MB) -> str:
    """A formatted image from which each environment gets its /tmp, made at each start; "" where it cannot be made.

    A format takes longer than everything else in the start of an environment, a copy of its few hundred KB does not.
    """
    command = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if command is None or os.geteuid() != 0:
        return ""
    path = directory / "tmp.ext4"
    for copy in directory.glob(f"{path.name}-*"):  # a launch that was killed between making it and taking its name
        copy.unlink(missing_ok=True)
    # No journal and no reserved blocks: nobody mounts it again after a crash, and all of it is the function's.
    options = ["-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"]
    try:
        with path.open("wb") as file:
            file.truncate(math.ceil(size_mb * _EXT4_OVERHEAD) << 20)
        made = subprocess.run([command, *options, str(path)], capture_output=True, check=False)
    except OSError:
        return ""
    return str(path) if made.returncode == 0 else ""


def _clear_scratch(parent: Path) -> None:
    """Remove the scratch directories of labs that were killed."""
    for directory in parent.glob(f"{ROOT_PREFIX}*-*-*"):
        if owner_is_gone(directory.name.rpartition("-")[0]):
            shutil.rmtree(directory, ignore_errors=True)


def _inside(root: Path, working_directory: str) -> Path:
    """Return the path on this host of a working directory of the image."""
    return root / working_directory.removeprefix(TASK_ROOT).lstrip("/")


class _ProcessEnvironment:
    """One running environment of the process driver."""

    def __init__(
        self,
        driver: ProcessDriver,
        client: _LauncherClient,
        spec: LaunchSpec,
        pid: int,
        started_at: float,
        exited: asyncio.Future[_Ended],
        group: Group,
        output: int,
        clean_up: tuple[str, ...],
    ) -> None:
        self.pid: int | None = pid
        self.started_at = started_at
        self._process_id = pid
        self._driver = driver
        self._client = client
        self._spec = spec
        self._group = group
        self._output = output
        self._clean_up = clean_up
        self._exit = exited
        self._killing: asyncio.Task[None] | None = None
        self._proc_files: tuple[int, ...] | None = None
        self._touched: tuple[bytes, bytes] | None = None  # minor and major page faults when the peak was last read
        self._own_peak_kb = 0
        self._loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # it may have ended already, or there is no /proc
            self._proc_files = (
                os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC),
                os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC),
                # Processes of the group; without one, at least the children that the main thread started.
                os.open((*group.join_files, f"/proc/{pid}/task/{pid}/children")[0], os.O_RDONLY | os.O_CLOEXEC),
            )
        self._loop.add_reader(output, self.drain_output)

    async def wait(self) -> ExitStatus:
        ended = await asyncio.shield(self._exit)
        killed_for_memory = ended.out_of_memory or self._group.out_of_memory_kills() > 0
        out_of_memory = ended.signal == signal.SIGKILL and killed_for_memory
        return ExitStatus(code=ended.code, signal=ended.signal, out_of_memory=out_of_memory)

    def drain_output(self) -> None:
        if self._output < 0:
            return
        try:
            data = os.read(self._output, _OUTPUT_CHUNK_BYTES)
        except BlockingIOError:
            return
        if data:
            self._spec.on_output(data)
        else:
            self._close_output()

    def _close_output(self) -> None:
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1

    async def set_cpu(self, vcpu: float) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._group.set_cpu(vcpu)

    async def freeze(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._group.freeze()

    async def thaw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._group.thaw()

    def usage(self) -> Usage:
        if self._exit.done():
            ended = self._exit.result()
            return Usage(peak_memory_mb=ended.max_rss_kb / 1024, major_page_faults=ended.major_faults)
        if self._proc_files is None:
            return Usage(peak_memory_mb=None, major_page_faults=None)
        try:
            stat = os.pread(self._proc_files[1], 1024, 0)
            members = os.pread(self._proc_files[2], 65_536, 0).split()
            fields = stat[stat.rindex(b")") + 2 :].split()
            # Without a page fault since the last look no memory has been added; reading the peak costs the kernel most.
            touched = fields[7], fields[9]
            if touched != self._touched:
                self._own_peak_kb = peak_memory_kb(os.pread(self._proc_files[0], 4096, 0))
                self._touched = touched
        except OSError:  # it ends at this moment; the launcher will tell the rest
            return Usage(peak_memory_mb=None, major_page_faults=None)
        peak_kb = self._own_peak_kb
        for pid in members:
            if int(pid) != self._process_id:
                with contextlib.suppress(OSError):
                    peak_kb += peak_memory_kb(Path(f"/proc/{int(pid)}/status").read_bytes())
        # proc_pid_stat(5) counts from 1 and these fields from the third: minflt is 10, majflt 12, and cmajflt 13
        return Usage(peak_memory_mb=peak_kb / 1024, major_page_faults=int(fields[9]) + int(fields[10]))

    async def kill(self) -> None:
        if self._killing is None:
            self._killing = asyncio.ensure_future(self._end())
        await asyncio.shield(self._killing)

    async def _end(self) -> None:
        deadline = self._loop.time() + _REMOVE_PATIENCE_S
        delay_s = 0.0005
        strays: set[int] = set()
        while True:
            with contextlib.suppress(OSError):
                self._group.kill()
            if not self._group.directories:
                strays |= _kill_strays(self._spec.environment_id)
            gone = (self._exit.done() or self._client.gone) and not any(map(_lives, strays))
            if removed := gone and self._group.remove():
                break
            if self._loop.time() > deadline:
                break  # a process in a system call that does not return; the launcher tries again at the end
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 0.05)
        self.drain_output()
        self._close_output()
        if self._proc_files is not None:
            for descriptor in self._proc_files:
                os.close(descriptor)
            self._proc_files = None
        for path in set(self._clean_up) - set(self._group.directories):
            shutil.rmtree(path, ignore_errors=True)
        if removed:
            self._client.forget(self._clean_up)
        self._driver.forget(self._spec.environment_id)


def _kill_strays(environment_id: str) -> set[int]:
    """Without cgroups: kill processes that left the process group, by the log stream that their variables name.

    Returns their ids. A process that was killed lives until it has been scheduled once more, and shows no variables.
    """
    needle = environment_id.encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if needle in entry.read_bytes():
                found.add(int(entry.parent.name))
                os.kill(int(entry.parent.name), signal.SIGKILL)
    return found


def _lives(process_id: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process_id}/stat").read_bytes()
        return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")
    return False


@dataclass(frozen=True)
class _Ended:
    """The launcher's report about a child that has ended."""

    code: int | None
    signal: int | None
    max_rss_kb: int
    major_faults: int
    out_of_memory: bool  # and the launcher killed it


class _LauncherClient:
    """The lab's end of the talk with the launcher."""

    def __init__(self, channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._channel = channel
        self._process = process
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._launching: dict[str, asyncio.Future[tuple[int, float]]] = {}
        self._exits: dict[str, asyncio.Future[_Ended]] = {}
        self.gone = False
        self.no_mounts = ""
        self.no_disk_tmp = ""
        self._loop.add_reader(channel.fileno(), self._on_readable)

    @classmethod
    async def start(cls, tmp_template: str, repository: str) -> _LauncherClient:
        """`repository`: where the launcher finds what it needs to enforce limits; "" if something else does."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: ASYNC220 - once in the life of a lab, and it needs no loop's watcher
                [sys.executable, "-I", "-S", launcher.__file__, str(theirs.fileno()), tmp_template, repository],
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for the lab, which then ends environments in order
                stdin=subprocess.DEVNULL,
            )
        client = cls(ours, process)
        ready = await client._ready
        client.no_mounts, client.no_disk_tmp = ready["no_mounts"], ready["no_disk_tmp"]
        return client

    async def launch(self, request: dict[str, Any], output: int) -> tuple[int, float, asyncio.Future[_Ended]]:
        """Start a child; returns its process id, when it was started, and what will know of its end."""
        key = request["id"]
        launched: asyncio.Future[tuple[int, float]] = self._loop.create_future()
        self._launching[key] = launched
        exited = self._exits[key] = self._loop.create_future()
        try:
            self._send(request, output)
            return (*await launched, exited)
        except (OSError, LaunchError) as error:
            self._exits.pop(key, None)
            if isinstance(error, LaunchError):
                raise
            raise LaunchError(f"the launcher has gone ({error})", hint="Invoke again: it restarts.") from error
        finally:
            self._launching.pop(key, None)

    def tell(self, key: str, message: Mapping[str, object]) -> None:
        """Change what the launcher enforces on a child; nothing to do once either has gone."""
        if not self.gone:
            with contextlib.suppress(OSError):
                self._send({**message, "id": key})

    def clean_up(self, paths: Sequence[str]) -> None:
        self._send({"kind": "clean_up", "paths": list(paths)})

    def forget(self, paths: Sequence[str]) -> None:
        if paths and not self.gone:
            with contextlib.suppress(OSError):
                self._send({"kind": "forget", "paths": list(paths)})

    def _send(self, message: dict[str, Any], descriptor: int | None = None) -> None:
        # Blocking, and short: the launcher takes a message in a millisecond, and few are in progress at once.
        body = json.dumps(message).encode()
        header = len(body).to_bytes(4, "big")
        if descriptor is None:
            self._channel.sendall(header + body)
        else:
            socket.send_fds(self._channel, [header], [descriptor])
            self._channel.sendall(body)

    def _on_readable(self) -> None:
        try:
            data = self._channel.recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_gone()
            return
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            message = json.loads(self._buffer[4:end])
            del self._buffer[:end]
            self._on_message(message)

    def _on_message(self, message: dict[str, Any]) -> None:
        kind, key = message["kind"], message.get("id", "")
        if kind == "ready":
            self._ready.set_result(message)
        elif kind == "exited":
            ended = self._exits.pop(key, None)
            if ended is not None and not ended.done():
                ended.set_result(_Ended(**message["ended"]))
        elif (launched := self._launching.get(key)) is not None and not launched.done():
            if kind == "launched":
                launched.set_result((message["pid"], message["started_at"]))
            else:
                said = f"the environment could not be started: {message['error']}"
                launched.set_exception(LaunchError(said, hint="Check the image's directory."))

    def _on_gone(self) -> None:
        """The launcher was killed; its children die with it by their parent-death signal."""
        self.gone = True
        self._loop.remove_reader(self._channel.fileno())
        lost = _Ended(None, signal.SIGKILL, max_rss_kb=0, major_faults=0, out_of_memory=False)
        for ended in self._exits.values():
            if not ended.done():
                ended.set_result(lost)
        self._exits.clear()
        for launched in self._launching.values():
            if not launched.done():
                launched.set_exception(LaunchError("the launcher has gone", hint="Invoke again: it restarts."))
        if not self._ready.done():
            self._ready.set_exception(LaunchError("the launcher did not start", hint="See its message on stderr."))

    async def close(self) -> None:
        """Close the talk: the launcher cleans up and ends."""
        if not self.gone:
            self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        await asyncio.to_thread(self._process.wait)
