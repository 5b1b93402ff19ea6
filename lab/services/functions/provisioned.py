"""Provisioned concurrency over HTTP, which moto 5.2.5 does not have: put, get, list, and delete.

https://docs.aws.amazon.com/lambda/latest/api/API_PutProvisionedConcurrencyConfig.html
"""

# moto shows parts of its state under private names only.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web
from moto.awslambda.exceptions import InvalidParameterValueException
from moto.core.utils import iso_8601_datetime_with_nanoseconds

from core import strict_json
from lab.contracts import LATEST, FunctionConfiguration
from lab.dataplane.rules import split_qualifier
from lab.http.request_body import read_body
from lab.services.functions.catalogue import LabFunction, MotoFunctionCatalogue

PATH: Final = "/2019-09-30/functions/{name:[^/]+}/provisioned-concurrency"
_MAX_BODY_BYTES: Final = 100_000
StateOf = Callable[[FunctionConfiguration], tuple[int, str]]


def check(function: LabFunction, qualifier: str, count: int, version: LabFunction | None = None) -> None:
    """Raise InvalidParameterValueException where AWS refuses this many environments for a version or alias.

    `version` is what the qualifier leads to; without it, one that is about to be published from `function`.
    """
    if version is not None and version.version == LATEST:
        raise InvalidParameterValueException(
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
        )
    if (version or function).snap_start:
        raise InvalidParameterValueException("Provisioned concurrency is not supported on a version with SnapStart.")
    if count < 1:
        raise InvalidParameterValueException("ProvisionedConcurrentExecutions must be at least 1.")
    others = sum(number for name, number in function.provisioned.items() if name != qualifier)
    if function.reserved_concurrency is not None and others + count > int(function.reserved_concurrency):
        raise InvalidParameterValueException(
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
        )


def provision(function: LabFunction, qualifier: str, count: int) -> None:
    """Note how many environments a version or alias is to have; the data plane then initializes them."""
    function.provisioned = {**function.provisioned, qualifier: count}


class ProvisionedApi:
    """The four operations.

    `state_of` tells how many environments of a version there are, and why no more; `try_again` forgets the latter.
    """

    def __init__(
        self,
        catalogue: MotoFunctionCatalogue,
        state_of: StateOf,
        try_again: Callable[[FunctionConfiguration], None],
    ) -> None:
        self._catalogue = catalogue
        self._state_of = state_of
        self._try_again = try_again

    def add_routes(self, application: web.Application) -> None:
        application.router.add_put(PATH, self._put)
        application.router.add_get(PATH, self._get)
        application.router.add_delete(PATH, self._delete)

    async def _put(self, request: web.Request) -> web.Response:
        function, qualifier, configuration = self._asked(request)
        if function is None or configuration is None:
            return _refused(404, "ResourceNotFoundException", f"Function not found: {request.match_info['name']}")
        count = _count(await read_body(request, _MAX_BODY_BYTES))
        if count is None:
            message = "The body is not a JSON object with a whole number as ProvisionedConcurrentExecutions"
            return _refused(400, "InvalidRequestContentException", message)
        try:
            check(function, qualifier, count, self._catalogue.leads_to(function, qualifier))
        except InvalidParameterValueException as error:
            return _refused(400, "InvalidParameterValueException", str(error.message))
        provision(function, qualifier, count)
        self._try_again(configuration)
        return web.json_response(self._described(function, qualifier), status=202)

    async def _get(self, request: web.Request) -> web.Response:
        function, qualifier, _ = self._asked(request)
        if function is None:
            return _refused(404, "ResourceNotFoundException", f"Function not found: {request.match_info['name']}")
        if request.query.get("List") == "ALL":
            every = [
                {"FunctionArn": f"{function.function_arn}:{name}", **self._described(function, name)}
                for name in function.provisioned
            ]
            return web.json_response({"ProvisionedConcurrencyConfigs": every})
        if qualifier not in function.provisioned:
            message = "No Provisioned Concurrency Config found for this function"
            return _refused(404, "ProvisionedConcurrencyConfigNotFoundException", message)
        return web.json_response(self._described(function, qualifier))

    async def _delete(self, request: web.Request) -> web.Response:
        function, qualifier, _ = self._asked(request)
        if function is None:
            return _refused(404, "ResourceNotFoundException", f"Function not found: {request.match_info['name']}")
        function.withdraw(qualifier)
        return web.Response(status=204)

    def _asked(self, request: web.Request) -> tuple[LabFunction | None, str, FunctionConfiguration | None]:
        name, own = split_qualifier(request.match_info["name"])
        qualifier = request.query.get("Qualifier") or own or ""
        return self._catalogue.latest(name), qualifier, self._catalogue.get(name, qualifier)

    def _described(self, function: LabFunction, qualifier: str) -> Mapping[str, Any]:
        """https://docs.aws.amazon.com/lambda/latest/api/API_GetProvisionedConcurrencyConfig.html."""
        wanted = function.provisioned[qualifier]
        version = self._catalogue.leads_to(function, qualifier)
        configuration = version and self._catalogue.get(function.function_name, str(version.version))
        found, problem = self._state_of(configuration) if configuration else (0, "the version is gone")
        there = min(wanted, found)
        status = "READY" if there == wanted else "FAILED" if problem else "IN_PROGRESS"
        return {
            "RequestedProvisionedConcurrentExecutions": wanted,
            "AvailableProvisionedConcurrentExecutions": there,
            "AllocatedProvisionedConcurrentExecutions": there,
            "Status": status,
            **({"StatusReason": problem} if status == "FAILED" else {}),
            "LastModified": iso_8601_datetime_with_nanoseconds(),
        }


def _count(body: bytes | None) -> int | None:
    """The number in a request's body; None where the body is too long or is not as the API has it."""
    try:
        count = strict_json.loads(body or b"")["ProvisionedConcurrentExecutions"]
    except (ValueError, TypeError, KeyError):
        return None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _refused(status: int, code: str, message: str) -> web.Response:
    body = {"Type": "User", "message": message}
    return web.json_response(body, status=status, headers={"x-amzn-ErrorType": code})
