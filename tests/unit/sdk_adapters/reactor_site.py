"""A server with the Reactor wire over fakes, for the tests of its routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from gateway.ingress import IngressServices
from scheduler.core.errors import UnauthenticatedError
from scheduler.core.ids import Principal
from sdk_adapters.reactor.ingress import ReactorIngress
from tests.fakes.hub import FakeHub
from tests.fakes.peers import FakePeer, FakePeers
from tests.unit.sdk_adapters.http_site import serving

JS = {"sdk_type": "js", "sdk_version": "2.12.3"}
OFFER = {
    "sdp_offer": "first",
    "client_info": JS,
    "track_mapping": [
        {"mid": "0", "name": "camera", "kind": "video", "direction": "sendonly"},
        {"mid": "1", "name": "main_video", "kind": "video", "direction": "recvonly"},
    ],
}


class KeyAuth:
    """Two tenants and an operator who may not use sessions."""

    def authenticate(self, token: str | None) -> Principal:
        tenants = {"a": {"session"}, "b": {"session"}, "o": {"operator"}}
        if token not in tenants:
            raise UnauthenticatedError("wrong token")
        return Principal(token or "", frozenset(tenants[token or ""]))


class SlowPeers(FakePeers):
    """Answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def answer(self, *args: Any, **kwargs: Any) -> tuple[FakePeer, str]:
        self.asked.set()
        await self.go.wait()
        return await super().answer(*args, **kwargs)


class Site:
    """A server with the wire mounted, and a client of it."""

    def __init__(
        self, services: IngressServices, _: ReactorIngress, client: aiohttp.ClientSession, url: str
    ) -> None:
        self.services = services
        self.hub: FakeHub = services.hub  # type: ignore[assignment]
        self.peers: FakePeers = services.peers  # type: ignore[assignment]
        self.client = client
        self.url = url
        self.headers: dict[str, str] = {}

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Returns status and JSON body; `self.headers` holds the response's headers then."""
        url = path if path.startswith("http") else self.url + path
        data: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.client.request(
            method, url, headers={key.replace("_", "-"): it for key, it in headers.items()}, **data
        ) as response:
            self.headers = dict(response.headers)
            has_body = response.content_type == "application/json"
            return response.status, await response.json() if has_body else await response.text()

    async def session(self, **headers: str) -> str:
        _, created = await self.ask("POST", "/sessions", {"model": {"name": "painter"}}, **headers)
        return f"/sessions/{created['session_id']}"

    async def connection(self) -> str:
        """Makes a session and a connection; returns the path of the connection."""
        transport = await self.session() + "/transport/webrtc"
        _, made = await self.ask("POST", transport + "/connections")
        return f"{transport}/connections/{made['connection_id']}"


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Returns a function that serves a wire over fakes."""
    async with serving(ReactorIngress, ("painter",), Site) as make:
        yield make


@pytest.fixture
async def site(serve: Callable[..., Any]) -> Site:
    made: Site = await serve()
    return made
