"""What every HTTP request passes before its handler: origin, rates, and what its token needs.

Nothing of a body is read here, so a flood costs a look into a table for each request.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import auth
from gateway.ingress import IngressServices
from gateway.limits.addresses import client_address
from gateway.limits.buckets import Rate
from gateway.limits.calls import CallRates
from gateway.limits.settings import http_deed
from gateway.limits.turns import Turns, turn
from gateway.origins import Origins
from gateway.web.pages import is_page
from scheduler.core.errors import ForbiddenError, RequestError, UnauthenticatedError

UNCOUNTED: Final = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""Paths that whoever watches over the service asks for, however often."""

REFUSED: Final = Rate(500.0, 2)
"""Requests that are refused in a second; others wait for it, as the loop plays video, too."""


def address_of(request: web.BaseRequest, rates: CallRates) -> str:
    """Returns the address that a request is counted for."""
    said = request.headers.getall("X-Forwarded-For", [])
    return client_address(request.remote, said, rates.proxies)


def check_origin(origins: Origins, request: web.BaseRequest) -> None:
    """Passes a request that no page makes which may not call.

    Raises:
        ForbiddenError: One does.
    """
    if not origins.admits(request.headers.get("Origin"), request.host):
        raise ForbiddenError("pages of this origin may not call; see --cors-origins")


def cors(origins: Origins, request: web.BaseRequest) -> dict[str, str]:
    """Returns what the answer to a request tells browsers."""
    return origins.headers(request.headers.get("Origin"), request.host)


def tell(origins: Origins, request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Adds that to an answer; what else it varies with stays said."""
    told = cors(origins, request)
    if "Vary" in told and (own := response.headers.get("Vary")):
        told["Vary"] = f"{own}, {told['Vary']}"
    response.headers.update(told)


def preflight(origins: Origins, request: web.BaseRequest) -> web.Response:
    """Returns the answer to an OPTIONS request, which is for nobody but browsers."""
    origin = request.headers.get("Origin")
    headers = origins.preflight(request.path, origin, request.host)
    return web.Response(status=204, headers=headers)


class Screen:
    """The middlewares of a server that wires share."""

    def __init__(self, services: IngressServices) -> None:
        """Prepares them.

        Args:
            services: Who calls, how often they may, and from where.
        """
        self._auth = services.auth
        self._rates = services.rates
        self._origins = services.settings.origins
        self._refusals = Turns(REFUSED)

    def let_in(self, origins: Origins) -> None:
        """Changes which web pages may call."""
        self._origins = origins

    @web.middleware
    async def answer_browsers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers every OPTIONS itself: browsers ask before they authenticate."""
        if request.method == "OPTIONS":
            return preflight(self._origins, request)
        return await handler(request)

    @web.middleware
    async def screen(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what is not to be looked at, and counts wrong credentials."""
        if request.path in UNCOUNTED:
            return await handler(request)
        try:
            return await self._screened(request, handler)
        except (RequestError, web.HTTPClientError):
            if not await turn(self._refusals) and request.transport is not None:
                request.transport.abort()
            raise

    async def _screened(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_page(request.path):
            check_origin(self._origins, request)
        address = ""
        if self._rates is not None:
            address = address_of(request, self._rates)
            self._rates.admit(address)
            if http_deed(request.method, request.path) == "exchange":
                self._rates.count_address("exchange", address)
        await auth.prepare(self._auth, auth.bearer_token(request.headers.get("Authorization")))
        try:
            return await handler(request)
        except UnauthenticatedError:
            if self._rates is not None:
                self._rates.failed(address)
            raise

    async def tell_browsers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Adds what every answer tells browsers."""
        tell(self._origins, request, response)
