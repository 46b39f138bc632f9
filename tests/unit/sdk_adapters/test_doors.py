"""Every door, and the scope that it asks for: a new one has to be written down here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import grpc
import pytest

from gateway.auth import MODEL, OPERATOR, SESSION
from gateway.events_http import EventRoutes
from gateway.front_door.routing import METHODS
from gateway.grpc_api.interceptors import _SCOPES
from gateway.http import HttpServer
from gateway.operator_http import OperatorRoutes
from scheduler.core.errors import UnauthenticatedError
from scheduler.core.ids import Principal
from sdk_adapters.reactor.ingress import ReactorIngress
from sdk_adapters.whip.ingress import WhipIngress
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

OPEN: Final = {
    ("GET", "/"),
    ("GET", "/console"),
    ("GET", "/assets/{name}"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/startupz"),
    ("GET", "/metrics"),
    # Tells nothing (RFC 9725, section 4.1).
    ("GET", "/whip/..."),
    ("GET", "/whip/sessions/..."),
    ("GET", "/whep/..."),
    # The address is its own permission.
    ("PUT", "/uploads/..."),
    ("GET", "/clips/..."),
}
"""Doors without a lock."""
BY_KEY: Final = {("POST", "/tokens")}
"""Asks for an API key, and not for a token."""
LOCAL: Final = {("POST", "/start_session"), ("GET", "/session"), ("POST", "/stop_session")}
"""Not there at all where callers are asked who they are."""
FOR_ANY_SCOPE: Final = {("GET", "/schema")}
FOR_BOTH: Final = {("GET", "/events")}
"""For operators all of it, for others that of their sessions. All other doors: session."""
FOR_OPERATORS: Final = "/operator/"
"""How the paths of doors for operators begin."""


class ByName:
    """The token names the scopes."""

    def authenticate(self, token: str | None) -> Principal:
        if token is None:
            raise UnauthenticatedError("no token")
        return Principal("tenant", frozenset(token.split("+")) - {"nothing"})


def shape(path: str) -> str:
    """Returns a path as the tables above have it."""
    if path.startswith(("/whip/sessions", "/whep/", "/whip/", "/uploads/", "/clips/")):
        kept = "/".join(path.split("/")[: 3 if path.startswith("/whip/sessions") else 2])
        return f"{kept}/..."
    return path


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    services = dataclasses.replace(fake_services(FakeHub()), auth=ByName())
    made = HttpServer(services)
    made.add_routes(EventRoutes(services).routes())
    made.add_routes(OperatorRoutes(services).routes())
    for wire in (ReactorIngress(services), WhipIngress(services)):
        made.add_routes(wire.routes())
    await made.start()
    yield made
    await made.stop()


def doors(server: HttpServer) -> list[tuple[str, str, str]]:
    """Returns method, path as in the tables, and a path to ask for."""
    found = []
    for route in server._app.router.routes():
        resource = route.resource
        if resource is None or route.method == "HEAD":
            continue
        path = re.sub(r"\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "s1", resource.canonical)
        found.append((route.method, shape(resource.canonical), path))
    return found


async def test_every_http_door_asks_for_its_scope(server: HttpServer) -> None:
    async with aiohttp.ClientSession(server.url) as http:

        async def status(method: str, path: str, token: str | None) -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            timeout = aiohttp.ClientTimeout(total=20)
            async with http.request(method, path, headers=headers, timeout=timeout) as answer:
                return answer.status

        asked = set()
        for method, door, path in doors(server):
            asked.add((method, door))
            where = f"{method} {door}"
            if (method, door) in OPEN:
                assert await status(method, path, None) not in (401, 403), where
                continue
            assert await status(method, path, None) == 401, where
            if (method, door) in BY_KEY | LOCAL:
                assert await status(method, path, SESSION) == 401, where
                continue
            allowed = {OPERATOR if door.startswith(FOR_OPERATORS) else SESSION}
            allowed |= {MODEL, OPERATOR} if (method, door) in FOR_ANY_SCOPE else set()
            if (method, door) in FOR_BOTH:
                # A stream, which does not end: those who may not are enough.
                allowed |= {OPERATOR}
            for scope in ("nothing", MODEL, SESSION, OPERATOR):
                if scope in allowed and (method, door) in FOR_BOTH:
                    continue
                refused = await status(method, path, scope) == 403
                assert refused is (scope not in allowed), f"{where} with {scope}"
        assert asked >= OPEN | BY_KEY | LOCAL | FOR_ANY_SCOPE | FOR_BOTH


async def test_every_grpc_door_asks_for_its_scope() -> None:
    assert {path.split("/")[1] for path in METHODS} == set(_SCOPES)
    services = dataclasses.replace(fake_services(FakeHub()), auth=ByName())
    refusals = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    async with (
        grpc_gateway(services) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):

        async def code(path: str, scope: str | None) -> grpc.StatusCode:
            metadata = () if scope is None else (("authorization", f"Bearer {scope}"),)
            call = channel.stream_stream(path)(metadata=metadata, timeout=20)
            try:
                # Nothing is sent: only who may not call hears of that first.
                await call.write(b"\xff")
                await call.done_writing()
                await call.read()
            except grpc.aio.AioRpcError:
                pass
            return await call.code()

        for path in METHODS:
            allowed = _SCOPES[path.split("/")[1]]
            assert await code(path, None) is refusals[0], path
            for scope in ("nothing", MODEL, SESSION, OPERATOR):
                told = await code(path, scope)
                assert (told is refusals[1]) is (scope not in allowed), f"{path} with {scope}"


def test_operators_and_users_of_sessions_are_told_apart() -> None:
    assert _SCOPES["sana_gateway.v1.SessionService"] == (SESSION,)
    assert _SCOPES["sana_gateway.v1.PoolService"] == (OPERATOR,)
