"""WHIP, WHEP and commands over HTTP as an ingress of the gateway."""

from __future__ import annotations

from aiohttp import web

from gateway.ingress import IngressServices
from sdk_adapters.whip.commands import CommandRoutes
from sdk_adapters.whip.endpoints import Endpoints
from sdk_adapters.whip.streams import Streams


class WhipIngress:
    """Answers publishers and players of open standards. Its routes are mounted on the HTTP
    server.
    """

    def __init__(self, services: IngressServices) -> None:
        """Prepares the wire.

        Args:
            services: What every wire is made with.
        """
        self._streams = Streams(services)
        self._endpoints = Endpoints(services, self._streams)
        self._routes = [
            *self._endpoints.routes(),
            *CommandRoutes(services, self._streams).routes(),
        ]

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount on the HTTP server before it starts."""
        return self._routes

    async def start(self) -> None:
        """Begins to forget the names of ended sessions."""
        self._streams.start()

    async def stop(self, grace: float = 0.0) -> None:  # noqa: ARG002 - peers do not drain
        """Hangs up on all publishers and players. Repeating it is no error."""
        await self._endpoints.resources.stop()
        await self._streams.stop()
