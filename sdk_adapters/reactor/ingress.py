"""The Reactor wire as an ingress of the gateway."""

from __future__ import annotations

from aiohttp import web

from gateway.ingress import IngressServices
from sdk_adapters.reactor.clips import ClipRoutes
from sdk_adapters.reactor.http_routes import Routes
from sdk_adapters.reactor.local_routes import LocalRoutes
from sdk_adapters.reactor.schema_routes import SchemaRoutes
from sdk_adapters.reactor.sessions import Sessions
from sdk_adapters.reactor.typed_routes import TypedRoutes
from sdk_adapters.reactor.uploads import UploadRoutes


class ReactorIngress:
    """Answers unmodified Reactor clients. Its routes are mounted on the HTTP server."""

    def __init__(self, services: IngressServices) -> None:
        """Prepares the wire.

        Args:
            services: What every wire is made with.
        """
        self._sessions = Sessions(services)
        self._routes = [
            *Routes(services, self._sessions).routes(),
            *LocalRoutes(services, self._sessions).routes(),
            *UploadRoutes(services, self._sessions).routes(),
            *ClipRoutes(services).routes(),
            *TypedRoutes(services, self._sessions).routes(),
            *SchemaRoutes(services).routes(),
        ]

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount on the HTTP server before it starts."""
        return self._routes

    async def start(self) -> None:
        """Begins to watch over its sessions."""
        await self._sessions.start()

    async def stop(self, grace: float = 0.0) -> None:  # noqa: ARG002 - peers do not drain
        """Hangs up on all clients. Repeating it is no error."""
        await self._sessions.stop()
