"""HTTP over the front door: what crosses it, what it answers itself, and who gets no further."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from gateway import http
from gateway.auth import SESSION
from gateway.doors import Doors
from gateway.front_door import http_server
from gateway.front_door.http_server import FrontDoorHttp
from gateway.front_door.routing import worker_of
from gateway.front_door.workers import MediaWorkers
from gateway.http import MAX_BODY_BYTES
from gateway.limits.buckets import Rate
from gateway.limits.calls import CallRates
from gateway.limits.connections import Connections
from gateway.limits.settings import RateSettings
from gateway.limits.turns import Turns
from gateway.origins import Origins
from scheduler.core import errors
from scheduler.core.ids import Principal
from tests.fakes.changes import Changes
from tests.fakes.front_door import FakeWorkers, backends, http_worker

pytestmark = pytest.mark.integration

TOKEN = {"Authorization": "Bearer user"}
PATH = "/sessions/s0"
OWNER = worker_of("s0", 2)


class Tokens:
    """Knows one token."""

    def authenticate(self, token: str | None) -> Principal:
        if token != "user":
            raise errors.UnauthenticatedError("the token is unknown")
        return Principal("tenant", frozenset({SESSION}))

    def authenticate_key(self, api_key: str) -> Principal:
        if api_key != "rk_right":
            raise errors.UnauthenticatedError("the API key is not valid")
        return Principal("tenant", frozenset({SESSION}))


@dataclass
class Worker:
    """What the workers saw, and how they answer."""

    changes: Changes = field(default_factory=Changes)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    blocks: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path, dict(request.headers)))
        self.changes.happened()
        mode = request.query.get("mode", "")
        if mode == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                self.changes.happened()
                raise
        if mode == "half":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"x" * 10)
            assert request.transport is not None
            request.transport.abort()
            return response
        async for block in request.content.iter_any():
            self.blocks.append(block)
            self.changes.happened()
        if mode == "big":
            return web.Response(body=b"y" * 3_000_000)
        if request.path == "/metrics":
            return web.Response(text="# TYPE fake gauge\nfake 1.0\n# EOF\n")
        headers = {"Retry-After": "3", "Access-Control-Allow-Origin": "*", "Keep-Alive": "no"}
        return web.json_response({"got": len(self.blocks)}, status=418, headers=headers)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def workers(worker: Worker, tmp_path: Path) -> AsyncIterator[FakeWorkers]:
    async with (
        http_worker(tmp_path, 0, worker.handle),
        http_worker(tmp_path, 1, worker.handle),
        backends(tmp_path, 2) as made,
    ):
        yield made


@asynccontextmanager
async def opened(workers: FakeWorkers) -> AsyncIterator[FrontDoorHttp]:
    made = FrontDoorHttp("127.0.0.1:0", Tokens(), cast(MediaWorkers, workers), Doors())
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def door(workers: FakeWorkers) -> AsyncIterator[FrontDoorHttp]:
    async with opened(workers) as made:
        yield made


@pytest.fixture
async def client(door: FrontDoorHttp) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(door.url) as session:
        yield session


async def raw(door: FrontDoorHttp, data: bytes) -> tuple[asyncio.StreamReader, Any]:
    host, _, port = door.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    return reader, writer


# -- what crosses -------------------------------------------------------------------------------


async def test_the_pages_are_its_own(worker: Worker, client: aiohttp.ClientSession) -> None:
    for path in ("/", "/console"):
        async with client.get(path) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/html"
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    async with client.get("/assets/other.js") as answer:
        assert answer.status == 404
    assert worker.requests == []


async def test_a_request_and_its_answer_cross(
    worker: Worker, client: aiohttp.ClientSession, workers: FakeWorkers
) -> None:
    headers = {**TOKEN, "Host": "video.example", "TE": "trailers", "X-Mine": "1"}
    path = PATH + "/info?a=%20b&c"
    async with client.put(path, data=b'{"a": 1}', headers=headers) as answer:
        assert answer.status == 418
        assert await answer.json() == {"got": 1}
        assert answer.headers["Retry-After"] == "3"
        assert answer.headers.getall("Access-Control-Allow-Origin") == ["*"]
        assert "Keep-Alive" not in answer.headers
    (method, got_path, got) = worker.requests[0]
    assert (method, got_path) == ("PUT", path)
    assert got["Host"] == "video.example"
    assert got["X-Mine"] == "1"
    assert got["Content-Length"] == "8"
    assert got["X-Forwarded-For"] == "127.0.0.1"
    assert "TE" not in got
    assert worker.blocks == [b'{"a": 1}']
    assert workers.routes[0].key == "s0"


async def test_a_request_without_a_body_has_none_there(
    worker: Worker, client: aiohttp.ClientSession
) -> None:
    async with client.get(PATH, headers=TOKEN):
        pass
    assert "Content-Length" not in worker.requests[0][2]
    assert "Transfer-Encoding" not in worker.requests[0][2]


@pytest.mark.parametrize("path", ["/workers/1/uploads/abc", "/uploads/abc"])
async def test_an_upload_streams_to_the_worker_that_its_url_names(
    path: str, worker: Worker, client: aiohttp.ClientSession
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        # The rest is sent only when the beginning has arrived.
        await worker.changes.until(lambda: worker.blocks == [b"first"])
        yield b"second"

    headers = {"Content-Length": "11"}
    async with client.put(path, data=body(), headers=headers) as answer:
        assert answer.status == 418
    assert b"".join(worker.blocks) == b"firstsecond"
    assert worker.requests[0][1] == "/uploads/abc"
    assert worker.requests[0][2]["Content-Length"] == "11"


async def test_a_big_answer_crosses_whole(client: aiohttp.ClientSession) -> None:
    async with client.get(PATH + "?mode=big", headers=TOKEN) as answer:
        assert await answer.read() == b"y" * 3_000_000


async def test_a_client_that_leaves_ends_the_request_at_the_worker(
    worker: Worker, door: FrontDoorHttp
) -> None:
    request = f"GET {PATH}?mode=hang HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer user\r\n\r\n"
    _, writer = await raw(door, request.encode())
    await worker.changes.until(lambda: worker.requests)
    writer.transport.abort()
    await worker.changes.until(lambda: worker.ended == ["cancelled"])


# -- who is let in ------------------------------------------------------------------------------


@pytest.fixture
async def guarded(workers: FakeWorkers) -> AsyncIterator[aiohttp.ClientSession]:
    rates = dict.fromkeys(("exchange", "upload", "signal", "command", "address"), "off")
    made = FrontDoorHttp(
        "127.0.0.1:0",
        Tokens(),
        cast(MediaWorkers, workers),
        Doors(),
        origins=Origins(frozenset({"https://app.example"})),
        rates=CallRates(RateSettings(create="1/h:1", failures="1/h:2", **rates)),
    )
    await made.start()
    async with aiohttp.ClientSession(made.url) as session:
        yield session
    await made.stop()


async def test_a_caller_that_creates_too_much_reaches_no_worker(
    worker: Worker, guarded: aiohttp.ClientSession
) -> None:
    for status in (418, 429):
        async with guarded.post("/sessions", json={}, headers=TOKEN) as answer:
            assert answer.status == status
            told = await answer.json()
    assert (answer.headers["Vary"], len(worker.requests)) == ("Origin", 1)
    assert told["quota"] == "rate_create"


async def test_wrong_credentials_reach_no_worker_and_are_soon_not_looked_at(
    worker: Worker, guarded: aiohttp.ClientSession
) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    for headers, status in ((wrong, 401), ({}, 401), (wrong, 429), (TOKEN, 429)):
        async with guarded.get(PATH, headers=headers) as answer:
            assert answer.status == status
    async with guarded.get("/livez") as answer:
        assert answer.status == 200
    assert worker.requests == []


async def test_pages_of_other_origins_reach_no_worker(
    worker: Worker, guarded: aiohttp.ClientSession
) -> None:
    for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
        headers = {**TOKEN, "Origin": origin}
        async with guarded.options(PATH, headers=headers) as answer:
            assert answer.status == 204
            told = answer.headers.get("Access-Control-Allow-Origin")
            assert told == (origin if allowed else None)
        async with guarded.get(PATH, headers=headers) as answer:
            assert answer.status == (418 if allowed else 403)
    assert len(worker.requests) == 1


# -- who is down --------------------------------------------------------------------------------


async def test_a_worker_that_is_down_is_503_with_a_time_to_come_back(
    workers: FakeWorkers, client: aiohttp.ClientSession
) -> None:
    workers.all[OWNER].backend = None
    async with client.get(PATH, headers=TOKEN) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "starts again" in (await answer.json())["detail"]


async def test_a_worker_that_has_just_died_is_503_too(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / f"{OWNER}.http").unlink()
    async with client.get(PATH, headers=TOKEN) as answer:
        assert answer.status == 503


async def test_an_answer_that_breaks_off_there_breaks_off_here(
    client: aiohttp.ClientSession,
) -> None:
    async with client.get(PATH + "?mode=half", headers=TOKEN) as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


# -- who is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_who_is_not_known_reaches_no_worker(
    headers: dict[str, str], worker: Worker, client: aiohttp.ClientSession
) -> None:
    for path in (PATH, "/sessions"):
        async with client.post(path, headers=headers) as answer:
            assert answer.status == 401
            assert "detail" in await answer.json()
    assert worker.requests == []


async def test_half_a_request_reaches_no_worker(worker: Worker, door: FrontDoorHttp) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer user\r\n"
    _, writer = await raw(door, f"{head}Content-Length: 99\r\n\r\n{{".encode())
    async with aiohttp.ClientSession(door.url) as client, client.get("/livez") as answer:
        assert answer.status == 200
    assert worker.requests == []
    writer.transport.abort()


async def test_a_body_that_never_ends_is_given_up(
    worker: Worker, door: FrontDoorHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_S", 0.05)
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer user\r\n"
    reader, writer = await raw(door, f"{head}Content-Length: 99\r\n\r\n{{".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    assert worker.requests == []
    writer.close()


async def test_a_body_that_is_too_large_is_refused(
    worker: Worker, client: aiohttp.ClientSession
) -> None:
    async with client.post(PATH, data=b"x" * (MAX_BODY_BYTES + 1), headers=TOKEN) as answer:
        assert answer.status == 413
    assert worker.requests == []


async def test_a_worker_that_nobody_has_is_404(client: aiohttp.ClientSession) -> None:
    for index in ("2", "99999999999999"):
        async with client.put(f"/workers/{index}/uploads/a", data=b"x") as answer:
            assert answer.status == 404


async def test_connections_over_the_limit_are_closed_unheard(
    workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "Connections", partial(Connections, most=1))
    async with opened(workers) as door:
        _, first = await raw(door, b"")
        with suppress(ConnectionResetError):
            reader, _ = await raw(door, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await reader.read() == b""
        first.transport.abort()


async def test_requests_over_the_limit_are_told_to_come_back(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_REQUESTS", 0)
    async with client.get(PATH, headers=TOKEN) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


# -- a flood ------------------------------------------------------------------------------------


NEVER = Rate(1e-9, 1)


async def test_what_is_refused_waits_for_its_turn_and_what_is_good_does_not(
    worker: Worker, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "ANSWERED", NEVER)
    async with opened(workers) as door, aiohttp.ClientSession(door.url) as client:
        refused = [asyncio.create_task(client.get(PATH)) for _ in range(3)]
        await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED)
        async with client.get(PATH, headers=TOKEN) as answer:
            assert answer.status == 418
        async with client.get("/livez") as answer:
            assert answer.status == 200
        assert sum(each.done() for each in refused) == 1
        for each in refused:
            each.cancel()
        await asyncio.gather(*refused, return_exceptions=True)
    assert len(worker.requests) == 1


async def test_when_too_many_wait_to_be_refused_their_connections_are_closed(
    workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "Turns", partial(Turns, most_waiting=0))
    monkeypatch.setattr(http_server, "ANSWERED", NEVER)
    async with opened(workers) as door, aiohttp.ClientSession(door.url) as client:
        async with client.get(PATH) as answer:
            assert answer.status == 401
        with pytest.raises(aiohttp.ClientError):
            await client.get(PATH)


async def test_whoever_is_not_known_reaches_a_worker_in_turn(
    worker: Worker, workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "Turns", partial(Turns, most_waiting=0))
    monkeypatch.setattr(http_server, "UNKNOWN_CALLERS", NEVER)
    async with opened(workers) as door, aiohttp.ClientSession(door.url) as client:
        for headers, status in (({}, 418), ({}, 503), (TOKEN, 418)):
            async with client.get("/schema", headers=headers) as answer:
                assert answer.status == status
    assert len(worker.requests) == 2


async def test_a_wrong_key_reaches_no_worker(worker: Worker, client: aiohttp.ClientSession) -> None:
    for key, status in (("rk_wrong", 401), ("rk_right", 418)):
        async with client.post("/tokens", headers={"Reactor-API-Key": key}) as answer:
            assert answer.status == status
    assert len(worker.requests) == 1


async def test_who_asks_for_health_like_an_attacker_waits_as_well(
    workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "ANSWERED", NEVER)
    monkeypatch.setattr(http_server, "PROBES", Rate(1e-9, 2))
    async with opened(workers) as door, aiohttp.ClientSession(door.url) as client:
        for _ in range(3):
            async with client.get("/livez") as answer:
                assert answer.status == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get("/livez")


async def test_metrics_are_told_only_so_often(
    workers: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "Turns", partial(Turns, most_waiting=0))
    monkeypatch.setattr(http, "SCRAPES", NEVER)
    async with opened(workers) as door, aiohttp.ClientSession(door.url) as client:
        for status in (200, 429):
            async with client.get("/metrics") as answer:
                assert answer.status == status


# -- its own ------------------------------------------------------------------------------------


async def test_preflights_are_answered_at_the_door(
    worker: Worker, client: aiohttp.ClientSession
) -> None:
    async with client.options(PATH) as answer:
        assert answer.status == 204
        assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert worker.requests == []


async def test_it_is_ready_when_all_workers_are(
    workers: FakeWorkers, client: aiohttp.ClientSession
) -> None:
    async with client.get("/readyz") as answer:
        assert answer.status == 200
    workers.are_serving = False
    async with client.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (503, "no model is served yet\n")
    workers.all[1].backend = None
    async with client.get("/readyz") as answer:
        assert await answer.text() == "media workers 1 do not run\n"
    async with client.get("/livez") as answer:
        assert answer.status == 200


async def test_startup_and_draining_are_told_apart_from_life(
    workers: FakeWorkers, client: aiohttp.ClientSession
) -> None:
    async def told() -> list[int]:
        answers = []
        for probe in ("livez", "startupz", "readyz"):
            async with client.get(f"/{probe}") as answer:
                answers.append(answer.status)
        return answers

    assert await told() == [200, 200, 200]
    workers.draining = True
    assert await told() == [200, 200, 503]
    workers.started = False
    assert await told() == [200, 503, 503]


async def test_metrics_are_its_own_and_the_workers(
    workers: FakeWorkers, client: aiohttp.ClientSession
) -> None:
    async with client.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    assert {'fake{worker="0"} 1.0', 'fake{worker="1"} 1.0'} <= set(lines)
    assert any(each.startswith("sana_gateway_front_door_requests_total{") for each in lines)
    workers.all[0].backend = None
    async with client.get("/metrics") as answer:
        assert 'fake{worker="0"} 1.0' not in (await answer.text()).splitlines()
