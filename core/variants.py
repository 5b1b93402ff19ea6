"""Variants (model x engine x architecture x memory size) and every name derived from them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.models import ENGINE_NAMES, PAPER_MODELS

Architecture = Literal["x86_64", "arm64"]

MODELS: Final[tuple[str, ...]] = tuple(PAPER_MODELS)
ENGINES: Final[tuple[str, ...]] = tuple(ENGINE_NAMES)
PAPER_ENGINE: Final = "tensorflow"
PAPER_ARCHITECTURE: Final = "x86_64"  # physical names leave it out, as those of earlier versions do
ARCHITECTURES: Final[tuple[str, ...]] = get_args(Architecture)

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MIN_MEMORY_MB: Final = 128
MAX_MEMORY_MB: Final = 10_240
MEMORY_MB_PER_VCPU: Final = 1_769

# A model of one's own goes by the name that its table in benchmark.toml has.
DISPLAY_NAMES: Final[dict[str, str]] = {name: model.display_name for name, model in PAPER_MODELS.items()}


@dataclass(frozen=True, order=True)
class Image:
    """A model on an engine: one container image, which variants run at several memory sizes."""

    model: str
    engine: str
    architecture: str

    @property
    def key(self) -> str:
        """Name in records, for example `resnet50-tensorflow-x86_64`."""
        return f"{self.model}-{self.engine}-{self.architecture}"

    @property
    def group(self) -> str:
        """Name of its engine and architecture, for example `tensorflow-arm64`."""
        return _group(self.engine, self.architecture)

    @property
    def is_the_papers(self) -> bool:
        """Return whether the paper measured this engine and architecture."""
        return (self.engine, self.architecture) == (PAPER_ENGINE, PAPER_ARCHITECTURE)

    @property
    def display_name(self) -> str:
        """Name for people, for example `ResNet50` or `ResNet50 on LiteRT`."""
        engine = "" if self.engine == PAPER_ENGINE else f" on {ENGINE_NAMES.get(self.engine, self.engine)}"
        architecture = "" if self.architecture == PAPER_ARCHITECTURE else f" {self.architecture}"
        return f"{DISPLAY_NAMES.get(self.model, self.model)}{engine}{architecture}"


@dataclass(frozen=True, order=True)
class Variant:
    """One function to measure."""

    model: str
    engine: str
    architecture: str
    memory_mb: int

    @property
    def image(self) -> Image:
        """Return what it runs."""
        return Image(self.model, self.engine, self.architecture)

    @property
    def key(self) -> str:
        """Name in records, tables and file names, for example `resnet50-tensorflow-x86_64-1024`."""
        return f"{self.image.key}-{self.memory_mb}"

    @property
    def display_name(self) -> str:
        """Name for people, for example `ResNet50 1024 MB` or `ResNet50 on LiteRT 1024 MB`."""
        return f"{self.image.display_name} {self.memory_mb} MB"

    @property
    def group(self) -> str:
        """Name of the variants that share a REST API and parts of the stack, for example `tensorflow-arm64`."""
        return self.image.group

    @property
    def route(self) -> str:
        """Path below the gateway's stage, for example `/resnet50/1024` or `/resnet50/litert/arm64/1024`."""
        engine = "" if self.engine == PAPER_ENGINE else f"/{self.engine}"
        architecture = "" if self.architecture == PAPER_ARCHITECTURE else f"/{self.architecture}"
        return f"/{self.model}{engine}{architecture}/{self.memory_mb}"

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
        return f"/aws/lambda/{self.function(variant)}"

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
        return f"/aws/apigateway/{self.api(group)}"

    @property
    def dashboard(self) -> str:
        return f"{self.prefix}"

    @property
    def budget(self) -> str:
        return f"{self.prefix}"

    @property
    def stack(self) -> str:
        """Return the name of the one stack that holds everything; its parts are nested stacks."""
        return self.prefix


def _group(engine: str, architecture: str) -> str:
    return engine if architecture == PAPER_ARCHITECTURE else f"{engine}-{architecture}"


GROUPS: Final = tuple(_group(engine, architecture) for engine in ENGINES for architecture in ARCHITECTURES)
# Outputs of the stack per group, in this order: what a client needs to call a group's REST API.
API_OUTPUTS: Final = ("ApiId", "ApiUrl", "ApiKeyId", "ApiRateRps")


def part(role: str, group: str) -> str:
    """Return the logical name of a group's part, for example `EndpointsTensorflowArm64`, in templates and outputs."""
    return role + "".join(word.capitalize() for word in group.split("-"))
