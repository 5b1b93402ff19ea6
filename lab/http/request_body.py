"""Reads a request's body for every part of the lab: bounded in size and in time."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import ClientPayloadError, web

# For a client that announces a body and does not send it: nothing waits for ever.
PATIENCE_S: Final = 60.0


async def read_body(request: web.BaseRequest, limit: int, *, patience_s: float = PATIENCE_S) -> bytes | None:
    """The body, or None where it is over `limit` bytes; a longer one is not read to its end.

    Raises web.HTTPRequestTimeout (408) if the body is not whole after `patience_s`, and web.HTTPBadRequest if the
    client goes away or breaks its own framing within it: then nobody is left to read an answer, and no fault of the
    lab is to be logged.
    """
    if _announced_bytes(request) > limit:
        return None
    if not request.body_exists:
        return b""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(patience_s):
            while part := await request.content.readany():
                size += len(part)
                if size > limit:
                    return None
                parts.append(part)
    except TimeoutError:
        raise web.HTTPRequestTimeout(
            text=f'{{"message": "The request body was not whole after {patience_s:g} s"}}',
            content_type="application/json",
            headers={"Connection": "close"},
        ) from None
    except (ConnectionError, ClientPayloadError):
        raise web.HTTPBadRequest(
            text='{"message": "The request body is broken"}',
            content_type="application/json",
            headers={"Connection": "close"},
        ) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _announced_bytes(request: web.BaseRequest) -> int:
    try:
        return request.content_length or 0
    except ValueError:
        return 0  # a small number behind thousands of zeros, which Python does not read: the body itself is counted
