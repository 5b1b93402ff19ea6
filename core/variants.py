"""Variants (model x engine x architecture x start mode x memory size) and every name derived from them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.models import ENGINE_NAMES, PAPER_MODELS

Architecture = Literal["x86_64", "arm64"]
Start = Literal["on_demand", "snapstart", "provisioned"]  # how new execution environments start

MODELS: Final[tuple[str, ...]] = tuple(PAPER_MODELS)
ENGINES: Final[tuple[str, ...]] = tuple(ENGINE_NAMES)
PAPER_ENGINE: Final = "tensorflow"
PAPER_ARCHITECTURE: Final = "x86_64"  # physical names leave it out, as those of earlier versions do
ARCHITECTURES: Final[tuple[str, ...]] = get_args(Architecture)
STARTS: Final[tuple[Start, ...]] = get_args(Start)
START_NAMES: Final[dict[Start, str]] = {
    "on_demand": "on demand",
    "snapstart": "with SnapStart",
    "provisioned": "with provisioned concurrency",
}
FUNCTION_LOG_GROUPS: Final = "/aws/lambda/"  # Lambda's default, before a function's name
_API_LOG_GROUPS: Final = "/aws/apigateway/"
ALIAS: Final = "live"  # of the published version that callers reach, where a start mode needs one

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MIN_MEMORY_MB: Final = 128
MAX_MEMORY_MB: Final = 10_240
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
MAX_TIMEOUT_S: Final = 900
MEMORY_MB_PER_VCPU: Final = 1_769

# A user's own model has the name of its table in benchmark.toml.
DISPLAY_NAMES: Final[dict[str, str]] = {name: model.display_name for name, model in PAPER_MODELS.items()}


@dataclass(frozen=True, order=True)
class Image:
    """A model on an engine, started one way: what variants run at several memory sizes."""

    model: str
    engine: str
    architecture: str
    start: Start = "on_demand"

    @property
    def key(self) -> str:
        """Name of the container image, which start modes share, for example `resnet50-tensorflow-x86_64`."""
        return f"{self.model}-{self.engine}-{self.architecture}"

    @property
    def group(self) -> str:
        """Name of its engine, architecture, and start mode, for example `tensorflow-arm64-snapstart`."""
        return _group(self.engine, self.architecture, self.start)

    @property
    def is_the_papers(self) -> bool:
        """Return whether the paper measured this engine, architecture, and start mode."""
        return self == Image(self.model, PAPER_ENGINE, PAPER_ARCHITECTURE)

    @property
    def display_name(self) -> str:
        """Name for people, for example `ResNet50` or `ResNet50 on LiteRT with SnapStart`."""
        engine = "" if self.engine == PAPER_ENGINE else f" on {ENGINE_NAMES.get(self.engine, self.engine)}"
        architecture = "" if self.architecture == PAPER_ARCHITECTURE else f" {self.architecture}"
        start = "" if self.start == "on_demand" else f" {START_NAMES[self.start]}"
        return f"{DISPLAY_NAMES.get(self.model, self.model)}{engine}{architecture}{start}"


@dataclass(frozen=True, order=True)
class Variant:
    """One function to measure."""

    model: str
    engine: str
    architecture: str
    memory_mb: int
    start: Start = "on_demand"

    @property
    def image(self) -> Image:
        """Return what it runs."""
        return Image(self.model, self.engine, self.architecture, self.start)

    @property
    def key(self) -> str:
        """Name in records, tables and file names, for example `resnet50-tensorflow-x86_64-1024-snapstart`."""
        return f"{self.image.key}-{self.memory_mb}{_suffix(self.start)}"

    @property
    def alias(self) -> str | None:
        """Return the alias that callers name, None for on demand.

        Only published versions have snapshots or provisioned concurrency:
        https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
        https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
        """
        return None if self.start == "on_demand" else ALIAS

    @property
    def display_name(self) -> str:
        """Name for people, for example `ResNet50 1024 MB` or `ResNet50 on LiteRT 1024 MB`."""
        return f"{self.image.display_name} {self.memory_mb} MB"

    @property
    def group(self) -> str:
        """Name of the variants that share a REST API and parts of the stack: `Image.group`."""
        return self.image.group

    @property
    def route(self) -> str:
        """Path below the gateway's stage, for example `/resnet50/1024` or `/resnet50/litert/snapstart/1024`."""
        engine = "" if self.engine == PAPER_ENGINE else f"/{self.engine}"
        architecture = "" if self.architecture == PAPER_ARCHITECTURE else f"/{self.architecture}"
        return f"/{self.model}{engine}{architecture}{_suffix(self.start, '/')}/{self.memory_mb}"

    @property
    def vcpu_share(self) -> float:
        """CPU owed during the invoke phase, in vCPU: memory / 1769 MB."""
        return self.memory_mb / MEMORY_MB_PER_VCPU


@dataclass(frozen=True)
class Names:
    """Physical names of what is deployed; `prefix` keeps several deployments apart."""

    prefix: str

    def function(self, variant: Variant) -> str:
        return f"{self.prefix}-{variant.model}-{variant.group}-{variant.memory_mb}"

    def log_group(self, variant: Variant) -> str:
        return f"{FUNCTION_LOG_GROUPS}{self.function(variant)}"

    @property
    def log_groups(self) -> str:
        """Return what the names of all functions' log groups begin with."""
        return f"{FUNCTION_LOG_GROUPS}{self.prefix}-"

    def schedule(self, variant: Variant) -> str:
        return f"{self.function(variant)}-cold"

    @property
    def schedule_group(self) -> str:
        return f"{self.prefix}-cold"

    def api(self, group: str) -> str:
        """Return the name of the REST API of one group of variants."""
        return f"{self.prefix}-{group}-api"

    def access_log_group(self, group: str) -> str:
        """Return the log group of what one group's REST API is asked for."""
        return f"{_API_LOG_GROUPS}{self.api(group)}"

    @property
    def access_log_groups(self) -> str:
        """Return what the names of all access log groups begin with."""
        return f"{_API_LOG_GROUPS}{self.prefix}-"

    @property
    def dashboard(self) -> str:
        return f"{self.prefix}"

    @property
    def budget(self) -> str:
        return f"{self.prefix}"

    @property
    def load_tasks(self) -> str:
        """Return the name of the cluster and of the family of tasks that send a load."""
        return f"{self.prefix}-load"

    @property
    def load_log_group(self) -> str:
        """Return the log group of what these tasks print."""
        return f"/aws/ecs/{self.load_tasks}"

    @property
    def stack(self) -> str:
        """Return the name of the one stack that holds everything; its parts are nested stacks."""
        return self.prefix


def _suffix(start: Start, separator: str = "-") -> str:
    return "" if start == "on_demand" else f"{separator}{start}"


def _group(engine: str, architecture: str, start: Start) -> str:
    return f"{engine}{'' if architecture == PAPER_ARCHITECTURE else f'-{architecture}'}{_suffix(start)}"


DEPLOYMENT_TAG: Final = "deployment"  # on everything that is deployed; its value is the name prefix
GROUPS: Final = tuple(
    _group(engine, architecture, start) for engine in ENGINES for architecture in ARCHITECTURES for start in STARTS
)
# Outputs of the stack per group, in this order: what a client needs to call a group's REST API.
API_OUTPUTS: Final = ("ApiId", "ApiUrl", "ApiRateRps")
KEY_OUTPUT: Final = "ApiKeyId"  # besides; where there is none, callers sign (`gateway.auth`)


def part(role: str, group: str) -> str:
    """Return the logical name of a group's part, for example `EndpointsTensorflowArm64`, in templates and outputs."""
    return role + "".join(word.capitalize() for word in group.split("-"))
