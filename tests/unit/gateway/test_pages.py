"""The pages: what they are served with, and how browsers and caches may treat them."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.http import HttpServer
from gateway.ingress import IngressSettings
from gateway.origins import Origins
from gateway.web.pages import DIST, PAGES, Pages
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

SCRIPT = b"export const answer = 42;\n" * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in PAGES.values():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"<!doctype html><title>{name}</title>")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/main-1a2b.js").write_bytes(SCRIPT)
    (tmp_path / "assets/dot-9f.svg").write_bytes(b"<svg/>")
    return tmp_path


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    made = HttpServer(fake_services(FakeHub()), registry=CollectorRegistry())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application()
    app.add_routes(Pages(folder).routes())
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(f"http://{host}:{port}") as made:
        yield made
    await runner.cleanup()


@pytest.mark.parametrize(("path", "name"), list(PAGES.items()))
async def test_a_page_is_asked_for_each_time(
    client: aiohttp.ClientSession, path: str, name: str
) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-cache"
        assert name in await response.text()
        tag = response.headers["ETag"]
    async with client.get(path, headers={"If-None-Match": tag}) as response:
        assert response.status == 304
        assert response.headers["ETag"] == tag
        assert await response.read() == b""
    async with client.get(path, headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


async def test_an_asset_is_kept_for_ever_and_sent_compressed(
    client: aiohttp.ClientSession,
) -> None:
    path = "/assets/main-1a2b.js"
    async with client.get(path, headers={"Accept-Encoding": "gzip, br"}) as response:
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Vary"] == "Accept-Encoding"
        assert int(response.headers["Content-Length"]) == len(gzip.compress(SCRIPT, 9, mtime=0))
        assert await response.read() == SCRIPT
    async with client.get(path, headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.read() == SCRIPT


async def test_what_does_not_shrink_is_sent_as_it_is(client: aiohttp.ClientSession) -> None:
    async with client.get("/assets/dot-9f.svg") as response:
        assert response.headers["Content-Type"] == "image/svg+xml"
        assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize(
    "path",
    ["/assets/other.js", "/assets/", "/assets/..%2findex.html", "/index.html"],
)
async def test_there_is_nothing_else(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 404


async def test_every_file_says_what_a_page_may_do(client: aiohttp.ClientSession) -> None:
    for path in (*PAGES, "/assets/main-1a2b.js"):
        async with client.get(path) as response:
            policy = dict(
                part.split(" ", 1)
                for part in response.headers["Content-Security-Policy"].split("; ")
            )
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert policy["frame-ancestors"] == "'none'"
            assert not re.search(r"unsafe|https?:|\*", " ".join(policy.values()))
            assert "camera=(self)" in response.headers["Permissions-Policy"]
            assert "display-capture=(self)" in response.headers["Permissions-Policy"]
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_uploads_may_go_to_the_public_address(folder: Path) -> None:
    pages = Pages(folder, public_url="https://video.example:8443/base")
    (served, *_) = pages.routes()
    assert isinstance(served, web.RouteDef)
    headers = pages._files["/"].headers
    assert "connect-src 'self' https://video.example:8443;" in headers["Content-Security-Policy"]


async def test_the_server_serves_what_was_built(server: HttpServer) -> None:
    async with aiohttp.ClientSession(server.url) as client:
        for path, name in PAGES.items():
            async with client.get(path) as response:
                page = await response.text()
                assert page == (DIST / name).read_text()
                assert "Accept-Encoding" in response.headers["Vary"]
            for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
                async with client.get(asset) as response:
                    assert (response.status, path) == (200, path)


async def test_a_page_comes_also_where_it_may_not_call() -> None:
    settings = IngressSettings(
        http_address="127.0.0.1:0", origins=Origins.of((), authenticated=False)
    )
    made = HttpServer(fake_services(FakeHub(), settings=settings), registry=CollectorRegistry())
    await made.start()
    elsewhere = {"Origin": "http://studio.example"}
    try:
        async with aiohttp.ClientSession(made.url, headers=elsewhere) as client:
            async with client.get("/") as response:
                page = await response.text()
            (script,) = re.findall(r'<script[^>]* src="([^"]+)"', page)
            async with client.get(script) as response:
                assert response.status == 200
            async with client.get("/anything") as response:
                assert response.status == 403
    finally:
        await made.stop()
