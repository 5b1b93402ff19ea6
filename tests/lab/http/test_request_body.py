"""A body that is too long, too slow or broken is refused; one that comes in parts is read whole."""

import asyncio
import logging
import socket

import pytest
from aiohttp import web

from lab.http.request_body import read_body

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def exchange(*parts, limit=1000, patience_s=30.0, hang_up=False):
    """Send parts to a server that echoes the body's length; gives its answer's first line."""

    async def main():
        begun, ended = asyncio.Event(), asyncio.Event()

        async def handler(request):
            begun.set()
            try:
                body = await read_body(request, limit, patience_s=patience_s)
            finally:
                ended.set()
            return web.Response(status=413) if body is None else web.Response(text=str(len(body)))

        # No lingering: the rest of a refused body is not waited for.
        runner = web.ServerRunner(web.Server(handler, lingering_time=0.0))
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)  # parts that arrive together nevertheless are only an easier case
        if hang_up:
            await begun.wait()
            writer.transport.abort()
            await ended.wait()
            answer = b""
        else:
            answer = await asyncio.wait_for(reader.read(65_536), 30)
            writer.close()
        await runner.cleanup()
        return answer.split(b"\r\n", 1)[0]

    return asyncio.run(main())


def test_a_body_in_parts_is_read_whole():
    assert b"200" in exchange(HEAD + b"Content-Length: 6\r\n\r\nab", b"cd", b"ef")
    assert b"200" in exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n")


@pytest.mark.parametrize("head", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1388\r\n"])
def test_a_body_over_the_limit_is_refused(head):
    assert b"413" in exchange(HEAD + head + b"x" * 5000)


def test_half_a_body_is_a_408_after_some_patience():
    assert b"408" in exchange(HEAD + b"Content-Length: 100\r\n\r\nhalf", patience_s=0.2)


def test_a_client_that_goes_away_within_its_body_is_no_fault_of_the_lab(caplog):
    with caplog.at_level(logging.ERROR):
        exchange(HEAD + b"Content-Length: 100\r\n\r\nhalf", hang_up=True)
    assert not caplog.records


def test_broken_framing_is_a_400():
    assert b"400" in exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\nnot hexadecimal\r\n")
