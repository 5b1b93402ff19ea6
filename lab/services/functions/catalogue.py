"""Lambda's configuration side: moto's functions with what images, logging and revisions need, and the catalog."""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any
# Its models show parts of their state under private names only.
# ruff: noqa: SLF001

from __future__ import annotations

import logging
import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, Final

from moto.awslambda.exceptions import InvalidParameterValueException, LambdaClientError, PreconditionFailedException
from moto.awslambda.models import ImageConfig, LambdaBackend, LambdaFunction, lambda_backends
from moto.awslambda.utils import make_function_arn
from moto.core.utils import iso_8601_datetime_with_nanoseconds
from moto.ecr.models import ecr_backends

from core.variants import FUNCTION_LOG_GROUPS, MAX_MEMORY_MB, MAX_TIMEOUT_S, MIN_MEMORY_MB
from lab.contracts import ACCOUNT_ID, LATEST, FunctionConfiguration, FunctionState, LogFormat
from lab.dataplane.rules import split_qualifier
from lab.services.moto_backend import MotoUrls
from lab.settings import DEFAULT_REGION

# https://docs.aws.amazon.com/lambda/latest/api/API_FunctionEventInvokeConfig.html
DEFAULT_RETRY_ATTEMPTS: Final = 2
DEFAULT_EVENT_AGE_S: Final = 21_600
_IMAGE_URI: Final = re.compile(
    r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.[a-z0-9.-]+(?::\d+)?/(?P<repository>[^:@]+)(?::(?P<tag>[\w.-]+))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_LOG: Final = logging.getLogger(__name__)
MAX_SNAPSTART_STORAGE_MB: Final = 512  # https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html


class VersionInUseError(LambdaClientError):
    """AWS's error when an alias points to the version being deleted."""

    code = 409

    def __init__(self, aliases: Sequence[str]) -> None:
        names = ", ".join(aliases)
        super().__init__(
            "ResourceConflictException",
            f"Unable to delete version because the following aliases reference it: [{names}]",
        )


class LabFunction(LambdaFunction):
    """A function as AWS shows it: package type Image, logging configuration, a revision for every change."""

    def __init__(self, account_id: str, spec: dict[str, Any], region: str, version: str | int = 1) -> None:
        _check_limits(spec)
        self.logging_config: dict[str, Any] = {}
        self.snap_start = _applies_snapstart(spec)
        self.provisioned: dict[str, int] = {}  # environments by version or alias; of $LATEST's object alone
        self.published = 0  # versions so far: the number of one that was deleted is not given again
        self.state: FunctionState = "Active"
        self.state_reason: dict[str, str] = {}
        self.revision_id = str(uuid.uuid4())
        super().__init__(account_id, spec, region, version)
        self._set_logging(spec.get("LoggingConfig") or {})
        if version == LATEST:
            say_ignored(self.function_name, spec)
        if "ImageUri" in self.code:
            self.package_type = "Image"

    def _set_logging(self, wanted: Mapping[str, Any]) -> None:
        """Moto 5.2.5 loses LoggingConfig; defaults by API_LoggingConfig of the Lambda API reference."""
        json_format = wanted.get("LogFormat", "Text") == "JSON"
        levels = {
            "ApplicationLogLevel": wanted.get("ApplicationLogLevel", "INFO"),
            "SystemLogLevel": wanted.get("SystemLogLevel", "INFO"),
        }
        self.logging_config = {
            "LogFormat": "JSON" if json_format else "Text",
            **(levels if json_format else {}),
            "LogGroup": wanted.get("LogGroup") or f"{FUNCTION_LOG_GROUPS}{self.function_name}",
        }
        self.logs_group_name = self.logging_config["LogGroup"]

    def get_configuration(self, on_create: bool = False) -> dict[str, Any]:
        """Add LoggingConfig, RevisionId, ImageConfigResponse and the image's digest as AWS answers them."""
        answer: dict[str, Any] = super().get_configuration(on_create=on_create)
        answer["LoggingConfig"] = self.logging_config
        answer["RevisionId"] = self.revision_id
        answer["State"] = self.state
        answer.update(self.state_reason)
        answer["SnapStart"] = {
            "ApplyOn": "PublishedVersions" if self.snap_start else "None",
            "OptimizationStatus": "On" if self.snap_start and self.version != LATEST else "Off",
        }
        if "ImageUri" in self.code:
            answer["CodeSha256"] = self.resolved_image_uri.rpartition(":")[2]
        if not (self.image_config.cmd or self.image_config.entry_point or self.image_config.working_directory):
            answer.pop("ImageConfigResponse", None)
        return answer

    def get_code(self) -> dict[str, Any]:
        """Resolve the image to the digest that was pushed; moto 5.2.5 makes one up and breaks a URI with a digest."""
        answer: dict[str, Any] = super().get_code()
        uri = self.code.get("ImageUri")
        if uri:
            answer["Code"]["ResolvedImageUri"] = self.resolved_image_uri
        if self.reserved_concurrency is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": self.reserved_concurrency}
        return answer

    @property
    def resolved_image_uri(self) -> str:
        """The image by digest: what was pushed under the tag, or a digest of the URI where nothing was."""
        uri: str = self.code["ImageUri"]
        if "@" in uri:
            return uri
        image = _in_registry(uri, self.account_id, self.region)
        return f"{uri.rpartition(':')[0]}@{image.image_digest if image else f'sha256:{self.code_sha_256}'}"

    def update_configuration(self, config_updates: dict[str, Any]) -> dict[str, Any]:
        """Honor what moto 5.2.5 passes over: LoggingConfig, ImageConfig, storage, tracing, RevisionId, limits."""
        self._check_revision(config_updates)
        present = self.get_configuration()
        _check_limits({key: present[key] for key in ("EphemeralStorage", "SnapStart")} | config_updates)
        say_ignored(self.function_name, config_updates)
        updates = dict(config_updates)
        if "LoggingConfig" in updates:
            self._set_logging(updates["LoggingConfig"] or {})
        if "ImageConfig" in updates:
            self.image_config = ImageConfig(updates["ImageConfig"] or {})
        if "SnapStart" in updates:
            self.snap_start = _applies_snapstart(updates)
        if "EphemeralStorage" in updates:
            self.ephemeral_storage = updates["EphemeralStorage"]["Size"]
        if "TracingConfig" in updates:
            self.tracing_config = updates["TracingConfig"]
        if "Environment" in updates:
            updates["Environment"] = {"Variables": (updates["Environment"] or {}).get("Variables", {})}
        super().update_configuration(updates)
        self._new_revision()
        return self.get_configuration()

    def update_function_code(self, updated_spec: dict[str, Any]) -> dict[str, Any]:
        """A new revision, and the architecture where it is given; refuse an image that is not there."""
        self._check_revision(updated_spec)
        _check_image(updated_spec.get("ImageUri"), self.account_id, self.region)
        if updated_spec.get("Architectures"):
            self.architectures = updated_spec["Architectures"]
        super().update_function_code(updated_spec)
        if not updated_spec.get("DryRun"):
            self._new_revision()
        return self.get_configuration()

    def invoke(self, *_: Any, **__: Any) -> str:
        """Refuse what reaches moto's own way to run a function, InvokeAsync for one: it needs Docker."""
        raise NotImplementedError("Invoke is the only way to call a function here")

    def _new_revision(self) -> None:
        self.revision_id = str(uuid.uuid4())
        self.last_modified = iso_8601_datetime_with_nanoseconds()

    def _check_revision(self, updates: Mapping[str, Any]) -> None:
        wanted = updates.get("RevisionId")
        if wanted and wanted != self.revision_id:
            raise PreconditionFailedException(
                "The RevisionId provided does not match the latest RevisionId for the Lambda function or alias. Call "
                "the GetFunction or the GetAlias API to retrieve the latest RevisionId for your resource."
            )

    def withdraw(self, qualifier: str) -> None:
        """Take the provisioned concurrency of a version or alias away."""
        self.provisioned = {name: count for name, count in self.provisioned.items() if name != qualifier}

    def snapshot_ended(self, outcome: Future[str]) -> str:
        """Leave the state Pending, for Active, or for Failed with the reason that is returned.

        https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html
        """
        error = None if outcome.cancelled() else outcome.exception()
        reason = "the lab was shut down" if outcome.cancelled() else (repr(error) if error else outcome.result())
        if reason:
            self.state_reason = {"StateReason": reason, "StateReasonCode": "FunctionError"}
            self.state = "Failed"
        else:
            self.state_reason = {}
            self.state = "Active"
        return reason


def _check_limits(spec: Mapping[str, Any]) -> None:
    """Moto 5.2.5 takes any memory size and time-out; AWS refuses these (API_CreateFunction)."""
    memory_mb, timeout_s = spec.get("MemorySize"), spec.get("Timeout")
    if memory_mb is not None and not MIN_MEMORY_MB <= int(memory_mb) <= MAX_MEMORY_MB:
        raise InvalidParameterValueException(
            f"'MemorySize' value failed to satisfy constraint: Member must be from {MIN_MEMORY_MB} to {MAX_MEMORY_MB}"
        )
    if timeout_s is not None and not 1 <= int(timeout_s) <= MAX_TIMEOUT_S:
        raise InvalidParameterValueException(
            f"'Timeout' value failed to satisfy constraint: Member must have value from 1 to {MAX_TIMEOUT_S}"
        )
    storage_mb = (spec.get("EphemeralStorage") or {}).get("Size", MAX_SNAPSTART_STORAGE_MB)
    if _applies_snapstart(spec) and int(storage_mb) > MAX_SNAPSTART_STORAGE_MB:
        raise InvalidParameterValueException(
            f"SnapStart does not support an ephemeral storage above {MAX_SNAPSTART_STORAGE_MB} MB."
        )


def _applies_snapstart(spec: Mapping[str, Any]) -> bool:
    return (spec.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions"


def _check_image(uri: str | None, account_id: str, region: str) -> None:
    """Refuse an image that is not in ECR or was never built, in Lambda's words; moto 5.2.5 takes any.

    https://github.com/aws/aws-cdk/issues/24648 and https://github.com/aws-samples/bedrock-access-gateway/issues/205
    have the words.
    """
    if not uri:
        return
    found = _IMAGE_URI.fullmatch(uri) if isinstance(uri, str) else None
    if found is None or not (found["tag"] or found["digest"]):
        raise InvalidParameterValueException(f"Source image {uri} is not valid. Provide a valid source image.")
    if _in_registry(uri, account_id, region) is None or not LabLambdaBackend.has_image(uri):
        raise InvalidParameterValueException(f"Source image {uri} does not exist. Provide a valid source image.")


def _in_registry(uri: str, account_id: str, region: str) -> Any:
    """The image of this URI in moto's ECR, None where its repository or the image is not there."""
    found = _IMAGE_URI.fullmatch(uri)
    repository = ecr_backends[account_id][region].repositories.get(found["repository"]) if found else None
    if found is None or repository is None:
        return None
    tag, digest = found["tag"], found["digest"]
    for image in repository.images:
        if (not tag or tag in image.image_tags) and (not digest or digest == image.get_image_digest()):
            return image
    return None


class LabLambdaBackend(MotoUrls, LambdaBackend):
    """moto's backend making our functions."""

    has_image: ClassVar[Callable[[str], bool]]  # set by install(): moto makes one backend per region
    take_snapshot: ClassVar[Callable[[str, str], Future[str]]]  # of a version; resolves to a failure's reason, or ""

    def create_function(self, spec: dict[str, Any]) -> LambdaFunction:
        """Make a LabFunction of an image that is there.

        A name that is taken is refused, which moto 5.2.5 does in its response class alone.
        """
        name = spec.get("FunctionName")
        if not name:
            raise InvalidParameterValueException("FunctionName is missing")
        _check_image((spec.get("Code") or {}).get("ImageUri"), self.account_id, self.region_name)
        function = LabFunction(self.account_id, spec, self.region_name, version="$LATEST")
        self._lambdas.put_function(function)
        if spec.get("Publish"):
            self.publish_version(name)
        return function

    def update_function_code(self, function_name: str, qualifier: str, body: dict[str, Any]) -> dict[str, Any]:
        """Update once: moto 5.2.5 updates twice, and the second time a given RevisionId is out of date."""
        function = self.get_function(function_name, qualifier)
        answer: dict[str, Any] = function.update_function_code(body)
        version = self.publish_version(function_name) if body.get("Publish") else None
        return answer if version is None else version.get_configuration()

    def publish_version(self, function_name: str, description: str = "") -> LambdaFunction | None:
        """Publish a version with its own code: moto 5.2.5 lets it share $LATEST's, later updates included.

        It publishes what has not changed since the first version a second time, too, and gives numbers again.
        """
        return self.publish(function_name, description)[0]

    def publish(self, function_name: str, description: str = "") -> tuple[LambdaFunction | None, Future[str] | None]:
        """Publish a version; returns it and, where it is to have a snapshot, the outcome of that."""
        function = self.get_function(function_name)
        known = len(self._lambdas._functions[function.function_name]["versions"])
        version: LabFunction | None = super().publish_version(function_name, description)
        function.code_or_config_updated = False
        versions = self._lambdas._functions[function.function_name]["versions"]
        if version is None or len(versions) == known:
            return version, None
        version.code = dict(function.code)
        function.published += 1
        if int(version.version) != function.published:
            self._lambdas._arns.pop(version.function_arn, None)
            version.set_version(function.published)
            self._lambdas._arns[version.function_arn] = version
        if not version.snap_start:
            return version, None
        version.state = "Pending"
        version.state_reason = {"StateReason": "The snapshot is being taken.", "StateReasonCode": "Creating"}
        outcome: Future[str] = Future()
        arn = make_function_arn(self.region_name, self.account_id, version.function_name)
        taken = LabLambdaBackend.take_snapshot(arn, str(version.version))

        def ended(snapshot: Future[str]) -> None:
            outcome.set_result(version.snapshot_ended(snapshot))  # who waits for it finds the version's state changed

        taken.add_done_callback(ended)
        return version, outcome

    def delete_function(self, function_name: str, qualifier: str | None = None) -> None:
        """Refuse to delete $LATEST alone, or a version to which an alias leads; moto 5.2.5 deletes both.

        https://docs.aws.amazon.com/lambda/latest/api/API_DeleteFunction.html
        """
        name, own = split_qualifier(function_name)
        number = qualifier or own
        if number == LATEST:
            raise InvalidParameterValueException("$LATEST version cannot be deleted without deleting the function.")
        if number:
            leading = [alias.name for alias in self.list_aliases(name) if number in _versions_of(alias)]
            if leading:
                raise VersionInUseError(leading)
            self.get_function(name).withdraw(number)
        super().delete_function(function_name, qualifier)

    def delete_alias(self, name: str, function_name: str) -> None:
        """Take the alias's provisioned concurrency away with it."""
        self.get_function(function_name).withdraw(name)
        super().delete_alias(name, function_name)

    def put_function_event_invoke_config(self, function_name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Replace the configuration: moto 5.2.5 appends the new one and keeps answering the first."""
        say_ignored(function_name, config)
        self.get_function(function_name).event_invoke_config = []
        answer: dict[str, Any] = super().put_function_event_invoke_config(function_name, config)
        return answer

    def update_function_event_invoke_config(self, function_name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Keep what is not given, as UpdateFunctionEventInvokeConfig does; moto 5.2.5 puts."""
        function = self.get_function(function_name)
        known = function.event_invoke_config[0].config if function.event_invoke_config else {}
        return self.put_function_event_invoke_config(function_name, {**known, **config})


class MotoFunctionCatalogue:
    """The `lab.contracts.FunctionCatalogue` over moto's backend."""

    def __init__(self, account_concurrency: int) -> None:
        self._account_concurrency = account_concurrency
        self._cache: dict[str, tuple[tuple[Any, ...], FunctionConfiguration]] = {}

    def latest(self, name_or_arn: str) -> LabFunction | None:
        """Return moto's record of a function by its name, partial ARN, or ARN; None if there is none."""
        parts = name_or_arn.split(":")  # of a name, of account:function:NAME, or of the whole ARN
        known = _storage(parts[3] if len(parts) == 7 else DEFAULT_REGION)._functions.get(parts[-1])
        found: LabFunction | None = None if known is None else known.get("latest")
        return found

    def account_concurrency(self) -> int:
        """Concurrent executions of the account."""
        return self._account_concurrency

    def get(self, name_or_arn: str, qualifier: str | None = None) -> FunctionConfiguration | None:
        """Return the function of this name, partial ARN, or ARN, at a version or alias; None if it does not exist."""
        latest = self.latest(name_or_arn)
        if latest is None:
            self._cache.pop(name_or_arn, None)
            return None
        function = self._version(latest, qualifier)
        if function is None:
            return None
        invoke = latest.event_invoke_config[0].config if latest.event_invoke_config else {}
        # Values alone: an object that replaces another may get its address.
        retries, age_s = invoke.get("MaximumRetryAttempts"), invoke.get("MaximumEventAgeInSeconds")
        reserved = latest.reserved_concurrency
        provisioned = self._provisioned_of(latest, str(function.version)) if latest.provisioned else 0
        state = (function.revision_id, reserved, retries, age_s, function.state, provisioned)
        key = name_or_arn if function is latest else f"{name_or_arn}:{function.version}"
        cached = self._cache.get(key)
        if cached is None or cached[0] != state:
            cached = self._cache[key] = (state, self._read(function, invoke, reserved, provisioned))
        return cached[1]

    def _version(self, latest: LabFunction, qualifier: str | None, *, by_weight: bool = True) -> LabFunction | None:
        """The version of this number, or that an alias of this name leads to; None where there is neither."""
        if qualifier in (None, "", LATEST):
            return latest
        alias = _aliases(latest).get(qualifier)
        number = str(qualifier) if alias is None else _routed(alias) if by_weight else str(alias.function_version)
        if number == LATEST:
            return latest
        # It may have been deleted since it was found.
        published = _storage(latest.region)._functions.get(latest.function_name, {}).get("versions", ())
        return next((one for one in published if str(one.version) == number), None)

    def leads_to(self, latest: LabFunction, qualifier: str) -> LabFunction | None:
        """Return the version of this number, or the main one that an alias names; None if neither exists."""
        return self._version(latest, qualifier, by_weight=False)

    def functions(self) -> list[FunctionConfiguration]:
        """Every function of the lab's region, by name."""
        names = sorted(_storage(DEFAULT_REGION)._functions)
        return [function for name in names if (function := self.get(name)) is not None]

    def provisioned(self) -> Iterator[FunctionConfiguration]:
        """Every version that is to have provisioned concurrency, in every region."""
        for region, backend in list(lambda_backends[ACCOUNT_ID].items()):
            for known in list(backend._lambdas._functions.values()):
                latest = known.get("latest")
                if latest is not None and latest.provisioned:
                    arn = make_function_arn(region, ACCOUNT_ID, latest.function_name)
                    found = (self.get(arn, str(one.version)) for one in list(known["versions"]))
                    yield from (one for one in found if one is not None and one.provisioned)

    def _provisioned_of(self, latest: LabFunction, version: str) -> int:
        """The provisioned concurrency of a version: its own, and its aliases'."""
        versions = {name: str(alias.function_version) for name, alias in list(_aliases(latest).items())}
        return sum(count for name, count in latest.provisioned.items() if versions.get(name, name) == version)

    def arn(self, name: str) -> str:
        """The ARN that a function of this name or partial ARN has here, whether it exists or not."""
        return str(make_function_arn(DEFAULT_REGION, ACCOUNT_ID, name.rpartition(":")[2]))

    def _read(
        self, function: LabFunction, invoke: Mapping[str, Any], reserved: Any, provisioned: int
    ) -> FunctionConfiguration:
        logging = function.logging_config
        log_format: LogFormat = "JSON" if logging["LogFormat"] == "JSON" else "Text"
        return FunctionConfiguration(
            name=function.function_name,
            arn=make_function_arn(function.region, ACCOUNT_ID, function.function_name),
            region=function.region,
            revision=function.revision_id,
            image_uri=function.code.get("ImageUri", ""),
            memory_mb=int(function.memory_size),
            timeout_s=float(function.timeout),
            environment=dict(function.environment_vars or {}),
            log_group=logging["LogGroup"],
            log_format=log_format,
            application_log_level=logging.get("ApplicationLogLevel", "INFO"),
            system_log_level=logging.get("SystemLogLevel", "INFO"),
            reserved_concurrency=None if reserved is None else int(reserved),
            maximum_retry_attempts=int(invoke.get("MaximumRetryAttempts", DEFAULT_RETRY_ATTEMPTS)),
            maximum_event_age_s=int(invoke.get("MaximumEventAgeInSeconds", DEFAULT_EVENT_AGE_S)),
            command=tuple(function.image_config.cmd or ()),
            working_directory=function.image_config.working_directory or "",
            version=str(function.version),
            initialization="snap-start" if function.snap_start and function.version != LATEST else "on-demand",
            provisioned=provisioned,
            state=function.state,
        )


def _storage(region: str) -> Any:
    return lambda_backends[ACCOUNT_ID][region]._lambdas


def _aliases(latest: LabFunction) -> Mapping[str, Any]:
    """Moto's aliases of a function, by name."""
    arn = make_function_arn(latest.region, ACCOUNT_ID, latest.function_name)
    found: Mapping[str, Any] = _storage(latest.region)._aliases.get(arn, {})
    return found


def say_ignored(function_name: str, settings: Mapping[str, Any]) -> None:
    """Log what a function's settings ask for and the lab does not do, though its calls run as they should."""
    for name in ("DeadLetterConfig", "DestinationConfig"):
        if settings.get(name):
            _LOG.warning("function %s: %s is not modeled; nothing is sent there", function_name, name)


def _versions_of(alias: Any) -> set[str]:
    return {str(alias.function_version), *_weights(alias)}


def _weights(alias: Any) -> Mapping[str, float]:
    weights: Mapping[str, float] = (alias.routing_config or {}).get("AdditionalVersionWeights") or {}
    return weights


def _routed(alias: Any) -> str:
    """The version that a call of an alias reaches, by chance where the alias splits its traffic.

    https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
    """
    left = random.random()  # noqa: S311 - a share of traffic, no secret
    for number, weight in _weights(alias).items():
        left -= float(weight)
        if left < 0:
            return str(number)
    return str(alias.function_version)


def account_settings(account_concurrency: int) -> dict[str, Any]:
    """The answer of GetAccountSettings, which moto 5.2.5 does not have.

    https://docs.aws.amazon.com/lambda/latest/api/API_GetAccountSettings.html
    """
    functions = [entry["latest"] for entry in list(_storage(DEFAULT_REGION)._functions.values())]
    reserved = sum(int(f.reserved_concurrency or 0) for f in functions if f is not None)
    return {
        "AccountLimit": {
            "TotalCodeSize": 80_530_636_800,
            "CodeSizeUnzipped": 262_144_000,
            "CodeSizeZipped": 52_428_800,
            "ConcurrentExecutions": account_concurrency,
            "UnreservedConcurrentExecutions": max(0, account_concurrency - reserved),
        },
        "AccountUsage": {"TotalCodeSize": 0, "FunctionCount": len(functions)},
    }


def install(has_image: Callable[[str], bool]) -> None:
    """Put the backend into moto; `has_image` tells whether an image of this URI was pushed."""
    LabLambdaBackend.has_image = staticmethod(has_image)
    lambda_backends.backend = LabLambdaBackend
