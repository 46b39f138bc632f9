"""The route of a model's schema, for whoever has no session yet: generators, and people."""

from __future__ import annotations

from aiohttp import web

from gateway import auth, http
from gateway.ingress import IngressServices
from scheduler.core.errors import NoCapacityError, UnknownModelError
from sdk_adapters.reactor import openapi
from sdk_adapters.reactor.http_routes import check_version


class SchemaRoutes:
    """The handler of the route."""

    def __init__(self, services: IngressServices) -> None:
        """Prepares the handler.

        Args:
            services: The hub and who calls.
        """
        self._services = services

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns what to mount."""
        return [web.get("/schema", self._schema)]

    async def _schema(self, request: web.Request) -> web.Response:
        """Answers with the schema of `?model=`, by default of the first that is served."""
        check_version(request)
        http.caller(self._services, request, auth.MODEL)
        hub = self._services.hub
        served = tuple(hub.served_models())
        model = request.query.get("model") or next(iter(served), "")
        if model not in served:
            raise UnknownModelError(served)
        if (described := hub.capabilities(model)) is None:
            raise NoCapacityError("no actor has this model just now")
        return web.json_response(openapi.document(model, described))
