"""Keys and tokens over real HTTP and gRPC servers: every route asks who calls."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import yaml
from aiohttp import web

from gateway.auth.api_key import ApiKeyAuth
from gateway.auth.key_file import digest_of
from gateway.http import HttpServer
from sana_gateway.v1 import pool_pb2_grpc, session_pb2_grpc
from sdk_adapters.reactor.ingress import ReactorIngress
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.integration

KEY = "rk_of_the_web"
OPEN = {"/", "/livez", "/readyz", "/metrics", "/tokens"}
"""Paths that ask nobody."""
OWN_PERMISSION = {"/uploads/{capability}"}
"""Their addresses are unguessable and made for one purpose."""


@dataclass
class Site:
    http: aiohttp.ClientSession
    grpc_address: str
    routes: list[tuple[str, str]]
    file: Path


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    file, secret = tmp_path / "keys.yaml", tmp_path / "secret"
    entry = {"id": "web", "sha256": digest_of(KEY), "tenant": "acme"}
    file.write_text(yaml.safe_dump({"keys": [entry]}))
    secret.write_text("s" * 40)
    auth = ApiKeyAuth(str(file), str(secret))
    services = replace(fake_services(FakeHub()), auth=auth)
    wire, server = ReactorIngress(services), HttpServer(services)
    routes = [each for each in wire.routes() if isinstance(each, web.RouteDef)]
    server.add_routes(wire.routes())
    await wire.start()
    await server.start()
    async with aiohttp.ClientSession(server.url) as http, grpc_gateway(services) as address:
        yield Site(http, address, [(each.method, each.path) for each in routes], file)
    await wire.stop()
    await server.stop()


async def mint(site: Site, body: Any = None, key: str | None = KEY) -> tuple[int, dict[str, Any]]:
    headers = {"Reactor-API-Key": key} if key is not None else {}
    async with site.http.post("/tokens", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    "shown", [None, "local", KEY, "rk_wrong", "a.b.c", "schlüssel", "x" * 7000]
)
async def test_no_route_answers_who_shows_nothing_good(site: Site, shown: str | None) -> None:
    headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
    asked = 0
    for method, pattern in site.routes:
        if pattern in OPEN | OWN_PERMISSION or pattern.startswith("/clips/"):
            continue
        path = pattern.replace("{session_id}", "s1").replace("{connection_id}", "1002")
        async with site.http.request(method, path, headers=headers, json={}) as answer:
            assert answer.status == 401, (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert (await answer.json())["reason"] == "UNAUTHENTICATED"
        asked += 1
    assert asked > 15


async def test_a_preflight_needs_no_token(site: Site) -> None:
    async with site.http.options("/sessions") as answer:
        assert answer.status == 204
        allowed = answer.headers["Access-Control-Allow-Headers"]
    assert "authorization" in allowed
    assert "reactor-api-key" in allowed


async def test_no_method_answers_who_shows_nothing_good(site: Site) -> None:
    stubs = (session_pb2_grpc.SessionServiceStub, pool_pb2_grpc.PoolServiceStub)
    async with grpc.aio.insecure_channel(site.grpc_address) as channel:
        asked = 0
        for stub in stubs:
            for call in vars(stub(channel)).values():  # type: ignore[arg-type]
                path = call._method.decode()
                for metadata in (
                    (),
                    (("x-api-key", "rk_wrong"),),
                    (("authorization", "Bearer x"),),
                ):
                    raw = channel.unary_unary(path)
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await raw(b"", metadata=metadata)
                    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, path
                    asked += 1
    assert asked > 30


@pytest.mark.parametrize("key", [None, "", "rk_wrong", KEY + "x"])
async def test_a_wrong_key_gets_no_token(site: Site, key: str | None) -> None:
    status, told = await mint(site, key=key)
    assert status == 401
    assert not key or key not in str(told)


@pytest.mark.parametrize("body", [None, {}, {"expires_after": 60}, {"unknown": 1}])
async def test_a_key_gets_a_token_that_opens(site: Site, body: object) -> None:
    status, told = await mint(site, body)
    assert status == 200
    assert told["expires_at"] - time.time() < 6 * 3600 + 1
    headers = {"Authorization": f"Bearer {told['jwt']}"}
    wanted = {"model": {"name": "painter"}}
    async with site.http.post("/sessions", json=wanted, headers=headers) as answer:
        assert answer.status == 201


async def test_a_longer_life_is_cut(site: Site) -> None:
    _, told = await mint(site, {"expires_after": 10**12})
    assert told["expires_at"] - time.time() < 6 * 3600 + 1


@pytest.mark.parametrize(
    "body",
    [
        {"expires_after": 0},
        {"expires_after": "long"},
        {"authorization_details": {}},
        {"authorization_details": [{"type": "session", "constraints": {"max_sessions": -1}}]},
        {"authorization_details": [{"type": "session", "resources": {"models": {"match": 5}}}]},
        [],
        "text",
    ],
)
async def test_a_senseless_wish_gets_no_token_and_is_no_fault(site: Site, body: object) -> None:
    status, told = await mint(site, body)
    assert status == 400
    assert told["reason"] == "BAD_ARGUMENT"


async def test_a_scope_that_a_token_lacks_is_refused(site: Site) -> None:
    _, told = await mint(site, {"authorization_details": [{"type": "operator"}]})
    headers = {"Authorization": f"Bearer {told['jwt']}"}
    async with site.http.get("/sessions/s1", headers=headers) as answer:
        assert answer.status == 403
        assert (await answer.json())["reason"] == "FORBIDDEN"
