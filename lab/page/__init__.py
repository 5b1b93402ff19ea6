"""The lab's own page: functions, execution environments as they change, and the last invocations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from core.run.records import EndpointFacts
from lab.contracts import FunctionConfiguration
from lab.dataplane.activity import Activity

PAGE_PATH: Final = "/_lab/"
ACTIVITY_PATH: Final = "/_lab/activity"

_FOLDER: Final = Path(__file__).parent
_FILES: Final = {PAGE_PATH: ("page.html", "text/html"), "/_lab/page.js": ("page.js", "text/javascript")}
_HEADERS: Final = {
    # Nothing from elsewhere, and no frame: the page has buttons that run functions.
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def add_routes(
    application: web.Application,
    facts: EndpointFacts,
    functions: Callable[[], Sequence[FunctionConfiguration]],
    addresses: Callable[[], Iterable[tuple[str, str]]],
    activity: Callable[[], Activity],
) -> None:
    """Serve the page and the JSON that it asks for; `addresses` gives pairs of a function's ARN and a URL."""

    async def show_activity(_request: web.Request) -> web.Response:
        return web.json_response(_activity(facts, functions(), addresses(), activity()), headers=_HEADERS)

    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPFound(PAGE_PATH)

    application.router.add_get(PAGE_PATH.rstrip("/"), redirect)
    application.router.add_get(ACTIVITY_PATH, show_activity)
    for path, (name, content_type) in _FILES.items():
        application.router.add_get(path, _serve_file(_FOLDER / name, content_type))


def _serve_file(path: Path, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    text = path.read_text("utf-8")

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type, headers=_HEADERS)

    return serve


def _activity(
    facts: EndpointFacts,
    functions: Sequence[FunctionConfiguration],
    addresses: Iterable[tuple[str, str]],
    activity: Activity,
) -> dict[str, Any]:
    urls: dict[str, list[str]] = {}
    for arn, url in addresses:
        unqualified = ":".join(arn.split(":")[:7])
        urls.setdefault(unqualified, []).append(url)
    return {
        "host": facts.host,
        "limits": facts.limits.model_dump(),
        "time_scale": facts.time_scale,
        "functions": [_function(one, urls) for one in functions],
        "environments": [asdict(one) for one in activity.environments],
        "invocations": [asdict(one) for one in activity.invocations],
    }


def _function(function: FunctionConfiguration, urls: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "name": function.name,
        "memory_mb": function.memory_mb,
        "timeout_s": function.timeout_s,
        "image": function.image_uri.rpartition("/")[2],
        "addresses": list(urls.get(function.arn, ())),
    }
