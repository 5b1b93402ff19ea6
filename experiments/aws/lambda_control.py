"""The seam to Lambda's API: forced updates, direct invokes, what is deployed."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, WaiterError  # noqa: A004 - botocore's own name

from core.aws.cloud import Cloud, cloud_errors
from core.configuration import Configuration
from core.errors import CloudError, UserError
from core.program.interruption import undisturbed
from core.variants import Variant
from experiments.aws.versions import Versions

NONCE_VARIABLE: Final = "BENCHMARK_NONCE"
# An invoke may wait for an init that is stopped after 10 s before the function's own timeout starts to count.
INVOKE_PATIENCE_S: Final = 60.0
UPDATE_WAIT: Final = {"Delay": 1, "MaxAttempts": 300}


@dataclass(frozen=True)
class InvokeAnswer:
    """The answer to one Invoke, or the error."""

    sent_at: float
    answered_at: float
    latency_ms: float
    status: int | None = None
    payload: bytes = b""
    function_error: str | None = None
    error_code: str | None = None  # Lambda refused the call, for example TooManyRequestsException
    connection_error: str = ""
    log_tail: str = ""
    request_id: str | None = None


class LambdaControl:
    """Control calls and direct invokes for the functions of one configuration. Safe to use from several threads."""

    def __init__(self, cloud: Cloud, configuration: Configuration) -> None:
        self._configuration = configuration
        self._control = cloud.client("lambda")
        self._versions = Versions(cloud)
        # A second attempt would be a second call of the function.
        self._invoker = cloud.client(
            "lambda", read_timeout_s=configuration.function.timeout_s + INVOKE_PATIENCE_S, max_attempts=1
        )
        self._sent = threading.local()
        # Credentials and signature are made before the request leaves; latency counts from here.
        self._invoker.meta.events.register("before-send.lambda.Invoke", self._note_sent)

    def function_name(self, variant: Variant) -> str:
        return self._configuration.names.function(variant)

    def configuration_of(self, variant: Variant) -> dict[str, Any] | None:
        """GetFunctionConfiguration's answer, or None where the function is not deployed."""
        with cloud_errors():
            try:
                answer: dict[str, Any] = self._control.get_function_configuration(
                    FunctionName=self.function_name(variant)
                )
            except self._control.exceptions.ResourceNotFoundException:
                return None
        return answer

    def has_snapshot(self, variant: Variant) -> bool:
        """Return whether SnapStart is on for the version that callers reach."""
        with cloud_errors():
            found = self._control.get_function_configuration(
                FunctionName=self.function_name(variant), Qualifier=variant.alias or ""
            )
        return bool(found.get("SnapStart", {}).get("OptimizationStatus") == "On")

    def image_of(self, variant: Variant) -> str:
        """URI of the function's image, "" where Lambda does not say."""
        with cloud_errors():
            code: dict[str, str] = self._control.get_function(FunctionName=self.function_name(variant)).get("Code", {})
        return code.get("ImageUri", "")

    def account_limits(self) -> dict[str, int]:
        with cloud_errors():
            limits: dict[str, int] = self._control.get_account_settings()["AccountLimit"]
        return limits

    def reserved_concurrency(self, variant: Variant) -> int | None:
        with cloud_errors():
            answer = self._control.get_function_concurrency(FunctionName=self.function_name(variant))
        reserved: int | None = answer.get("ReservedConcurrentExecutions")
        return reserved

    def set_nonce(
        self, variant: Variant, nonce: str, before_alias: Callable[[str], None] = lambda _version: None
    ) -> None:
        """Change one environment variable and wait until it holds: every existing environment is of the past then.

        Where callers name an alias, it names a version with that change, which is published for it, and has its
        provisioned environments. `before_alias` is told of the version before the alias names it.
        """
        self._set_variables(variant, self._variables(variant) | {NONCE_VARIABLE: nonce})
        if variant.alias:
            self._versions.publish(self.function_name(variant), nonce, before_alias)
            self.await_provisioned(variant)

    def await_provisioned(self, variant: Variant) -> None:
        """Wait until a variant has the provisioned environments that it is to keep; without effect on any other."""
        if variant.start == "provisioned":
            self._versions.await_provisioned(self.function_name(variant))

    def provisioned_status(self, variant: Variant) -> tuple[str, str]:
        """Return `Versions.provisioned_status` of a variant."""
        return self._versions.provisioned_status(self.function_name(variant))

    def remove_nonce(self, variant: Variant) -> bool:
        """Give the function its own variables and version back; says whether there was a nonce to remove."""
        had_versions = self._versions.remove(self.function_name(variant)) if variant.alias else False
        variables = self._variables(variant)
        if NONCE_VARIABLE not in variables:
            return had_versions
        del variables[NONCE_VARIABLE]
        self._set_variables(variant, variables)
        return True

    def deployed_configuration(self, variant: Variant) -> dict[str, Any]:
        """GetFunctionConfiguration's answer. Raises CloudError where the function is not deployed."""
        found = self.configuration_of(variant)
        if found is None:
            raise CloudError(
                f"function {self.function_name(variant)} is not deployed", hint="Deploy it with `cdk deploy`."
            )
        return found

    def _variables(self, variant: Variant) -> dict[str, str]:
        found = self.deployed_configuration(variant)
        environment = found.get("Environment", {})
        if "Error" in environment:
            # Writing back what cannot be read would wipe it.
            raise CloudError(
                f"the variables of {self.function_name(variant)} cannot be read: {environment['Error'].get('Message')}",
                hint="Grant kms:Decrypt on the function's key.",
            )
        return dict(environment.get("Variables", {}))

    def _set_variables(self, variant: Variant, variables: Mapping[str, str]) -> None:
        self.update(variant, Environment={"Variables": dict(variables)})

    def update(self, variant: Variant, **changes: Any) -> None:
        """UpdateFunctionConfiguration, and wait until it holds: before that, calls may still meet the old one.

        Raises CloudError where it fails, or takes longer than UPDATE_WAIT.
        """
        name = self.function_name(variant)
        with cloud_errors():
            try:
                # An update in progress refuses another one with ResourceConflictException.
                self._control.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=UPDATE_WAIT)
                self._control.update_function_configuration(FunctionName=name, **changes)
                self._control.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=UPDATE_WAIT)
            except WaiterError as error:
                last: Any = error.last_response or {}
                found = last.get("Configuration", {})
                status, reason = found.get("LastUpdateStatus"), found.get("LastUpdateStatusReason")
                raise CloudError(
                    f"an update of {name} did not come through: {status or error}{f', {reason}' if reason else ''}",
                    hint=f"Look at it with `aws lambda get-function-configuration --function-name {name}`; when it is "
                    "Successful again, use --resume, or deploy again with `cdk deploy`.",
                ) from None

    def invoke(self, variant: Variant, payload: bytes | None = None, *, version: str | None = None) -> InvokeAnswer:
        """Call the function directly and wait for its answer; never raises for what the call met on its way.

        Sends [function] event where no payload is given, to the version that callers reach where none is given.
        """
        self._sent.moment = None
        entered = (time.time(), time.perf_counter())
        fields: dict[str, Any] = {}
        qualifier = version or variant.alias
        try:
            answer = self._invoker.invoke(
                FunctionName=self.function_name(variant),
                InvocationType="RequestResponse",
                LogType="Tail",
                **({"Qualifier": qualifier} if qualifier else {}),
                Payload=self._configuration.function.event.encode() if payload is None else payload,
            )
            fields = {
                "status": answer["StatusCode"],
                "payload": answer["Payload"].read(),
                "function_error": answer.get("FunctionError"),
                "log_tail": base64.b64decode(answer.get("LogResult", "")).decode(errors="replace"),
                "request_id": answer["ResponseMetadata"].get("RequestId"),
            }
        except ClientError as error:
            detail = error.response.get("Error", {})
            metadata = error.response.get("ResponseMetadata", {})
            fields = {
                "status": metadata.get("HTTPStatusCode"),
                "error_code": detail.get("Code", "Unknown"),
                "payload": str(detail.get("Message", "")).encode(),
                "request_id": metadata.get("RequestId"),
            }
        except (HTTPClientError, ConnectionError, OSError) as error:
            fields = {"connection_error": f"{type(error).__name__}: {error}"}
        ended = time.perf_counter()
        sent_at, sent = self._sent.moment or entered
        return InvokeAnswer(
            sent_at=sent_at, answered_at=sent_at + (ended - sent), latency_ms=(ended - sent) * 1000, **fields
        )

    def _note_sent(self, **_: Any) -> None:
        self._sent.moment = (time.time(), time.perf_counter())


class Nonces:
    """Forced updates that are undone when the block ends, whatever ends it."""

    def __init__(
        self, control: LambdaControl, run_id: str, forced: Callable[[Variant], None] = lambda _variant: None
    ) -> None:
        """`forced` is told of each update, which may have its price."""
        self._control = control
        self._run_id = run_id
        self._forced = forced
        self._touched: dict[str, Variant] = {}

    def force(self, variant: Variant, scope: str, before_alias: Callable[[str], None] = lambda _version: None) -> None:
        """Make the next call of this variant start a new environment, or be the first in a provisioned one.

        `before_alias` is told of the version that is published, where one is, before callers reach it.
        """
        self._touched[variant.key] = variant
        self._control.set_nonce(variant, f"{self._run_id}/{scope}", before_alias)
        self._forced(variant)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        problems = []
        with undisturbed():
            for variant in self._touched.values():
                try:
                    self._control.remove_nonce(variant)
                except CloudError as refused:
                    problems.append(refused.message)
        if not problems:
            return
        kept = f"{len(problems)} functions keep the variable {NONCE_VARIABLE}"
        hint = "`inference-lab experiments cleanup` removes it."
        if isinstance(error, UserError):  # why the block ended matters more than what could not be undone
            error.hint = f"{error.hint} {kept}: {hint}".lstrip()
        else:
            raise CloudError(f"{kept}: {problems[0]}", hint=hint)
