"""The typed reader of `benchmark.toml`: one file for the CDK app, the experiments, the lab and the analysis."""

from __future__ import annotations

import ipaddress
import math
import os
import platform
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from core import strict_json
from core.aws.endpoint import endpoint_url
from core.errors import ConfigurationError
from core.models import PAPER_MODELS, Engine, Model
from core.paths import BENCHMARK_TOML
from core.run.records import LimitsMechanism
from core.variants import MAX_MEMORY_MB, MAX_TIMEOUT_S, MIN_MEMORY_MB, Architecture, Image, Names, Start, Variant

PROFILE_VARIABLE: Final = "BENCHMARK_PROFILE"
PATH_VARIABLE: Final = "BENCHMARK_TOML"

# Other words of `uname -m` for Lambda's architectures.
MACHINES: Final = {"AMD64": "x86_64", "aarch64": "arm64"}  # where platform.machine() has another word
NAMED_AT_MOST: Final = 6
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html, less those of the gateways
MAX_METRICS_PER_DASHBOARD: Final = 2_500 - 100
METRICS_PER_FUNCTION: Final = 6
LONGEST_NAME: Final = 64  # of a function and of a schedule
# One warm call after another at 5 ms each.
MIN_GATEWAY_RATE_RPS: Final = 200
# The account's own burst limit.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html
MAX_GATEWAY_BURST: Final = 5_000

T = TypeVar("T")
# An array of TOML arrives as a list, and a strict tuple would refuse it; its elements stay strict.
Array = Annotated[T, Field(strict=False)]
MemoryMb = Annotated[int, Field(ge=MIN_MEMORY_MB, le=MAX_MEMORY_MB)]
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,23}$")]  # part of physical names
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# https://docs.aws.amazon.com/autoscaling/application/userguide/scheduled-scaling-using-cron-expressions.html
ScheduleExpression = Annotated[str, Field(pattern=r"^(cron|rate|at)\([^()]+\)$")]


class _Table(BaseModel):
    # TOML has types: "60" is text, 60.0 no whole number, true no 1. Read as what was meant, each would hide a mistake.
    # TOML's inf and nan are no rate, time or amount, and pass bounds such as "above 0".
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class MatrixTable(_Table):
    models: Array[tuple[ModelName, ...]] = Field(min_length=1)
    engines: Array[tuple[Engine, ...]] = Field(min_length=1)
    memory_sizes_mb: Array[tuple[MemoryMb, ...]] = Field(min_length=1)
    architectures: Array[tuple[Architecture, ...]] = Field(min_length=1)
    starts: Array[tuple[Start, ...]] = Field(default=("on_demand",), min_length=1)
    weights: Literal["imagenet", "random", "imagenet_or_random"]

    @field_validator("models", "engines", "memory_sizes_mb", "architectures", "starts")
    @classmethod
    def _distinct(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) != len(value):
            raise ValueError("every value once")
        return value


class FunctionTable(_Table):
    name_prefix: str = Field(pattern=r"^[a-z][a-z0-9-]{1,29}$")
    directory: str
    base_image: str = ""
    timeout_s: int = Field(ge=1, le=MAX_TIMEOUT_S)
    # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365]
    log_key_arn: str = Field(default="", pattern=r"^(arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+)?$")
    reserved_concurrency: int = Field(default=0, ge=0)
    max_concurrency: int = Field(default=0, ge=0)
    event: str = "{}"

    @field_validator("event")
    @classmethod
    def _is_an_object(cls, value: str) -> str:
        try:
            document = strict_json.loads(value)
            strict_json.dumps(document)  # refuses 1e999, which is read as infinity
        except ValueError as error:
            raise ValueError(f"{value!r} is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise ValueError(f"{value!r} is not a JSON object such as {{}}")  # noqa: TRY004 - what pydantic takes
        return value


class ProvisionedTable(_Table):
    """What functions that start `provisioned` keep initialized. AWS charges for it while nobody calls them, too."""

    concurrency: int = Field(default=1, ge=1)
    track_up_to: int = Field(default=0, ge=0)
    # https://docs.aws.amazon.com/autoscaling/application/userguide/services-that-can-integrate-lambda.html
    target_utilization: float = Field(default=0.7, ge=0.1, le=0.9)
    schedule: Array[tuple[Array[tuple[ScheduleExpression, Annotated[int, Field(ge=1)]]], ...]] = ()

    @model_validator(mode="after")
    def _maximum_above_minimum(self) -> Self:
        if self.track_up_to and self.track_up_to <= self.concurrency:
            raise ValueError(f"track_up_to ({self.track_up_to}) must be above concurrency ({self.concurrency}), or 0")
        return self

    @property
    def highest(self) -> int:
        """Return the most environments that this may keep at any time."""
        return max(self.concurrency, self.track_up_to, *(number for _, number in self.schedule))

    @property
    def is_scaled(self) -> bool:
        """Return whether Application Auto Scaling changes the number."""
        return bool(self.track_up_to or self.schedule)


Auth = Literal["api_key", "iam"]


class GatewayTable(_Table):
    stage_name: str = Field(pattern=r"^[A-Za-z0-9_]{1,128}$")
    # 29 s unless the account's quota for Regional APIs was raised; no function answers after 15 minutes.
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
    integration_timeout_ms: int = Field(default=29_000, ge=50, le=900_000)
    auth: Auth = "api_key"
    allowed_cidrs: Array[tuple[str, ...]] = ()
    access_logs: bool = False

    @field_validator("allowed_cidrs")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            ipaddress.ip_network(one)  # raises ValueError, which names the text
        return value


class OperationsTable(_Table):
    dashboard: bool = True
    load_tasks: bool = False
    notify_email: str = Field(default="", pattern=r"^([^@\s]+@[^@\s]+)?$")
    monthly_budget_usd: NotNegative = 50.0
    permissions_boundary: str = Field(default="", pattern=r"^[\w+=,.@-]{0,128}$")  # the name of a managed policy


class ColdTable(_Table):
    protocols: Array[tuple[Literal["scheduled", "forced", "burst"], ...]]
    interval_minutes: int = Field(ge=1, le=1440)
    duration_minutes: int = Field(ge=1, le=10_080)
    forced_samples: int = Field(ge=1, le=1000)
    burst_sizes: Array[tuple[Annotated[int, Field(ge=1, le=1000)], ...]]
    burst_repeats: int = Field(default=3, ge=1, le=100)
    gateway_samples: int = Field(ge=0, le=1000)

    @model_validator(mode="after")
    def _at_least_one_sample(self) -> Self:
        if self.duration_minutes < self.interval_minutes:
            raise ValueError(
                f"duration_minutes ({self.duration_minutes}) must be at least "
                f"interval_minutes ({self.interval_minutes})"
            )
        return self

    @property
    def scheduled_samples(self) -> int:
        """Events a schedule sends in its duration."""
        return self.duration_minutes // self.interval_minutes


PILOT_CALLS: Final = 12  # of each first environment of a run until decided: shows failures and how environments differ


class WarmTable(_Table):
    environments: int = Field(ge=1, le=1000)
    warmups: int = Field(ge=1, le=100)
    samples: int = Field(ge=1, le=100_000)
    max_samples: int = Field(ge=1, le=100_000)
    until_ci_percent: float = Field(ge=0, lt=100)
    until_decided: bool = False
    connections: Array[tuple[Literal["kept", "new"], ...]] = Field(min_length=1)

    @model_validator(mode="after")
    def _bound_above_samples(self) -> Self:
        if self.max_samples < self.samples:
            raise ValueError(f"max_samples ({self.max_samples}) must be at least samples ({self.samples})")
        if self.until_decided and self.until_ci_percent:
            raise ValueError("until_decided and until_ci_percent exclude each other")
        if self.samples < self.environments:
            raise ValueError(f"samples ({self.samples}) must be at least environments ({self.environments})")
        if self.until_decided and self.max_samples < PILOT_CALLS * self.environments:
            raise ValueError(
                f"until_decided begins with {PILOT_CALLS} calls in each of {self.environments} environments, "
                f"so max_samples ({self.max_samples}) must be at least {PILOT_CALLS * self.environments}"
            )
        return self

    @property
    def replaces_environments(self) -> bool:
        """Return whether the series force new environments; a decision needs several, however few it begins with."""
        return self.environments > 1 or self.until_decided

    def environment_of(self, sample: int) -> int:
        """Return the number of the execution environment that answers a sample; both count from 0.

        The split is proportional, so `samples` take every environment, and no two differ by more than one sample.
        """
        return sample * self.environments // self.samples

    def first_sample_of(self, environment: int) -> int:
        """Return the number of the first sample that an execution environment answers."""
        return -(-environment * self.samples // self.environments)


class LoadTable(_Table):
    warmups: int = Field(ge=0, le=100)
    repeats: int = Field(default=1, ge=1, le=100)
    shape: Literal["linear", "steps", "constant", "search"]
    start_rps: NotNegative
    end_rps: Positive
    duration_s: Positive
    steps: Array[tuple[Array[tuple[Positive, Positive]], ...]] = Field(min_length=1)
    late_after_ms: Positive
    max_in_flight: int = Field(ge=1)
    search_calls: int = Field(default=500_000, ge=100)  # runs before it knew no search

    @property
    def times(self) -> int:
        """Return how many times each variant's load is sent; a search is made once."""
        return 1 if self.shape == "search" else self.repeats

    @property
    def peak_rps(self) -> float:
        """Return the highest rate of the shape."""
        if self.shape == "steps":
            return max(rate_rps for rate_rps, _ in self.steps)
        return max(self.start_rps, self.end_rps) if self.shape == "linear" else self.end_rps


class ExperimentsTable(_Table):
    seed: int = Field(ge=0)
    max_usd: Positive
    cold: ColdTable
    warm: WarmTable
    load: LoadTable


class GoalTable(_Table):
    limit_ms: Positive = 1000.0
    max_bad_share: float = Field(default=0.01, gt=0, lt=1)
    min_top1_accuracy: Share
    max_cold_share: Share = 1.0


class TrafficTable(_Table):
    requests_per_day: int = Field(ge=1)
    daily_shape: (
        Literal["flat", "business_hours"]
        | Annotated[tuple[NotNegative, ...], Field(min_length=24, max_length=24, strict=False)]
    )
    idle_minutes: Positive
    burstiness: float = Field(default=1.0, ge=1, le=10_000)  # runs before it knew Poisson arrivals alone

    @field_validator("daily_shape")
    @classmethod
    def _has_weight(cls, value: str | tuple[float, ...]) -> str | tuple[float, ...]:
        if not isinstance(value, str) and not any(value):
            raise ValueError("24 weights of 0 are a day without requests; at least one must be above 0")
        return value


InstructionSets = Literal["avx2", "host"]
# Restores of Python functions of several hundred MB, as others measured them on Lambda: 440 to 740 ms (LambdaNER-Bench,
# 2026). Never measured by this project.
DEFAULT_RESTORE_MS: Final = (440.0, 740.0)


class LabTable(_Table):
    port: int = Field(ge=1, le=65_535)
    limits: LimitsMechanism
    isa: InstructionSets
    idle_minutes: Positive
    init_burst_vcpu: Positive
    restore_ms: Array[tuple[NotNegative, NotNegative]] = DEFAULT_RESTORE_MS
    account_concurrency: int = Field(ge=0)
    time_scale: float = Field(ge=1)
    log_retention_invocations: int = Field(ge=1000)

    @field_validator("restore_ms")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"{list(value)} is not a range; give the shortest restore first")
        return value


class Configuration(_Table):
    """`benchmark.toml` with one profile applied."""

    schema_version: Literal[1]
    profile: str = ""
    matrix: MatrixTable
    function: FunctionTable
    provisioned: ProvisionedTable = Field(default_factory=ProvisionedTable)
    gateway: GatewayTable
    operations: OperationsTable = Field(default_factory=OperationsTable)
    experiments: ExperimentsTable
    goal: GoalTable
    traffic: TrafficTable
    prices: dict[str, NotNegative] = Field(default_factory=dict)
    lab: LabTable
    models: dict[ModelName, Model] = Field(default_factory=dict)  # one's own, by name

    @model_validator(mode="after")
    def _every_model_is_known_and_runs(self) -> Self:
        for position, name in enumerate(self.matrix.models):
            if name not in self.models and name not in PAPER_MODELS:
                allowed = ", ".join((*PAPER_MODELS, *self.models))
                raise ValueError(
                    f"key `matrix.models.{position}` is {name!r}; allowed: {allowed}, or a new table [models.{name}]"
                )
            if not set(self.model(name).engines) & set(self.matrix.engines):
                raise ValueError(
                    f"{self.model(name).file} of the model {name!r} runs in {' or '.join(self.model(name).engines)}; "
                    "matrix.engines names neither"
                )
        for variant in self.variants:
            if len(longest := self.names.schedule(variant)) > LONGEST_NAME:
                raise ValueError(
                    f"the name {longest} has {len(longest)} characters, {LONGEST_NAME} are allowed; "
                    "shorten function.name_prefix or the model's name"
                )
        return self

    @model_validator(mode="after")
    def _provisioned_within_reserved(self) -> Self:
        # https://docs.aws.amazon.com/lambda/latest/api/API_PutProvisionedConcurrencyConfig.html
        reserved, highest = self.function.reserved_concurrency, self.provisioned.highest
        if "provisioned" in self.matrix.starts and reserved and highest > reserved:
            raise ValueError(
                f"[provisioned] keeps up to {highest} environments, above function.reserved_concurrency ({reserved})"
            )
        return self

    def model(self, name: str) -> Model:
        """The record of a model: one's own, or one of the paper's."""
        return self.models[name] if name in self.models else PAPER_MODELS[name]

    @property
    def container_images(self) -> tuple[Image, ...]:
        """Return what is built, in the order of the matrix: start modes share a container image."""
        images: dict[str, Image] = {}
        for variant in self.variants:
            images.setdefault(variant.image.key, variant.image)
        return tuple(images.values())

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All variants by model, engine, architecture, start, ascending memory; pairs that no engine runs left out."""
        return tuple(
            Variant(model=model, engine=engine, architecture=architecture, memory_mb=memory_mb, start=start)
            for model in self.matrix.models
            for engine in self.matrix.engines
            if engine in self.model(model).engines
            for architecture in self.matrix.architectures
            for start in self.matrix.starts
            for memory_mb in sorted(self.matrix.memory_sizes_mb)
        )

    def provisioned_environments(self, variant: Variant, *, at_most: bool = False) -> int:
        """Return how many environments a variant keeps ahead of any call; `at_most`, as target tracking may."""
        kept = self.provisioned.highest if at_most else self.provisioned.concurrency
        return kept if variant.start == "provisioned" else 0

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of variants; each has its own REST API."""
        return tuple(dict.fromkeys(variant.group for variant in self.variants))

    @property
    def dashboards(self) -> Mapping[str, tuple[Variant, ...]]:
        """Variants by the name of the dashboard that shows them: one for all, or one per group if they are too many."""
        if len(self.variants) * METRICS_PER_FUNCTION <= MAX_METRICS_PER_DASHBOARD:
            return {self.names.dashboard: self.variants}
        return {
            f"{self.names.dashboard}-{group}": tuple(variant for variant in self.variants if variant.group == group)
            for group in self.groups
        }

    @property
    def gateway_rate_rps(self) -> int:
        """Return the rate that the usage plan allows: twice the load's peak, and room for warm calls in a row."""
        return max(MIN_GATEWAY_RATE_RPS, math.ceil(2 * self.experiments.load.peak_rps))

    @property
    def gateway_burst(self) -> int:
        """Return how many requests may arrive at once, as after a pause of the client."""
        return min(MAX_GATEWAY_BURST, 5 * self.gateway_rate_rps)

    @property
    def names(self) -> Names:
        return Names(self.function.name_prefix)


def configuration_path() -> Path:
    """Return the file that BENCHMARK_TOML names, or the one at the repository's top."""
    return Path(os.environ.get(PATH_VARIABLE) or BENCHMARK_TOML)


def read_configuration(path: Path | None = None, *, profile: str | None = None) -> Configuration:
    """Read `benchmark.toml` and apply a profile.

    `path` defaults to `configuration_path`, `profile` to the environment variable BENCHMARK_PROFILE, then to none.
    Raises ConfigurationError that names the key, the value found and the values allowed.
    """
    path = path or configuration_path()
    profile = os.environ.get(PROFILE_VARIABLE, "") if profile is None else profile
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}", hint="Name an existing file with BENCHMARK_TOML."
        ) from None
    configuration = parse_configuration(text, profile=profile, origin=str(path))
    return configuration if endpoint_url() is None else for_a_lab(configuration, platform.machine())


def for_a_lab(configuration: Configuration, machine: str) -> Configuration:
    """Leave out what a lab cannot run, and name it on stderr.

    That is variants of another architecture than this machine's, and Application Auto Scaling. Raises
    ConfigurationError where no variant is left.
    """
    if "provisioned" in configuration.matrix.starts and configuration.provisioned.is_scaled:
        number = configuration.provisioned.concurrency
        print(
            f"left out, as a lab has no Application Auto Scaling: target tracking and schedule of [provisioned]; "
            f"each function keeps {number} environment{'' if number == 1 else 's'}",
            file=sys.stderr,
        )
        fixed = configuration.provisioned.model_copy(update={"track_up_to": 0, "schedule": ()})
        configuration = configuration.model_copy(update={"provisioned": fixed})
    own = MACHINES.get(machine, machine)
    others = [variant for variant in configuration.variants if variant.architecture != own]
    if not others:
        return configuration
    if len(others) == len(configuration.variants):
        raise ConfigurationError(
            f"key `matrix.architectures` is {list(configuration.matrix.architectures)}, and a lab on this machine runs "
            f"{own} alone",
            hint=f'Add "{own}" to matrix.architectures, or deploy to AWS.',
        )
    names = ", ".join(configuration.names.function(variant) for variant in others[:NAMED_AT_MOST])
    more = f" and {len(others) - NAMED_AT_MOST} more" if len(others) > NAMED_AT_MOST else ""
    print(f"left out, as this machine is {own}: {names}{more}", file=sys.stderr)
    matrix = configuration.matrix.model_copy(update={"architectures": (own,)})
    return configuration.model_copy(update={"matrix": matrix})


def parse_configuration(text: str, *, profile: str = "", origin: str = BENCHMARK_TOML.name) -> Configuration:
    """Parse the text of a `benchmark.toml`; pure. Raises ConfigurationError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{origin} is not TOML: {error}", hint="Fix the line that the message names."
        ) from None
    profiles = tables.pop("profile", {})
    if not isinstance(profiles, dict):
        raise ConfigurationError(f"{origin}: key `profile` is {profiles!r}; expected tables [profile.NAME...]")
    base = tables
    if profile:
        if profile not in profiles:
            raise ConfigurationError(
                f"{origin}: profile {profile!r} does not exist; "
                f"allowed: {', '.join(sorted(profiles)) or 'none is declared'}",
                hint="Use one of them, or add a table [profile.NAME].",
            )
        tables = _merge(tables, profiles[profile])
    configuration = _validate(tables, origin, profile)
    # Every profile is checked, so that a mistake in one shows before the day it is used.
    for name, overrides in profiles.items():
        if name != profile:
            _validate(_merge(base, overrides), f"{origin} [profile.{name}]", name)
    return configuration


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _validate(tables: Mapping[str, Any], origin: str, profile: str) -> Configuration:
    try:
        return Configuration.model_validate({**tables, "profile": profile})
    except ValidationError as error:
        found = [_explain(detail) for detail in error.errors()]
        raise ConfigurationError(
            "\n".join(f"{origin}: {line}" for line in found), hint="docs/reference/configuration.md lists every key."
        ) from None


def _explain(detail: Any) -> str:
    key = ".".join(
        str(part) for part in detail["loc"] if not re.fullmatch(r"tuple\[.*|literal\[.*|function-.*", str(part))
    )
    value, context, kind = detail.get("input"), detail.get("ctx", {}), detail["type"]
    if kind == "extra_forbidden":
        return f"unknown key `{key}`"
    if kind == "missing":
        return f"key `{key}` is missing"
    allowed = context.get("expected")
    if kind == "value_error":
        return f"key `{key}`: {context['error']}" if key else str(context["error"])
    if allowed:
        return f"key `{key}` is {value!r}; allowed: {allowed}"
    return f"key `{key}` is {value!r}; {detail['msg'][0].lower()}{detail['msg'][1:]}"
