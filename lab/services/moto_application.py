"""The bridge from aiohttp to moto's WSGI application, which runs in a pool of threads."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sqlite3
import sys
import traceback
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes
from xml.sax.saxutils import escape

from aiohttp import web
from botocore.model import OperationNotFoundError
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import run_wsgi_app

from core import strict_json
from core.errors import UserError
from core.paths import REPOSITORY
from lab.dataplane.rules import function_name_problem, split_qualifier
from lab.http.callers_mistakes import CallersMistakes
from lab.http.request_body import read_body
from lab.services.request_shapes import violation

# An asset of a CDK app is rarely larger, and images do not come this way.
MAX_BODY_BYTES: Final = 128 * 1024 * 1024
_THREADS: Final = 8
# moto's own console and its stand-in for EC2's metadata: neither is an AWS API, and the first can erase everything.
_NOT_AWS: Final = ("/moto-api", "/latest/meta-data", "/latest/api")
# Services whose requests carry no sign of JSON where they have no body.
_REST_JSON: Final = frozenset({"lambda", "scheduler", "apigateway"})
# Those whose answers are XML and whose word for an operation that they do not have is another.
_QUERY: Final = frozenset({"cloudformation", "monitoring", "iam", "sts", "sqs", "sns", "ec2"})
_NOT_FOUND: Final = {"apigateway": "NotFoundException", "iam": "NoSuchEntity"}
# The machine's failures and the lab's own: nothing that the caller could fix.
_NOT_THE_CALLERS: Final = (OSError, RuntimeError, MemoryError, sqlite3.Error, UserError)
# moto raises built-in exceptions both at what it cannot read and at its own faults: only the place tells them apart.
# Where it finds the account and the region that a request is signed for.
_READS_ADDRESS: Final = ("/moto/core/base_backend.py", "/moto/core/responses.py", "/moto/core/utils.py")
# Where numbers and times of a request are read.
_READS_VALUES: Final = ("/moto/core/parse.py", "/moto/core/responses.py", "/botocore/utils.py")
# No wider than what moto reads, so that neither finds a service where the other finds none.
_SIGNED: Final = re.compile(r"\s*[^\s,]+\s+Credential=[^/\s,]*/\d+/[^/\s,]*/([^/\s,]*)/aws4_request")
_LAB: Final = f"{REPOSITORY / 'lab'}/"
_FUNCTION_PATH: Final = re.compile(r"(/\d{4}-\d\d-\d\d/functions/)([^/]+)")
_EMPTY_FUNCTION_NAME: Final = re.compile(r"/\d{4}-\d\d-\d\d/functions/(?:%20)*/")
# Set by aiohttp itself, or of one connection only.
_HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"})


def _nothing() -> None:
    pass


class MotoApplication:
    """Answers AWS API requests with moto."""

    def __init__(
        self,
        mistakes: CallersMistakes,
        before_first_request: Mapping[str, Callable[[], None]],
    ) -> None:
        """`mistakes` counts what is refused.

        `before_first_request` names what to run once before a service of moto's answers for the first time.
        """

        def create(service: Any) -> Any:
            # moto holds a lock here, so nothing runs twice.
            before_first_request.get(service, _nothing)()
            return create_backend_app(service)

        self._application = DomainDispatcherApplication(create)
        self._mistakes = mistakes
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="moto")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request to one response; what goes wrong inside moto becomes an error in AWS's shape."""
        if request.path.startswith(_NOT_AWS):
            return aws_error(request, 404, "UnknownOperationException", "not an AWS API")
        if _EMPTY_FUNCTION_NAME.match(request.raw_path):
            return aws_error(request, 400, "ValidationException", function_name_problem(""))
        body = await read_body(request, MAX_BODY_BYTES)
        if body is None:
            return aws_error(
                request, 413, "RequestEntityTooLarge", f"the body is over {MAX_BODY_BYTES} bytes", close=True
            )
        if (problem := _broken_json(request, body)) is not None:
            return aws_error(request, 400, "SerializationException", problem)
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._pool, self._call, _environ(request, body))
        except Exception as error:  # noqa: BLE001 - moto raises anything at a request that it did not foresee
            refused = refusal(request, body, error)
            if refused.is_callers_mistake:
                self._mistakes.count(f"{refused.code} at {_described(request)}")
            elif refused.status < 500:
                self._mistakes.count_at(_place(error), f"moto failed at {_described(request)}: {_where(error)}")
            else:
                print(f"lab: moto failed at {_described(request)}: {_where(error)}", file=sys.stderr)
            return aws_error(request, refused.status, refused.code, refused.message)
        if answer.status == 308:
            # werkzeug would have the caller ask again without an empty part of the path; AWS has no such address.
            return aws_error(request, 404, "UnknownOperationException", f"no operation has the path {request.path!r}")
        return answer

    def close(self) -> None:
        """End the threads; requests that run are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _call(self, environ: dict[str, Any]) -> web.Response:
        body, status, headers = run_wsgi_app(self._application, environ, buffered=True)
        response = web.Response(status=int(status.split(" ", 1)[0]), body=b"".join(body))
        # HEAD of an object: moto answers its length without the object.
        if environ["REQUEST_METHOD"] == "HEAD" and "Content-Length" in headers:
            response.headers["Content-Length"] = headers["Content-Length"]
        response.headers.popall("Content-Type", None)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                response.headers.add(name, value)
        return response


@dataclass(frozen=True)
class Refusal:
    """An error in AWS's words, and whether the request was wrong rather than something here."""

    status: int
    code: str
    message: str
    is_callers_mistake: bool = True


def refusal(request: web.Request, body: bytes, error: Exception) -> Refusal:
    """The answer to a request over which moto, or an extension of the lab, raised an unexpected exception.

    It would raise the same again, so the answer is one that no SDK tries again: 4xx, unless the failure is the
    machine's or the lab's own.
    """
    service = _service(request)
    if not service and not isinstance(error, _NOT_THE_CALLERS):
        return Refusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    asked = request.headers.get("X-Amz-Target") or f"{request.method} {request.path[:200]}"
    if isinstance(error, (NotImplementedError, OperationNotFoundError)):
        if service in _QUERY:
            return Refusal(400, "InvalidAction", f"the lab does not model this action ({error})")
        return Refusal(404, "UnknownOperationException", f"the lab does not model {service or 'this service'}: {asked}")
    target, path = request.headers.get("X-Amz-Target", ""), request.raw_path.partition("?")[0]
    if (problem := violation(service, request.method, path, target, body)) is not None:
        return Refusal(400, "ValidationError" if service in _QUERY else "ValidationException", problem)
    if isinstance(error, (ValueError, RuntimeError)) and _raised_in(error).endswith(_READS_VALUES):
        return Refusal(400, "ValidationException", f"a parameter cannot be read: {error}"[:500])
    if isinstance(error, _NOT_THE_CALLERS) or _raised_in(error).startswith(_LAB):
        return Refusal(500, "InternalFailure", f"{type(error).__name__}: {error}", is_callers_mistake=False)
    if _raised_in(error).endswith("/moto/backends.py"):
        return Refusal(404, "UnknownOperationException", f"the lab has no service {service!r}")
    if isinstance(error, UnicodeError):
        return Refusal(400, "ValidationException", f"the request is not text: {error}")
    if isinstance(error, LookupError) and _raised_in(error).endswith(_READS_ADDRESS):
        return Refusal(400, "ValidationException", f"no such account, partition or region: {error}")
    missing = error.args[0] if isinstance(error, KeyError) and error.args else None
    if missing and missing in _named_values(request, body):
        return Refusal(404, _NOT_FOUND.get(service, "ResourceNotFoundException"), f"{missing} was not found")
    return Refusal(
        400,
        "ValidationException",
        f"this request is malformed, or moto does not cover it: {type(error).__name__}: {error}",
        is_callers_mistake=False,
    )


def _named_values(request: web.Request, body: bytes) -> set[object]:
    """Every text that a request gives as a value: parts of its path, its query's, its form's, its JSON's."""
    values: set[object] = {unquote(part) for part in request.raw_path.partition("?")[0].split("/")}
    values.update(value for _, value in parse_qsl(request.query_string))
    try:
        waiting = [strict_json.loads(body)]
    except ValueError:
        waiting = [value for _, value in parse_qsl(body.decode(errors="replace"))]
    while waiting:
        match waiting.pop():
            case dict() as mapping:
                waiting.extend(mapping.values())
            case list() as items:
                waiting.extend(items)
            case str() as text:
                values.add(text)
    return values


def aws_error(request: web.Request, status: int, code: str, message: str, *, close: bool = False) -> web.Response:
    """An error in the shape that the caller's protocol asks for: JSON with `__type`, else XML."""
    request_id = str(uuid.uuid4())
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": code}
    if close:
        headers["Connection"] = "close"
    content_type = request.headers.get("Content-Type", "")
    if "json" in content_type or "X-Amz-Target" in request.headers or _service(request) in _REST_JSON:
        text = json.dumps({"__type": code, "message": message, "Message": message})
        kind = content_type if content_type.startswith("application/x-amz-json") else "application/json"
        return web.Response(status=status, body=text.encode(), headers={**headers, "Content-Type": kind})
    if _service(request) in {"", "s3"}:
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
            f"<RequestId>{request_id}</RequestId></Error>"
        )
        return web.Response(status=status, text=text, content_type="application/xml", headers=headers)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<ErrorResponse><Error><Type>{'Sender' if status < 500 else 'Receiver'}</Type><Code>{escape(code)}</Code>"
        f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return web.Response(status=status, text=text, content_type="text/xml", headers=headers)


def _described(request: web.Request) -> str:
    action = request.headers.get("X-Amz-Target") or request.path
    return f"{request.method} {_service(request)} {action[:200]!r}"


def _where(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:500]} ({_place(error)})"


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


def _raised_in(error: Exception) -> str:
    return traceback.extract_tb(error.__traceback__)[-1].filename


def _service(request: web.Request) -> str:
    """The service that a request is signed for, "" where it is not signed."""
    found = _SIGNED.match(request.headers.get("Authorization", ""))
    return found[1] if found else ""


def _broken_json(request: web.Request, body: bytes) -> str | None:
    """Why a body that claims to be JSON is not, or None. moto would answer 500 with its own traceback."""
    if not body or not _claims_json(request, body):
        return None
    try:
        strict_json.loads(body)
    except ValueError as error:
        return f"the body is not JSON: {error}"
    return None


def _claims_json(request: web.Request, body: bytes) -> bool:
    """Whether the body is read as JSON: by its type, or, where a client gives none, by its protocol."""
    content_type = request.headers.get("Content-Type", "")
    if "json" in content_type or "cbor" in content_type:
        return "json" in content_type
    return "X-Amz-Target" in request.headers or (_service(request) in _REST_JSON and body.lstrip()[:1] in b"{[")


def _plain_function(path: str, query: str) -> tuple[str, str]:
    """Lambda's path with the function by its name or full ARN: moto 5.2.5 knows no partial ARN and no `:QUALIFIER`."""
    found = _FUNCTION_PATH.match(path)
    if found is None:
        return path, query
    name, qualifier = split_qualifier(unquote(found[2]))
    if qualifier is not None:
        query = f"{query}{'&' * bool(query)}Qualifier={quote(qualifier, safe='')}"
    return f"{found[1]}{quote(name, safe=':')}{path[found.end() :]}", query


def _environ(request: web.Request, body: bytes) -> dict[str, Any]:
    # As CPython's own servers do: percent-decoded bytes as latin-1 text (PEP 3333).
    path, _, query = request.raw_path.partition("?")
    if "://" in path:
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    path, query = _plain_function(path, query)
    address = f"{path}?{query}" if query else path
    host = request.headers.get("Host", "localhost")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "RAW_URI": address,
        "REQUEST_URI": address,
        "QUERY_STRING": query,
        "SERVER_NAME": host.rsplit(":", 1)[0],
        "SERVER_PORT": host.rsplit(":", 1)[1] if ":" in host else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.remote or "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ["CONTENT_TYPE"] = value
        elif key == "CONTENT_ENCODING" and value.lower() in {"gzip", "deflate"}:
            continue  # aiohttp has undone it
        elif key not in {"CONTENT_LENGTH", "TRANSFER_ENCODING"}:
            key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
