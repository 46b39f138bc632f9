"""A server with WHIP, WHEP and commands over fakes, for the tests of their routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from gateway.ingress import IngressServices
from sdk_adapters.whip.ingress import WhipIngress
from tests.fakes.hub import FakeHub
from tests.fakes.peers import FakePeers
from tests.unit.sdk_adapters.http_site import serving
from tests.unit.sdk_adapters.whip_offers import OBS

SDP = {"Content-Type": "application/sdp"}
TRICKLE = {"Content-Type": "application/trickle-ice-sdpfrag"}


class Answer:
    """Status, headers and body of a response."""

    def __init__(self, response: aiohttp.ClientResponse, text: str) -> None:
        self.status = response.status
        self.headers = response.headers
        self.links = response.headers.getall("Link", [])
        self.text = text

    @property
    def location(self) -> str:
        return self.headers["Location"]


class WhipSite:
    """A server with the wire mounted, and a client of it."""

    def __init__(
        self,
        services: IngressServices,
        wire: WhipIngress,
        client: aiohttp.ClientSession,
        url: str,
    ) -> None:
        self.wire = wire
        self.hub: FakeHub = services.hub  # type: ignore[assignment]
        self.peers: FakePeers = services.peers  # type: ignore[assignment]
        self.client = client
        self.url = url

    async def ask(
        self, method: str, path: str, body: str | bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        url = path if path.startswith("http") else self.url + path
        async with self.client.request(method, url, data=body, headers=headers) as response:
            return Answer(response, await response.text())

    async def offer(self, path: str, sdp: str, **headers: str) -> Answer:
        return await self.ask("POST", path, sdp, SDP | headers)

    async def publish(self, path: str = "/whip/painter", **headers: str) -> Answer:
        return await self.offer(path, OBS, **headers)


@pytest.fixture
async def serve_whip() -> AsyncIterator[Callable[..., Any]]:
    """Returns a function that serves the wire over fakes."""
    models = ("painter", "reactor/sana-streaming")
    async with serving(WhipIngress, models, WhipSite) as serve:
        yield serve


@pytest.fixture
async def whip(serve_whip: Callable[..., Any]) -> WhipSite:
    made: WhipSite = await serve_whip()
    return made
