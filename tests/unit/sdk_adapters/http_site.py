"""A wire of the HTTP server over fakes, served for the tests of its routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp

from gateway.auth import NoAuth
from gateway.http import HttpServer
from gateway.ingress import IngressServices, IngressSettings
from tests.fakes.hub import FakeHub
from tests.fakes.operations import FakeOperations
from tests.fakes.peers import FakePeers
from tests.fakes.uploads import FakeUploads

SiteT = TypeVar("SiteT")
Serve = Callable[..., Awaitable[SiteT]]


@asynccontextmanager
async def serving(
    ingress: Callable[[IngressServices], Any],
    models: tuple[str, ...],
    site: Callable[[IngressServices, Any, aiohttp.ClientSession, str], SiteT],
) -> AsyncIterator[Serve[SiteT]]:
    """Gives a function that serves a wire; ends all that were served.

    Args:
        ingress: Makes the wire.
        models: What the hub serves, where the test brings none of its own.
        site: Made of the services, the wire, a client and the URL.
    """
    running: list[Any] = []

    async def make(
        hub: FakeHub | None = None,
        peers: FakePeers | None = None,
        auth: Any = None,
        **settings: Any,
    ) -> SiteT:
        services = IngressServices(
            hub=hub or FakeHub(models),
            uploads=FakeUploads(),
            auth=auth or NoAuth(),
            peers=peers or FakePeers(),
            pool=None,  # type: ignore[arg-type]
            drain=None,  # type: ignore[arg-type]
            operations=FakeOperations(),
            settings=IngressSettings(http_address="127.0.0.1:0", **settings),
        )
        http, wire = HttpServer(services), ingress(services)
        http.add_routes(wire.routes())
        await wire.start()
        await http.start()
        client = aiohttp.ClientSession()
        running.extend([client.close, wire.stop, http.stop])
        return site(services, wire, client, http.url)

    yield make
    for stop in running:
        await stop()
