"""A data plane with in-memory neighbours: functions are real awslambdaric processes, logs and metrics are lists."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.contracts import ACCOUNT_ID, LATEST, FunctionConfiguration, Image, InvokeResult, LogEvent
from lab.dataplane.plane import LambdaDataPlane
from lab.dataplane.settings import DataPlaneSettings
from lab.drivers.process import ProcessDriver

REGION = "us-east-1"


class Catalogue:
    def __init__(self) -> None:
        self.functions: dict[str, FunctionConfiguration] = {}
        self.concurrency = 1000
        self.looks = 0  # how often the lab has asked what is provisioned: each time it looks after its environments

    def get(self, name_or_arn: str, qualifier: str | None = None) -> FunctionConfiguration | None:
        name = name_or_arn.rpartition(":")[2]
        return self.functions.get(name if qualifier in (None, "", LATEST) else f"{name}:{qualifier}")

    def provisioned(self) -> list[FunctionConfiguration]:
        self.looks += 1
        return [function for function in self.functions.values() if function.provisioned]

    def arn(self, name: str) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name.rpartition(':')[2]}"

    def account_concurrency(self) -> int:
        return self.concurrency


class Images:
    def __init__(self) -> None:
        self.images: dict[str, Image] = {}

    def resolve(self, image_uri: str) -> Image | None:
        return self.images.get(image_uri)


class Logs:
    def __init__(self) -> None:
        self.events: dict[tuple[str, str], list[LogEvent]] = defaultdict(list)

    def put(self, log_group: str, log_stream: str, events: Sequence[LogEvent]) -> None:
        self.events[log_group, log_stream].extend(events)

    def lines(self, name: str) -> list[str]:
        """All messages of a function, stream by stream."""
        return [
            event.message
            for (group, _), events in sorted(self.events.items())
            if group == f"/aws/lambda/{name}"
            for event in events
        ]

    def streams(self, name: str) -> dict[str, list[str]]:
        return {
            stream: [event.message for event in events]
            for (group, stream), events in self.events.items()
            if group == f"/aws/lambda/{name}"
        }


class Metrics:
    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)

    def put(
        self,
        namespace: str,
        dimensions: Mapping[str, str],
        timestamp_s: float,
        values: Sequence[tuple[str, str, float]],
    ) -> None:
        for name, _unit, value in values:
            self.values[dimensions.get("FunctionName", ""), name].append(value)


def configuration(name: str, **changes: object) -> FunctionConfiguration:
    plain = FunctionConfiguration(
        name=name,
        arn=f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name}",
        region=REGION,
        revision="1",
        image_uri="image:1",
        memory_mb=1769,
        timeout_s=900.0,
        environment={},
        log_group=f"/aws/lambda/{name}",
        log_format="Text",
        application_log_level="INFO",
        system_log_level="INFO",
        reserved_concurrency=None,
        maximum_retry_attempts=2,
        maximum_event_age_s=21600,
    )
    return dataclasses.replace(plain, **changes)


class Lab:
    """A data plane under test; `function` deploys one from its source text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.catalogue = Catalogue()
        self.images = Images()
        self.logs = Logs()
        self.metrics = Metrics()
        self.settings = DataPlaneSettings(init_timeout_s=900.0)
        self.mechanism = "auto"
        self.plane: LambdaDataPlane
        self.driver: ProcessDriver

    def function(self, source: str, name: str = "function", **changes: object) -> str:
        root = self.directory / name
        root.mkdir(exist_ok=True)
        (root / "handler.py").write_text(textwrap.dedent(source))
        uri = f"{name}:1"
        self.images.images[uri] = Image(reference=uri, root=root, command=("handler.handler",), environment={})
        self.catalogue.functions[name] = configuration(name, image_uri=uri, **changes)
        return name

    def change(self, name: str, **changes: object) -> None:
        self.catalogue.functions[name] = dataclasses.replace(self.catalogue.functions[name], **changes)

    async def __aenter__(self):
        self.driver = ProcessDriver(mechanism=self.mechanism)
        self.plane = LambdaDataPlane(
            catalogue=self.catalogue,
            images=self.images,
            logs=self.logs,
            metrics=self.metrics,
            driver=self.driver,
            settings=self.settings,
        )
        await self.plane.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.plane.close()

    async def call(self, name: str = "function", event: object = None, **options: object) -> InvokeResult:
        return await self.plane.invoke(name, json.dumps(event).encode(), **options)

    async def looked_after(self) -> None:
        """Wait until the lab has looked after all its environments once more."""
        wanted = self.catalogue.looks + 2  # the first may have begun before
        await until(lambda: self.catalogue.looks >= wanted, "the lab to look after its environments")

    async def answer(self, name: str = "function", event: object = None) -> object:
        result = await self.call(name, event)
        assert result.function_error is None, result.payload
        assert result.error_code is None, result
        return json.loads(result.payload)


REPORT = re.compile(
    r"^REPORT RequestId: (?P<request_id>\S+)\tDuration: (?P<duration_ms>[\d.]+) ms\t"
    r"Billed Duration: (?P<billed_ms>\d+) ms\t"
    r"Memory Size: (?P<memory_mb>\d+) MB\tMax Memory Used: (?P<max_mb>\d+) MB\t"
    r"(?:Init Duration: (?P<init_ms>[\d.]+) ms\t)?(?:Status: (?P<status>\w+)\t)?(?:Error Type: (?P<error_type>\S+)\t)?$"
)


def reports(lines: Sequence[str]) -> list[dict[str, str | None]]:
    """The REPORT lines, by field; a line that is not to the pattern is an error."""
    found = []
    for line in lines:
        if line.startswith("REPORT"):
            match = REPORT.match(line)
            assert match, line
            found.append(match.groupdict())
    return found


def conditions(lines: Sequence[str]) -> list[dict[str, object]]:
    return [json.loads(line)["record"] for line in lines if line.startswith('{"type":"lab.conditions"')]


async def until(condition, what: str, patience_s: float = 600.0) -> None:
    """Wait until a condition holds; fails with `what` after a generous time."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 - the condition belongs to the product, which has no event for tests
            await asyncio.sleep(0.01)
    assert condition(), what


def quota_of(pid: int) -> list[int]:
    """Quota and period in microseconds of a process's CPU group."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    for controllers, place in groups.items():
        if "cpu" in controllers.split(","):
            directory = Path("/sys/fs/cgroup") / controllers / place.lstrip("/")
            return [int((directory / f"cpu.cfs_{word}_us").read_text()) for word in ("quota", "period")]
    return [int(word) for word in (Path("/sys/fs/cgroup") / groups[""].lstrip("/") / "cpu.max").read_text().split()]
