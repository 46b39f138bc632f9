"""What the HTTP door takes at most: lines, headers, bodies, depth, time."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway import http
from gateway.http import MAX_BODY_BYTES, HttpServer
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

POST = b"POST /taken HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n"


def carrying(body: bytes, *headers: bytes) -> bytes:
    lines = [b"Content-Length: %d" % len(body), *headers]
    return POST + b"\r\n".join(lines) + b"\r\n\r\n" + body


def many(count: int) -> bytes:
    return GET + b"".join(b"X-%d: a\r\n" % number for number in range(count)) + b"\r\n"


BOMB = gzip.compress(b'{"a": "' + b"x" * 10_000_000 + b'"}')
REQUESTS = {
    "small": (200, carrying(b'{"a": 1}')),
    "the longest body": (200, carrying(b'{"a": "' + b"x" * (MAX_BODY_BYTES - 9) + b'"}')),
    "too long": (413, carrying(b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}')),
    "too long, in chunks": (
        413,
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        + b"10000\r\n" + b"x" * 0x10000 + b"\r\n1\r\nx\r\n0\r\n\r\n",
    ),
    "too deep": (400, carrying(b'{"a": ' + b"[" * 60_000 + b"]" * 60_000 + b"}")),
    "a number without end": (400, carrying(b'{"a": ' + b"9" * 100_000 + b"}")),
    "a bomb": (413, carrying(BOMB, b"Content-Encoding: gzip")),
    "not what its headers say": (400, carrying(b"abcde", b"Content-Encoding: gzip")),
    "a long path": (400, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n"),
    "a long header": (400, GET + b"X: " + b"a" * 10_000 + b"\r\n\r\n"),
    "some headers": (200, many(100)),
    "many headers": (400, many(1_000)),
    "no HTTP": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
}  # fmt: skip


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(http, "IDLE_S", 0.2)
    server = HttpServer(fake_services(FakeHub()))

    async def take(request: web.Request) -> web.Response:
        return web.json_response({"got": len(await http.json_object(request))})

    server.add_routes([web.post("/taken", take)])
    await server.start()
    yield int(server.url.rpartition(":")[2])
    await server.stop()


async def answer(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(30):
            writer.write(request)
            return await reader.readline()
    finally:
        writer.close()


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_is_as_large_as_it_may_be(port: int, name: str) -> None:
    status, request = REQUESTS[name]
    with capture_logs() as log:
        assert (await answer(port, request)).split()[1] == str(status).encode()
    assert not log, "whoever sends garbage does not fill the log"


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT", GET])
async def test_a_connection_that_asks_for_nothing_is_closed(port: int, sent: bytes) -> None:
    assert await answer(port, sent) == b""
