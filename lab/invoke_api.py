"""Lambda's Invoke API as routes of the lab's HTTP server. Source: "API_Invoke" of the Lambda API reference."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import Callable
from typing import Any, Final, Protocol, get_args

from aiohttp import web

from lab.contracts import InvocationType, Invoker, InvokeResult
from lab.dataplane.rules import MAX_CLIENT_CONTEXT_BYTES, MAX_SYNCHRONOUS_PAYLOAD_BYTES, new_request_id

INVOKE_PATH: Final = "/2015-03-31/functions/{name}/invocations"
INVOKE_ASYNC_PATH: Final = "/2014-11-13/functions/{name}/invoke-async"
FATE_PATH: Final = "/_lab/invocations/{request_id}"
_DISCARD_BYTES: Final = 64 * 1024 * 1024
_DISCARD_S: Final = 10.0
_TYPES: Final = get_args(InvocationType)


class FateLike(Protocol):
    """What has become of an asynchronous invoke."""

    def as_json(self) -> dict[str, Any]: ...


def add_routes(app: web.Application, invoker: Invoker, fate: Callable[[str], FateLike | None] | None = None) -> None:
    """Serve Invoke, and with `fate` the lab's own look-up of asynchronous invokes.

    The application's `client_max_size` does not matter: bodies are read here, up to Lambda's limit.
    """
    api = _InvokeApi(invoker, fate)
    app.router.add_post(INVOKE_PATH, api.invoke)
    app.router.add_post(INVOKE_ASYNC_PATH, api.invoke_async)
    if fate is not None:
        app.router.add_get(FATE_PATH, api.look_up)


class _InvokeApi:
    def __init__(self, invoker: Invoker, fate: Callable[[str], FateLike | None] | None) -> None:
        self._invoker = invoker
        self._fate = fate

    async def invoke(self, request: web.Request) -> web.Response:
        headers = request.headers
        invocation_type = headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if invocation_type not in _TYPES:
            return _error(
                400, "InvalidParameterValueException", f"Invocation type {invocation_type!r}: {_one_of(_TYPES)}"
            )
        log_type = headers.get("X-Amz-Log-Type", "None")
        if log_type not in ("None", "Tail"):
            return _error(400, "InvalidParameterValueException", f"Log type {log_type!r}: {_one_of(('None', 'Tail'))}")
        context = headers.get("X-Amz-Client-Context")
        decoded_context = None
        if context is not None:
            try:
                decoded_context = _client_context(context)
            except ValueError as error:
                return _error(400, "InvalidRequestContentException", str(error))
        payload = await _read_body(request)
        if payload is None:
            return await _too_large(request)
        if payload:
            problem = _json_problem(payload)
            if problem:
                return _error(
                    400, "InvalidRequestContentException", f"Could not parse request body into json: {problem}"
                )
        result = await self._invoker.invoke(
            request.match_info["name"],
            payload or b"{}",
            invocation_type=invocation_type,  # type: ignore[arg-type]  # checked against the same list above
            qualifier=request.query.get("Qualifier"),
            log_tail=log_type == "Tail",
            trace_id=headers.get("X-Amzn-Trace-Id"),
            client_context=decoded_context,
        )
        return response_of(result)

    async def invoke_async(self, request: web.Request) -> web.Response:
        """The deprecated InvokeAsync."""
        payload = await _read_body(request)
        if payload is None:
            return await _too_large(request)
        problem = _json_problem(payload) if payload else ""
        if problem:
            return _error(400, "InvalidRequestContentException", f"Could not parse request body into json: {problem}")
        result = await self._invoker.invoke(request.match_info["name"], payload or b"{}", invocation_type="Event")
        if result.error_code is not None:
            return response_of(result)
        return web.json_response({"Status": 202}, status=202, headers={"x-amzn-RequestId": result.request_id})

    async def look_up(self, request: web.Request) -> web.Response:
        request_id = request.match_info["request_id"]
        fate = self._fate(request_id) if self._fate is not None else None
        if fate is None:
            text = f"No asynchronous invoke {request_id[:64]!r} is known here, or it ended long ago."
            return web.json_response({"message": text}, status=404)
        return web.json_response(fate.as_json())


def response_of(result: InvokeResult) -> web.Response:
    """An InvokeResult as Lambda answers it over HTTP."""
    if result.error_code is not None:
        body: dict[str, object] = {}
        if "reason" in result.extra:
            body["Reason"] = result.extra["reason"]
        body["Type"] = result.extra.get("type", "User")
        # Lambda's models name the field "message" or "Message"; SDKs take either.
        body["message"] = result.extra.get("message", result.error_code)
        headers = {"x-amzn-RequestId": result.request_id, "x-amzn-ErrorType": result.error_code}
        if result.status == 429:
            headers["Retry-After"] = "1"
        return web.Response(
            status=result.status, body=json.dumps(body).encode(), content_type="application/json", headers=headers
        )
    headers = {"x-amzn-RequestId": result.request_id}
    if result.status == 200:
        headers["X-Amz-Executed-Version"] = result.executed_version
    if result.function_error is not None:
        headers["X-Amz-Function-Error"] = result.function_error
    if result.log_tail:
        headers["X-Amz-Log-Result"] = base64.b64encode(result.log_tail).decode()
    if result.status == 204:
        return web.Response(status=204, headers=headers)
    return web.Response(status=result.status, body=result.payload, content_type="application/json", headers=headers)


async def _read_body(request: web.Request) -> bytes | None:
    """The body, or None if it is over the limit; what is too much is never kept."""
    declared = request.content_length
    if declared is not None and declared > MAX_SYNCHRONOUS_PAYLOAD_BYTES:
        return None
    if not request.body_exists:
        return b""
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > MAX_SYNCHRONOUS_PAYLOAD_BYTES:
            return None
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _client_context(header: str) -> str:
    """The client context as the runtime gets it: JSON, in one line."""
    if len(header) > MAX_CLIENT_CONTEXT_BYTES:
        raise ValueError(f"Client context has {len(header)} bytes; at most {MAX_CLIENT_CONTEXT_BYTES} are allowed.")
    try:
        return json.dumps(json.loads(base64.b64decode(header, validate=True)))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"Client context must be a valid Base64-encoded JSON object: {error}") from None


def _json_problem(payload: bytes) -> str:
    """Why a payload is no JSON; "" if it is."""
    try:
        json.loads(payload)
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def _one_of(values: tuple[str, ...]) -> str:
    return f"expected one of {', '.join(values)}"


async def _too_large(request: web.Request) -> web.Response:
    """413. Up to a bound the rest of the body is read and thrown away, so that the sender gets to read the answer."""
    discarded = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            async for part in request.content.iter_any():
                discarded += len(part)
                if discarded > _DISCARD_BYTES:
                    break
    message = f"Request must be smaller than {MAX_SYNCHRONOUS_PAYLOAD_BYTES} bytes for the InvokeFunction operation"
    response = _error(413, "RequestTooLargeException", message)
    response.force_close()
    return response


def _error(status: int, code: str, message: str) -> web.Response:
    result = InvokeResult(
        status=status,
        payload=b"",
        request_id=new_request_id(),
        error_code=code,
        extra={"message": message, "type": "User"},
    )
    return response_of(result)
