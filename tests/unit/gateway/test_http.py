"""The HTTP server that the wires share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from gateway import http
from scheduler.core import errors
from tests.fakes.hub import FakeHub, fake_services

pytestmark = pytest.mark.unit


def _all_request_errors() -> set[type[errors.RequestError]]:
    return set(errors.RequestError.__subclasses__())


async def _raise(request: web.Request) -> web.Response:
    kind = request.match_info["kind"]
    if kind == "bug":
        raise RuntimeError("a prompt of somebody")
    if kind == "UnknownModelError":
        raise errors.UnknownModelError(("painter",))
    raise getattr(errors, kind)("why")


async def _echo(request: web.Request) -> web.Response:
    return web.json_response(await http.json_object(request))


async def _base(request: web.Request) -> web.Response:
    return web.Response(text=http.public_base(fake_services(FakeHub()), request))


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("things", "Things.", registry=made).inc()
    return made


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def server(hub: FakeHub, registry: CollectorRegistry) -> AsyncIterator[http.HttpServer]:
    made = http.HttpServer(fake_services(hub), registry=registry)
    made.add_routes(
        [web.get("/raise/{kind}", _raise), web.post("/echo", _echo), web.get("/base", _base)]
    )
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(server: http.HttpServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as made:
        yield made


def test_every_request_error_has_a_status() -> None:
    assert set(http.STATUSES) == _all_request_errors()


@pytest.mark.parametrize("kind", sorted(_all_request_errors(), key=lambda kind: kind.__name__))
async def test_request_errors_become_statuses_with_a_detail(
    client: aiohttp.ClientSession, kind: type[errors.RequestError]
) -> None:
    async with client.get(f"/raise/{kind.__name__}") as response:
        assert response.status == http.STATUSES[kind]
        answer = await response.json()
        assert answer["detail"]
        assert answer["reason"] == kind.reason
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert ("Retry-After" in response.headers) == (response.status in (429, 503))


async def test_our_own_failures_tell_nothing(client: aiohttp.ClientSession) -> None:
    async with client.get("/raise/bug") as response:
        assert response.status == 500
        assert await response.json() == {"detail": "internal error"}
        assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_unknown_paths_and_methods_are_json_too(client: aiohttp.ClientSession) -> None:
    async with client.get("/nowhere") as response:
        assert (response.status, await response.json()) == (404, {"detail": "Not Found"})
    async with client.post("/livez") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "meaning"),
    [(b"", {}), (b"null", {}), (b" \n", {}), (b"{}", {}), (b'{"a": [1]}', {"a": [1]})],
)
async def test_bodies_are_objects(
    client: aiohttp.ClientSession, body: bytes, meaning: object
) -> None:
    async with client.post("/echo", data=body) as response:
        assert (response.status, await response.json()) == (200, meaning)


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b"\xff", b"[" * 100_000])
async def test_other_bodies_are_refused(client: aiohttp.ClientSession, body: bytes) -> None:
    async with client.post("/echo", data=body) as response:
        assert response.status == 400


async def test_bodies_have_a_limit(client: aiohttp.ClientSession) -> None:
    async with client.post("/echo", data=b" " * (http.MAX_BODY_BYTES + 1)) as response:
        assert response.status == 413
        assert "detail" in await response.json()


async def test_it_is_alive_before_it_is_ready(client: aiohttp.ClientSession, hub: FakeHub) -> None:
    for models, ready in (((), 503), (("painter",), 200)):
        hub.models = models
        async with client.get("/livez") as response:
            assert response.status == 200
        async with client.get("/readyz") as response:
            assert response.status == ready


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("text/plain", "text/plain", ""),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_metrics_come_in_the_format_asked_for(
    client: aiohttp.ClientSession, accept: str, content_type: str, end: str
) -> None:
    async with client.get("/metrics", headers={"Accept": accept}) as response:
        text = await response.text()
        assert response.content_type == content_type
        assert "things_total 1.0" in text
        assert text.endswith(end)


async def test_the_page_says_what_this_is(client: aiohttp.ClientSession) -> None:
    async with client.get("/") as response:
        assert response.content_type == "text/html"
        assert "painter" in await response.text()


async def test_the_url_is_the_one_the_caller_asked(
    client: aiohttp.ClientSession, server: http.HttpServer
) -> None:
    async with client.get("/base") as response:
        assert await response.text() == server.url


async def test_the_url_is_known_once_started() -> None:
    server = http.HttpServer(fake_services(FakeHub()))
    with pytest.raises(errors.InvariantError):
        _ = server.url
    await server.stop()
