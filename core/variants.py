"""Variants (model x engine x architecture x memory size) and every name derived from them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.models import ENGINE_NAMES, PAPER_MODELS

Architecture = Literal["x86_64", "arm64"]

MODELS: Final[tuple[str, ...]] = tuple(PAPER_MODELS)
ENGINES: Final[tuple[str, ...]] = tuple(ENGINE_NAMES)
PAPER_ENGINE: Final = "tensorflow"
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
    def display_name(self) -> str:
        """Name for people, for example `ResNet50` or `ResNet50 on LiteRT`."""
        engine = "" if self.engine == PAPER_ENGINE else f" on {ENGINE_NAMES.get(self.engine, self.engine)}"
        return f"{DISPLAY_NAMES.get(self.model, self.model)}{engine}"


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
    def route(self) -> str:
        """Path below the gateway's stage, for example `/resnet50/1024` or `/resnet50/litert/1024`."""
        engine = "" if self.engine == PAPER_ENGINE else f"/{self.engine}"
        return f"/{self.model}{engine}/{self.memory_mb}"

    @property
    def vcpu_share(self) -> float:
        """CPU owed during the invoke phase, in vCPU: memory / 1769 MB."""
        return self.memory_mb / MEMORY_MB_PER_VCPU


@dataclass(frozen=True)
class Names:
    """Physical names of what is deployed; `prefix` keeps several deployments apart."""

    prefix: str

    def function(self, variant: Variant) -> str:
        return f"{self.prefix}-{variant.model}-{variant.engine}-{variant.memory_mb}"

    def log_group(self, variant: Variant) -> str:
        return f"/aws/lambda/{self.function(variant)}"

    def schedule(self, variant: Variant) -> str:
        return f"{self.function(variant)}-cold"

    @property
    def schedule_group(self) -> str:
        return f"{self.prefix}-cold"

    def api(self, engine: str) -> str:
        """Return the name of the REST API of one engine's variants."""
        return f"{self.prefix}-{engine}-api"

    def access_log_group(self, engine: str) -> str:
        """Return the log group of what one engine's REST API is asked for."""
        return f"/aws/apigateway/{self.api(engine)}"

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


# Outputs of the stack per engine, in this order: what a client needs to call an engine's REST API.
API_OUTPUTS: Final = ("ApiId", "ApiUrl", "ApiKeyId", "ApiRateRps")


def part(role: str, engine: str) -> str:
    """Return the logical name of an engine's part, for example `EndpointsTensorflow`, in templates and outputs."""
    return f"{role}{engine.capitalize()}"
