"""The container driver: an execution environment is a container of the image that `cdk deploy` built.

Talks to Docker's Engine API over its socket; Podman answers the same API (`podman system service`). CPU quota with
Lambda's 20 ms period, memory limit without swap, frozen by pause, killed and removed. The container shares the host's
network, so that it reaches the Runtime API on the loopback and nothing has to listen elsewhere; its root file system is
read-only, /tmp is its own, and it runs as the unprivileged user that Lambda runs functions as.

The engine has to run on this kernel: on macOS and Windows it runs in a virtual machine, whose loopback is another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from core import strict_json
from core.run.records import LimitsInForce
from lab.dataplane.rules import CFS_PERIOD_US, cfs_quota_us
from lab.dataplane.settings import EPHEMERAL_STORAGE_MB
from lab.drivers.launcher import OPEN_FILES
from lab.drivers.protocol import ExitStatus, LaunchError, LaunchSpec, RunningEnvironment, Usage, peak_memory_kb
from lab.images.engine import engine_socket, find_engine

USER: Final = "993:990"  # sbx_user1051, as whom Lambda runs functions whatever USER the image names
LABEL: Final = "lambda-inference-lab.state"
OUTPUT: Final = "/run/lab-output"  # the pipe that takes what the function writes
FRAMES_DESCRIPTOR: Final = 3  # of the runtime client's log messages, the same pipe
_LIBPOD: Final = "/v4.0.0/libpod"  # Podman's own requests, of a version that 4 and 5 understand
_PODMAN_WITH_UPDATE: Final = (4, 3)
PROCESSES: Final = 1024  # processes and threads of an environment, "gettingstarted-limits"
_OUTPUT_CHUNK_BYTES: Final = 65_536
_START_TIMEOUT_S: Final = 120.0
_LAUNCHES_AT_ONCE: Final = 4


class EngineApi:
    """Requests to the engine, each with the engine's own message where it refuses."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self._session = aiohttp.ClientSession(
            "http://engine", connector=aiohttp.UnixConnector(path=socket_path, limit=0), auto_decompress=False
        )

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        query: Mapping[str, str] | None = None,
        timeout_s: float | None = _START_TIMEOUT_S,
        accept: Sequence[int] = (),
    ) -> Any:
        """Return the decoded answer, or None. Raises LaunchError for a status neither 2xx nor accepted."""
        try:
            async with self._session.request(
                method, path, json=body, params=query, timeout=aiohttp.ClientTimeout(total=timeout_s)
            ) as answer:
                text = await answer.text()
                if answer.status >= 300 and answer.status not in accept:
                    message = text
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        message = strict_json.loads(text)["message"]
                    raise LaunchError(
                        f"the container engine refused {method} {path}: {answer.status} {message.strip()[:500]}",
                        hint="Is the image still there? `cdk deploy` builds it again.",
                    )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LaunchError(
                f"the container engine does not answer at {self.socket_path}: {error or type(error).__name__}",
                hint="Start it, or run the lab with `--driver process`.",
            ) from None
        return strict_json.loads(text) if text.strip().startswith(("{", "[")) else None

    async def close(self) -> None:
        await self._session.close()


class ContainerDriver:
    """Starts environments as containers. `state_directory` holds their output pipes and names the lab to the engine."""

    def __init__(self, *, state_directory: Path) -> None:
        self._state_directory = state_directory.resolve()
        self._api: EngineApi | None = None
        self.program = ""
        self._information: dict[str, Any] = {}
        self._running: dict[str, _ContainerEnvironment] = {}
        self._entrypoints: dict[str, list[str]] = {}
        self._slots = asyncio.Semaphore(_LAUNCHES_AT_ONCE)

    @property
    def limits(self) -> LimitsInForce:
        def enforced(*keys: str) -> str:
            # Podman's answer lacks some of these keys; it enforces them wherever it runs with cgroups at all.
            return "container" if all(self._information.get(key, True) for key in keys) else "none"

        return LimitsInForce(
            driver="container",
            cpu=enforced("CpuCfsQuota", "CpuCfsPeriod") if self._may_change_cpu() else "none",
            memory=enforced("MemoryLimit"),
            freezer="container",
        )

    def _may_change_cpu(self) -> bool:
        if self.program != "podman":
            return True
        version = re.match(r"(\d+)\.(\d+)", str(self._information.get("ServerVersion", "")))
        return version is not None and (int(version[1]), int(version[2])) >= _PODMAN_WITH_UPDATE

    def environments_cpu_ms(self) -> float | None:
        """The engine keeps each container's account apart: the sum would be a request a container."""
        return None

    async def start(self) -> None:
        """Find the engine, ask what it enforces, remove containers that a killed lab of this state directory left."""
        self.program, _ = await asyncio.to_thread(find_engine)
        self._api = EngineApi(await asyncio.to_thread(engine_socket, self.program))
        self._information = await self._api.call("GET", "/info")
        self._state_directory.mkdir(parents=True, exist_ok=True)
        for path in self._state_directory.glob("output-*"):
            path.unlink(missing_ok=True)
        chosen = json.dumps({"label": [f"{LABEL}={self._state_directory}"]})
        left = await self._api.call("GET", "/containers/json", query={"all": "1", "filters": chosen})
        for container in left:
            await _remove(self._api, container["Id"])

    async def launch(self, spec: LaunchSpec) -> RunningEnvironment:
        """Create and start one container; returns when its main process runs."""
        api = self._connected()
        if spec.image.root is not None:
            raise LaunchError(
                f"image {spec.image.reference} was built without a container engine",
                hint="Deploy again while this lab runs: the engine then builds it.",
            )
        pipe = self._state_directory / f"output-{spec.environment_id}"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, 0o622)
        pipe.chmod(0o622)  # the umask took the container's user the right to write
        output = -1
        identity = ""
        try:
            # Opened for writing too: otherwise the pipe would end whenever no process holds it.
            output = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            async with self._slots:
                created = await api.call("POST", "/containers/create", body=await self._container(spec, pipe))
                identity = created["Id"]
                await api.call("POST", f"/containers/{identity}/start")
                # The engine answers right after it executed the main process; what it did before is not the init phase.
                started_at = time.monotonic()
                state = (await api.call("GET", f"/containers/{identity}/json"))["State"]
        except BaseException:
            if identity:
                with contextlib.suppress(LaunchError):
                    await _remove(api, identity)
            if output >= 0:
                os.close(output)
            pipe.unlink(missing_ok=True)
            raise
        environment = _ContainerEnvironment(
            self, api, spec, identity, state.get("Pid") or None, started_at, output, pipe
        )
        self._running[spec.environment_id] = environment
        return environment

    async def _container(self, spec: LaunchSpec, pipe: Path) -> dict[str, Any]:
        """What to create, as https://docs.docker.com/reference/api/engine/ names it."""
        variables = {
            **spec.variables,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{spec.runtime_api_port}",
            "_LAMBDA_TELEMETRY_LOG_FD": str(FRAMES_DESCRIPTOR),
        }
        redirect = f'exec "$@" >>{OUTPUT} 2>&1 {FRAMES_DESCRIPTOR}>&1'
        entrypoint = await self._entrypoint(spec.image.reference)
        body: dict[str, Any] = {
            "Image": spec.image.reference,
            "Entrypoint": ["/bin/sh", "-c", redirect, "environment"],
            "Cmd": [*entrypoint, *spec.command],
            "Env": [f"{key}={value}" for key, value in variables.items()],
            "User": USER,
            "Labels": {LABEL: str(self._state_directory)},
            "HostConfig": {
                # A main process that is process 1 would be spared the signals it sends itself: the engine's init is 1.
                "Init": True,
                "NetworkMode": "host",
                "CpuPeriod": CFS_PERIOD_US,
                "CpuQuota": cfs_quota_us(spec.init_vcpu),
                "CpusetCpus": ",".join(map(str, spec.cpus)),
                "Memory": spec.memory_mb * 1024 * 1024,
                "MemorySwap": spec.memory_mb * 1024 * 1024,  # memory and swap together: no swap
                "ReadonlyRootfs": True,
                "Tmpfs": {"/tmp": f"rw,exec,mode=1777,size={EPHEMERAL_STORAGE_MB}m"},  # noqa: S108 - the guest's own
                "Binds": [f"{pipe}:{OUTPUT}"],
                "Ulimits": _resource_limits(),
                "PidsLimit": PROCESSES,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "LogConfig": {"Type": "none"},
            },
        }
        if spec.working_directory:
            body["WorkingDir"] = spec.working_directory
        return body

    async def _entrypoint(self, image: str) -> list[str]:
        if image not in self._entrypoints:
            found = await self._connected().call("GET", f"/images/{image}/json")
            self._entrypoints[image] = list(found["Config"].get("Entrypoint") or ())
        return self._entrypoints[image]

    async def close(self) -> None:
        """End every environment; no container stays behind."""
        await asyncio.gather(
            *(environment.kill() for environment in list(self._running.values())), return_exceptions=True
        )
        if self._api is not None:
            await self._api.close()
            self._api = None

    def forget(self, environment_id: str) -> None:
        self._running.pop(environment_id, None)

    def _connected(self) -> EngineApi:
        if self._api is None:
            raise LaunchError("the container driver has not been started")
        return self._api


class _ContainerEnvironment:
    """One running container."""

    def __init__(
        self,
        driver: ContainerDriver,
        api: EngineApi,
        spec: LaunchSpec,
        identity: str,
        pid: int | None,
        started_at: float,
        output: int,
        pipe: Path,
    ) -> None:
        self.pid: int | None = pid
        self.started_at = started_at
        self._driver = driver
        self._api = api
        self._spec = spec
        self._identity = identity
        self._output = output
        self._pipe = pipe
        self._frozen = False
        self._members = _members_file(pid)
        self._last = Usage(peak_memory_mb=None, major_page_faults=None)
        self._killing: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(output, self.drain_output)
        self._exit: asyncio.Task[ExitStatus] = asyncio.ensure_future(self._wait_for_exit())

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._exit)

    async def _wait_for_exit(self) -> ExitStatus:
        try:
            ended = await self._api.call("POST", f"/containers/{self._identity}/wait", timeout_s=None)
            state = (await self._api.call("GET", f"/containers/{self._identity}/json"))["State"]
        except LaunchError:
            # It was removed under our hands: by `kill`, by a person, or with the whole engine.
            return ExitStatus(code=None, signal=signal.SIGKILL)
        finally:
            self.drain_output()
        code = int(ended["StatusCode"])
        if code > 128:  # the engine's init ends with 128 + the signal that ended its child
            return ExitStatus(code=None, signal=code - 128, out_of_memory=bool(state.get("OOMKilled")))
        return ExitStatus(code=code, out_of_memory=False)

    def drain_output(self) -> None:
        while self._output >= 0:
            try:
                data = os.read(self._output, _OUTPUT_CHUNK_BYTES)
            except BlockingIOError:
                return
            if data:
                self._spec.on_output(data)

    async def set_cpu(self, vcpu: float) -> None:
        if self._driver.program == "podman":
            # Podman answers 404 to Docker's own request, and keeps the quota of the init phase.
            cpu = {"cpu": {"period": CFS_PERIOD_US, "quota": cfs_quota_us(vcpu)}}
            path = f"{_LIBPOD}/containers/{self._identity}/update"
            await self._api.call("POST", path, body=cpu, accept=(404, 409, 500))
            return
        body = {"CpuPeriod": CFS_PERIOD_US, "CpuQuota": cfs_quota_us(vcpu)}
        await self._unless_gone("POST", "update", body=body)

    async def freeze(self) -> None:
        if not self._frozen:
            self._frozen = True
            await self._unless_gone("POST", "pause")

    async def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            await self._unless_gone("POST", "unpause")

    async def _unless_gone(self, method: str, action: str, *, body: object | None = None) -> None:
        """404: it was removed; 409 and 500 of a container that has just ended: `wait` tells the rest."""
        await self._api.call(method, f"/containers/{self._identity}/{action}", body=body, accept=(404, 409, 500))

    def usage(self) -> Usage:
        """Of all processes of the container, where the host shows them (an engine in a virtual machine does not)."""
        if self._members is None:
            return self._last
        peak_kb = faults = 0
        try:
            members = [int(word) for word in self._members.read_bytes().split()]
        except OSError:
            return self._last
        for pid in members:
            with contextlib.suppress(OSError, ValueError):
                peak_kb += peak_memory_kb(Path(f"/proc/{pid}/status").read_bytes())
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                # proc_pid_stat(5), counted from its third field: majflt, cmajflt
                faults += int(fields[9]) + int(fields[10])
        if members:
            self._last = Usage(peak_memory_mb=peak_kb / 1024, major_page_faults=faults)
        return self._last

    async def kill(self) -> None:
        if self._killing is None:
            self._killing = asyncio.ensure_future(self._end())
        await asyncio.shield(self._killing)

    async def _end(self) -> None:
        try:
            await _remove(self._api, self._identity)
            await self._exit
        finally:
            self.drain_output()
            if self._output >= 0:
                self._loop.remove_reader(self._output)
                os.close(self._output)
                self._output = -1
            self._pipe.unlink(missing_ok=True)
            self._driver.forget(self._spec.environment_id)


async def _remove(api: EngineApi, identity: str) -> None:
    """Kill and remove; a paused container is thawed first, as a frozen process cannot die on cgroup v1."""
    gone_or_not_paused = (304, 404, 409, 500)
    await api.call("POST", f"/containers/{identity}/kill", accept=gone_or_not_paused)
    await api.call("POST", f"/containers/{identity}/unpause", accept=gone_or_not_paused)
    await api.call("DELETE", f"/containers/{identity}", query={"force": "1", "v": "1"}, accept=(404, 409))


def _resource_limits() -> list[dict[str, Any]]:
    """Open files as on Lambda, and as many processes of the user as this host can have.

    Left to itself, Podman asks for more of both, which root in a container, say, has no right to.
    How many processes one environment may have is PidsLimit's matter.
    """
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    granted = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    processes = most if granted == resource.RLIM_INFINITY else min(most, granted)
    return [
        {"Name": name, "Soft": limit, "Hard": limit} for name, limit in (("nofile", OPEN_FILES), ("nproc", processes))
    ]


def _members_file(pid: int | None) -> Path | None:
    """`cgroup.procs` of the container's cgroup, version 2 or the memory controller of version 1, None where hidden."""
    if pid is None:
        return None
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    groups = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, path in groups.items():
        mount = "memory" if "memory" in controllers.split(",") else "" if controllers == "" else None
        if mount is None or (mount == "" and any("memory" in name.split(",") for name in groups)):
            continue
        members = Path("/sys/fs/cgroup") / mount / path.lstrip("/") / "cgroup.procs"
        if members.exists():
            return members
    return None
