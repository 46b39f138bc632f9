"""The HTTP server that the wires share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from gateway import http
from gateway.ingress import IngressSettings
from gateway.placement import SchedulerAwayError
from scheduler.core import errors
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit


def _all_request_errors() -> set[type[errors.RequestError]]:
    return set(errors.RequestError.__subclasses__())


async def _raise(request: web.Request) -> web.Response:
    kind = request.match_info["kind"]
    if kind == "bug":
        raise RuntimeError("a prompt of somebody")
    if kind == "away":
        raise SchedulerAwayError("the scheduler does not answer: UNAVAILABLE")
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


async def test_the_url_is_the_one_the_caller_asked(
    client: aiohttp.ClientSession, server: http.HttpServer
) -> None:
    async with client.get("/base") as response:
        assert await response.text() == server.url


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "a.example", "X-Forwarded-Proto": "https"}, "https://a.example"),
        ({"Host": "a.example", "X-Forwarded-Host": "b.example"}, "http://b.example"),
        ({"Host": "a.example", "X-Forwarded-Proto": "gopher"}, "http://a.example"),
    ],
)
async def test_the_public_address_is_what_a_proxy_says_it_was_asked_for(
    headers: dict[str, str], base: str, client: aiohttp.ClientSession
) -> None:
    async with client.get("/base", headers=headers) as response:
        assert await response.text() == base


async def test_a_part_of_a_gateway_puts_itself_into_its_addresses() -> None:
    settings = IngressSettings(public_url="https://video.example/", path_prefix="/workers/1")
    services = fake_services(FakeHub(), settings=settings)
    request = make_mocked_request("GET", "/base")
    assert http.public_base(services, request) == "https://video.example/workers/1"


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/http"
    settings = IngressSettings(http_address=address)
    server = http.HttpServer(fake_services(FakeHub(), settings=settings))
    await server.start()
    assert server.url == address
    connector = aiohttp.UnixConnector(str(tmp_path / "http"))
    async with (
        aiohttp.ClientSession("http://worker", connector=connector) as client,
        client.get("/livez") as response,
    ):
        assert response.status == 200
    await server.stop()


async def test_a_client_that_leaves_in_mid_request_and_garbage_are_no_faults_of_ours(
    server: http.HttpServer, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with capture_logs() as logged:
        for data in (
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
            b"\x16\x03" * 9,
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(data)
            writer.write_eof()
            async with client.get("/livez"):
                """Whoever it is has been heard by now."""
            await reader.read()
            writer.transport.abort()
        await server.stop()
    assert [each for each in logged if each["log_level"] in ("error", "warning")] == []
    assert caplog.records == []


async def test_the_url_is_known_once_started() -> None:
    server = http.HttpServer(fake_services(FakeHub()))
    with pytest.raises(errors.InvariantError):
        _ = server.url
    await server.stop()


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": [{"b": ["x\\udc00\\ud800"]}]}',
        b'{"a": "\xed\xa0\x80"}',
    ],
)
async def test_a_string_that_is_no_text_is_refused_wherever_it_is(
    client: aiohttp.ClientSession, body: bytes
) -> None:
    async with client.post("/echo", data=body) as response:
        assert response.status == 400
        assert "not text" in (await response.json())["detail"]
    async with client.post("/echo", data=b'{"a": "\\ud83d\\ude00"}') as response:
        assert await response.json() == {"a": "\N{GRINNING FACE}"}, "a pair is one character"


async def test_a_body_that_never_ends_is_given_up(
    server: http.HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_S", 0.05)
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.transport.abort()


async def test_a_service_whose_scheduler_is_away_says_when_to_come_back(
    client: aiohttp.ClientSession,
) -> None:
    async with client.get("/raise/away") as response:
        assert response.status == 503
        assert response.headers["Retry-After"]
        assert (await response.json())["reason"] == errors.NoCapacityError.reason
