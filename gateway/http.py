"""The HTTP server that the wires over HTTP share.

It answers what is nobody's own (`/livez`, `/readyz`, `/metrics`, the pages) and does for all
routes what each would else do for itself: CORS, errors as `{"detail": ...}`, sizes,
measurements. A wire mounts its routes before `start`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import time
from collections.abc import Iterable
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry import propagate, trace
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.registry import REGISTRY

from gateway import auth
from gateway.doors import Doors
from gateway.ingress import IngressServices
from gateway.limits.buckets import Rate
from gateway.limits.connections import Connections
from gateway.limits.settings import http_deed
from gateway.limits.turns import Turns, turn
from gateway.origins import Origins
from gateway.placement import SchedulerAwayError
from gateway.readiness import Readiness
from gateway.screening import Screen
from gateway.web.pages import ASSETS, PAGES, Pages
from scheduler.core import errors
from scheduler.core.ids import Principal
from scheduler.process.exposition import exposition
from scheduler.process.instruments import exemplar

_log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 128 * 1024
"""Largest body that is read as a whole. An SDP offer has about 10 kB; uploads stream."""
BODY_S: Final = 10.0
"""How long such a body may take."""

IDLE_S: Final = 30.0
"""How long a connection may take to its first request, and from an answer to the next."""

CONNECTED: Final = Rate(1000.0, 1)
"""Connections that are taken in a second; others wait. The loop that takes them plays video."""
SCRAPES: Final = Rate(5.0, 20)
"""Metrics that are told in a second, to all: they cost much."""

STATUSES: Final[dict[type[errors.RequestError], int]] = {
    errors.UnknownSessionError: 404,
    errors.UnknownModelError: 404,
    errors.NoCapacityError: 503,
    errors.BadArgumentError: 400,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    # Reactor clients take 400 from a session's routes as "this session is over".
    errors.SessionClosedError: 400,
    errors.NotReadyError: 409,
    errors.UnknownUploadError: 404,
    errors.BadUploadError: 400,
    errors.PublisherTakenError: 409,
    errors.BadOfferError: 422,
    errors.LimitError: 429,
    errors.CommandRefusedError: 409,
}
"""HTTP status of every error that a caller can meet."""

RETRY_AFTER_S: Final = {429: 5.0, 503: 5.0}
"""What `Retry-After` says, where the error does not know better."""

SHUTDOWN_TIMEOUT_S: Final = 2.0
"""How long requests under way may take when a server stops."""

QUIET: Final = logging.getLogger("gateway.http.quiet")
"""Where aiohttp reports what it could not parse: nowhere, or whoever sends garbage fills the
log. What goes wrong on our side is logged here."""
QUIET.setLevel(logging.CRITICAL + 1)

UNKNOWN: Final = "unknown"
"""Stands for the route of a path that has none."""
UNTRACED: Final = frozenset(
    {"/livez", "/readyz", "/startupz", "/metrics", UNKNOWN, *PAGES, ASSETS + "{name}"}
)
"""Routes that make no spans: they are asked every few seconds or by mistake, or serve files."""
TRACER: Final = trace.get_tracer("sana_gateway.gateway")

_SECONDS = Histogram(
    "sana_gateway_http_request_seconds",
    "Time to answer an HTTP request.",
    ("route", "method", "status"),
    buckets=(0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0),
)


class HttpServer:
    """Listens on `settings.http_address` and serves every wire over HTTP."""

    def __init__(
        self, services: IngressServices, *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Prepares the server.

        Args:
            services: They tell whether the gateway is ready, and where to listen.
            registry: What `/metrics` shows.
        """
        self._services = services
        self._registry = registry
        hub = services.hub
        self._readiness = services.readiness or Readiness(hub.served_models, started=True)
        screen = self._screen = Screen(services)
        self._app = web.Application(
            middlewares=[_measured, screen.answer_browsers, _errors_as_json, screen.screen],
            client_max_size=MAX_BODY_BYTES,
        )
        self._app.on_response_prepare.append(screen.tell_browsers)
        self._scrapes = Turns(SCRAPES)
        self._runner: web.AppRunner | None = None
        self._url: str | None = None
        self.add_routes(
            [
                *Pages(public_url=services.settings.public_url).routes(),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/startupz", self._startupz),
                web.get("/metrics", self._metrics),
            ]
        )

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash. Known once started.

        Raises:
            InvariantError: It has not been started.
        """
        if self._url is None:
            raise errors.InvariantError("the HTTP server has not been started")
        return self._url

    def add_routes(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        """Mounts routes of a wire. Only before `start`."""
        self._app.add_routes(routes)

    def let_in(self, origins: Origins) -> None:
        """Changes which web pages may call."""
        self._screen.let_in(origins)

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            ConfigurationError: The address cannot be listened on.
        """
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            logger=QUIET,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            keepalive_timeout=IDLE_S,
        )
        services, connections = self._services, Connections(self._services.rates)
        self._url = await listen(
            self._runner, services.settings.http_address, services.doors, connections, CONNECTED
        )

    async def stop(self) -> None:
        """Stops listening; requests under way get two seconds. Repeating it is no error."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        return verdict(self._readiness.why_not_ready)

    async def _startupz(self, _: web.Request) -> web.Response:
        return verdict(self._readiness.why_not_started)

    async def _metrics(self, request: web.Request) -> web.Response:
        await scraped(self._scrapes)
        accept = request.headers.get("Accept", "")
        body, content_type = await exposition(self._registry, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})


async def scraped(turns: Turns) -> None:
    """Returns when metrics may be told once more.

    Raises:
        LimitError: Too many wait for them already.
    """
    if not await turn(turns):
        raise errors.LimitError("metrics are asked for too often", retry_after_s=1.0)


def verdict(why_not: str) -> web.Response:
    """Returns the answer to a probe.

    Args:
        why_not: What is wrong, for people; empty: nothing.
    """
    return web.Response(status=503 if why_not else 200, text=f"{why_not or 'ok'}\n")


async def listen(
    runner: web.BaseRunner, address: str, doors: Doors, connections: Connections, rate: Rate
) -> str:
    """Sets a runner up and lets it listen.

    Args:
        runner: The server.
        address: `host:port`, where port 0 takes a free one, or `unix:/path`.
        doors: What it shows on `host:port`.
        connections: Decides which connections it takes there.
        rate: How many of them a second.

    Returns:
        The URL of `host:port` with the real port, without a trailing slash; `unix:/path` as it is.

    Raises:
        ConfigurationError: The address cannot be listened on.
    """
    await runner.setup()
    path = address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    site: web.BaseSite
    if path != address:
        site = web.UnixSite(runner, path)
    else:
        where = host.strip("[]") or None, int(port)
        site = doors.site(runner, *where, connections, rate)
    try:
        await site.start()
    except OSError as error:
        # asyncio words it with the address once more; a resolver has numbers of its own.
        known = error.errno in errno.errorcode
        reason = os.strerror(error.errno or 0) if known else error.strerror
        raise errors.ConfigurationError(f"HTTP cannot listen on {address}: {reason}") from error
    url = address if path != address else _url(doors.scheme, runner.addresses[0])
    _log.info("http.listening", url=url)
    return url


def _url(scheme: str, bound: Any) -> str:  # noqa: ANN401 - as sockets give it
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return f"{scheme}://{shown}:{bound[1]}"


def caller(services: IngressServices, request: web.Request, *scopes: str) -> Principal:
    """Returns who makes a request.

    Args:
        services: Knows callers.
        request: The request.
        scopes: The caller needs one of these; without any, `session`.

    Raises:
        UnauthenticatedError: The token is missing, wrong or expired.
        ForbiddenError: It lacks the scope.
        LimitError: The caller has done this too often.
    """
    token = auth.bearer_token(request.headers.get("Authorization"))
    principal = services.auth.authenticate(token)
    try:
        auth.require_any(principal, scopes or (auth.SESSION,))
    except errors.ForbiddenError as error:
        if scopes == (auth.OPERATOR,):
            called = f"{request.method} {_route(request)}"
            services.audit.record(principal, "denied", called, f"refused:{error.reason}")
        raise
    if services.rates is not None:
        services.rates.count(http_deed(request.method, request.path), principal)
    return principal


async def json_object(request: web.Request) -> dict[str, Any]:
    """Returns the JSON object that a request carries; an absent body or `null` is an empty one.

    All of its strings are text that can be written as UTF-8. JSON can say others (RFC 8259,
    section 8.2); no wire of ours can carry them.

    Raises:
        BadArgumentError: The body is something else.
        HTTPRequestTimeout: It does not come to its end.
    """
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise errors.BadArgumentError("the body has a string that is not text") from None
    except (ValueError, RecursionError):
        raise errors.BadArgumentError("the body is not JSON") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.BadArgumentError("the body is not a JSON object")
    return value


def public_base(services: IngressServices, request: web.Request) -> str:
    """Returns the URL under which the caller reaches this process, without a trailing slash.

    A proxy that ends TLS says in `X-Forwarded-Proto` and `X-Forwarded-Host` what the client
    asked for. Whoever makes these up deceives nobody but himself.
    """
    settings = services.settings
    base = settings.public_url
    if not base:
        said = request.headers.get("X-Forwarded-Proto", "")
        scheme = said if said in ("http", "https") else request.scheme
        base = f"{scheme}://{request.headers.get('X-Forwarded-Host', request.host)}"
    return base.rstrip("/") + settings.path_prefix


def refusal(error: errors.RequestError) -> web.Response:
    """Returns the response that says why a request was refused."""
    status = STATUSES.get(type(error), 400)
    retry_after_s = error.retry_after_s
    if retry_after_s is None:
        retry_after_s = RETRY_AFTER_S.get(status)
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    body: dict[str, object] = {"detail": str(error), "reason": error.reason}
    if status == 401:
        # RFC 9110, section 11.6.1: what to come with.
        headers["WWW-Authenticate"] = 'Bearer realm="sana-gateway"'
    if isinstance(error, errors.UnknownModelError):
        body["served_models"] = list(error.served)
    if isinstance(error, errors.LimitError) and error.quota:
        body["quota"] = error.quota
    return web.json_response(body, status=status, headers=headers)


def _route(request: web.Request) -> str:
    """Returns the pattern that a request's path fits: the path itself holds ids."""
    resource = request.match_info.route.resource
    return UNKNOWN if resource is None else resource.canonical


@web.middleware
async def _measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Measures and traces every answer, under the route's pattern and not its path."""
    began = time.perf_counter()
    route = _route(request)
    method = request.method if route != UNKNOWN else "any"
    if route in UNTRACED:
        response, trace_id = await handler(request), None
    else:
        with TRACER.start_as_current_span(
            "gateway.http",
            context=propagate.extract(request.headers),
            kind=trace.SpanKind.SERVER,
            attributes={"http.route": route, "http.request.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            trace_id = exemplar()
    labels = (route, method, str(response.status))
    _SECONDS.labels(*labels).observe(time.perf_counter() - began, trace_id)
    return response


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns exceptions into answers."""
    try:
        return await handler(request)
    except errors.RequestError as error:
        return refusal(error)
    except SchedulerAwayError:
        return refusal(errors.NoCapacityError("the service is starting; try again"))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.json_response({"detail": error.reason}, status=error.status, headers=headers)
    except web.RequestPayloadError:
        return web.json_response({"detail": "the body is not what its headers say"}, status=400)
    except Exception:
        if request.transport is None:
            # The client left in the middle; nobody reads this.
            return web.Response(status=400)
        _log.exception("http.failed", method=request.method)
        return web.json_response({"detail": "internal error"}, status=500)
